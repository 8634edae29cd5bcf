"""What the broker knows of one rule besides the rule: its counts, its clients, and what each of
them holds of its quota.

What is granted is never handed out twice: a share stays accounted until its TTL ends or its holder
reports again, whatever happened to the holder meanwhile.
"""

from __future__ import annotations

import math

from msgspec import UNSET, Struct

from xrayd.sampling.report import Statistics, Target
from xrayd.sampling.rule import SamplingRule
from xrayd.sampling.shares import (
    INTERVAL_S,
    LIVE_INTERVALS,
    ClientShare,
    Holder,
    split_quota,
)
from xrayd.sampling.upstream import Grant
from xrayd.sampling.windows import Counts

HOLDERS_MAX = 5_000
"""Clients per rule that can hold a share. A local daemon sees a few hundred; more are counted but
get no quota.
"""

_SPLIT_FOR_S = 1.0
_SPLIT_FOR_EACH_S = 0.05
"""How long a computed split serves: a second, and so much for each client where there are many, up
to an interval between their reports (200 clients). So its cost does not grow with them.
"""

_FORGET_AFTER_S = 3_600
"""An ended share is kept in mind so long, in case the clock steps back to where it counts again."""


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

    __slots__ = (
        *("_cleared_at", "_held", "_holders", "_told", "_untold"),
        *("_split_among", "_split_at", "_split_quota", "_split_until"),
        *("grant", "last_seen", "refused", "rule"),
    )

    def __init__(self, rule: SamplingRule) -> None:
        self.rule = rule
        self.grant: Grant | None = None
        self.refused = 0
        self.last_seen: float | None = None
        self._told = Counts()
        self._untold: Counts | None = None
        self._holders: dict[str, Holder] = {}
        self._held = 0
        self._split_among = 0
        self._split_at = -math.inf
        self._split_until = -math.inf
        self._split_quota = -1
        self._cleared_at = -math.inf

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

    def exchange(  # noqa: PLR0912 - one piece, for it is done for every row of every report
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
            With a grant, the quota is left out where nothing is free for a client that holds
            nothing and should have something: so it borrows until the others have reported and
            given up theirs.
        """
        self.last_seen = now
        untold = self._untold
        if untold is None:
            untold = self._untold = Counts()
        untold.requests += row.requests
        untold.sampled += row.sampled
        untold.borrowed += row.borrowed

        interval_s = INTERVAL_S if grant is None else grant.interval
        holder = self._holders.get(row.client_id)
        if holder is None:
            holder = self._seat(row, interval_s, now)
        else:
            elapsed = now - holder.seen_at
            if elapsed < 1.0:
                elapsed = 1.0
            elif elapsed > LIVE_INTERVALS * interval_s:
                elapsed = LIVE_INTERVALS * interval_s
            rate, had = row.requests / elapsed, holder.rate
            # Up at once, down by halves: a pause of one interval does not cost a client its share.
            holder.rate = rate if rate > had else (rate + had) / 2
            holder.seen_at = now

        if grant is None:
            return None
        boost = grant.boost if with_boost and grant.boost is not None else UNSET
        quota, until = grant.quota, grant.ttl + 1
        if quota is not None and now >= until:
            return None
        if quota is None or holder is None:
            return Target(row.rule_name, grant.fixed_rate, UNSET, UNSET, interval_s, boost)
        if quota != self._split_quota or not self._split_at <= now < self._split_until:
            self._split(quota, interval_s, now)
        own = holder.share if now < holder.until else 0
        share = holder.due
        if share is None:  # came after the split was computed
            share = quota // (self._split_among + 1)
        if share != own or self._held > quota:
            free = max(quota - self._held + own, 0)
            if share > free:
                share = free
                if not share and not own:
                    return Target(row.rule_name, grant.fixed_rate, UNSET, UNSET, interval_s, boost)
            self._held += share - own
        holder.share = share
        holder.until = until
        return Target(row.rule_name, grant.fixed_rate, share, grant.ttl, interval_s, boost)

    def take_untold(self) -> Counts | None:
        """What clients reported since this was last asked; None if none reported the rule."""
        untold, self._untold = self._untold, None
        if untold is not None:
            self._told.add(untold)
        return untold

    def clients(self, now: float) -> list[str]:
        """The clients that reported the rule within three intervals."""
        interval_s = self.interval_s
        return [
            client_id
            for client_id, holder in self._holders.items()
            if holder.is_alive(interval_s, now)
        ]

    def held(self, now: float) -> int:
        """All shares that count at `now`, in requests a second."""
        return sum(holder.held(now) for holder in self._holders.values())

    def shares(self, most: int, now: float) -> list[ClientShare]:
        """What the live clients with the most requests have, at most so many."""
        found = [(self._holders[client_id], client_id) for client_id in self.clients(now)]
        found.sort(key=lambda each: (-each[0].rate, each[1]))
        return [
            ClientShare(
                client_id,
                holder.rate,
                holder.held(now),
                holder.until - 1 if holder.held(now) else None,
            )
            for holder, client_id in found[:most]
        ]

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
            handed_out=self.held(now),
            requests=self._told.requests + untold.requests,
            sampled=self._told.sampled + untold.sampled,
            borrowed=self._told.borrowed + untold.borrowed,
            refused=self.refused,
            clients=len(self.clients(now)),
            last_seen=self.last_seen,
        )

    def _seat(self, row: Statistics, interval_s: int, now: float) -> Holder | None:
        """Take in a client, where there is room."""
        if len(self._holders) >= HOLDERS_MAX:
            self._make_room(interval_s, now)
            if len(self._holders) >= HOLDERS_MAX:
                return None
        holder = self._holders[row.client_id] = Holder(now, row.requests / interval_s)
        return holder

    def _make_room(self, interval_s: int, now: float) -> None:
        """Forget who is gone and holds nothing that counts; at most once an interval.

        Without it, clients that came and went while no quota was granted would keep all that come
        later from ever having a share.
        """
        if 0 <= now - self._cleared_at < interval_s:
            return
        self._cleared_at = now
        for client_id, holder in list(self._holders.items()):
            holder.seen_at = min(holder.seen_at, now)  # after a clock step back
            if not holder.is_alive(interval_s, now) and not holder.held(now):
                del self._holders[client_id]

    def _split(self, quota: int, interval_s: int, now: float) -> None:
        """Compute what each live client is due, and forget whose share ended long ago."""
        held, alive, gone = 0, [], []
        alive_from = now - LIVE_INTERVALS * interval_s
        for client_id, holder in self._holders.items():
            if now < holder.until:
                held += holder.share
            if alive_from <= holder.seen_at:
                alive.append(holder)
                holder.seen_at = min(holder.seen_at, now)  # after a clock step back
                continue
            holder.due = None
            if not holder.share or holder.until + _FORGET_AFTER_S < now:
                gone.append(client_id)
        for client_id in gone:
            del self._holders[client_id]
        self._held = held
        dues = split_quota(quota, [holder.rate for holder in alive])
        for holder, due in zip(alive, dues, strict=True):
            holder.due = due
        self._split_among = len(alive)
        self._split_at, self._split_quota = now, quota
        serves_s = min(_SPLIT_FOR_EACH_S * len(alive), interval_s)
        self._split_until = now + max(_SPLIT_FOR_S, serves_s)
