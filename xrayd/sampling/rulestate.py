"""What the broker knows of one rule besides the rule: its clients, its quota, its counts."""

from __future__ import annotations

from msgspec import UNSET, Struct

from xrayd.sampling.report import Statistics, Target
from xrayd.sampling.rule import SamplingRule
from xrayd.sampling.shares import ClientShare, Shares
from xrayd.sampling.upstream import Grant
from xrayd.sampling.windows import Counts

INTERVAL_S = 10
"""Seconds between reports, of clients to us and of us to AWS, unless AWS says otherwise."""


class RuleStatistics(Struct, frozen=True):
    """One rule as it stands, for display.

    Attributes:
        rule_name: the rule.
        priority: order of trial, lowest first.
        fixed_rate: the rate in force, 0 to 1: AWS's last target, else the rule's own.
        reservoir_size: requests a second in the rule.
        quota: requests a second granted to this daemon's clients together; None: none in force.
        quota_ttl: epoch seconds, the last second in which it counts; None without a quota.
        handed_out: of the quota, what clients hold.
        requests: requests that matched since start.
        sampled: of these, sampled (clients differ in whether borrowed ones are included).
        borrowed: of these, sampled on borrowed reservoir.
        refused: requests in statistics that AWS refused for good.
        clients: clients that reported the rule within three intervals.
        last_seen: epoch seconds of the last report; None: never.
    """

    rule_name: str
    priority: int
    fixed_rate: float
    reservoir_size: int
    quota: int | None
    quota_ttl: int | None
    handed_out: int
    requests: int
    sampled: int
    borrowed: int
    refused: int
    clients: int
    last_seen: float | None


class RuleState:
    """One rule at work.

    Attributes:
        rule: its definition.
        grant: AWS's last answer for it.
        refused: requests in statistics that AWS refused for good.
        last_seen: epoch seconds of the last report.
    """

    __slots__ = ("_shares", "_told", "_untold", "grant", "last_seen", "refused", "rule")

    def __init__(self, rule: SamplingRule) -> None:
        self.rule = rule
        self.grant: Grant | None = None
        self._told = Counts()
        self._untold: Counts | None = None
        self.refused = 0
        self.last_seen: float | None = None
        self._shares = Shares()

    @property
    def interval_s(self) -> int:
        """Seconds between reports of this rule."""
        return INTERVAL_S if self.grant is None else self.grant.interval

    def follow(self, rule: SamplingRule) -> None:
        """Take over a changed definition; a changed rate holds until AWS answers anew."""
        grant = self.grant
        if grant is not None and rule.fixed_rate != self.rule.fixed_rate:
            self.grant = Grant(rule.fixed_rate, grant.quota, grant.ttl, grant.interval, grant.boost)
        self.rule = rule

    def exchange(
        self, row: Statistics, grant: Grant | None, now: float, *, with_boost: bool
    ) -> Target | None:
        """Count what a client reports of the rule, and say what it is told about it.

        Args:
            row: the client's counts since its last report.
            grant: what there is to share out.
            now: epoch seconds.
            with_boost: whether it knows adaptive sampling.

        Returns:
            None where nothing is granted that still holds: the client keeps what it has, and
            borrows. A target without a quota would make the OpenTelemetry samplers stop borrowing.
        """
        self.last_seen = now
        if self._untold is None:
            self._untold = Counts()
        self._untold.add(row)
        interval_s = INTERVAL_S if grant is None else grant.interval
        client_id = row.client_id
        self._shares.note(client_id, row.requests, interval_s, now)
        if grant is None:
            return None
        share = None
        if grant.quota is not None:
            if now >= grant.ttl + 1:  # clients compare whole seconds
                return None
            share = self._shares.hand_out(client_id, grant.quota, grant.ttl, interval_s, now)
        return Target(
            rule_name=row.rule_name,
            fixed_rate=grant.fixed_rate,
            reservoir_quota=UNSET if share is None else share,
            reservoir_quota_ttl=UNSET if share is None else grant.ttl,
            interval=grant.interval,
            sampling_boost=grant.boost if with_boost and grant.boost is not None else UNSET,
        )

    def take_untold(self) -> Counts | None:
        """What clients reported since this was last asked; None if none reported the rule."""
        untold, self._untold = self._untold, None
        if untold is not None:
            self._told.add(untold)
        return untold

    def clients(self, now: float) -> list[str]:
        """The clients that reported the rule within three intervals."""
        return self._shares.clients(self.interval_s, now)

    def shares(self, most: int, now: float) -> list[ClientShare]:
        """What the live clients with the most requests have, at most so many."""
        return self._shares.largest(most, self.interval_s, now)

    def statistics(self, grant: Grant | None, now: float) -> RuleStatistics:
        """The rule as it stands under a grant."""
        rule = self.rule
        untold = self._untold or Counts()
        has_quota = grant is not None and grant.quota is not None and grant.ttl >= int(now)
        return RuleStatistics(
            rule_name=rule.rule_name,
            priority=rule.priority,
            fixed_rate=rule.fixed_rate if grant is None else grant.fixed_rate,
            reservoir_size=rule.reservoir_size,
            quota=grant.quota if grant is not None and has_quota else None,
            quota_ttl=grant.ttl if grant is not None and has_quota else None,
            handed_out=self._shares.held(now),
            requests=self._told.requests + untold.requests,
            sampled=self._told.sampled + untold.sampled,
            borrowed=self._told.borrowed + untold.borrowed,
            refused=self.refused,
            clients=self._shares.alive(self.interval_s, now),
            last_seen=self.last_seen,
        )
