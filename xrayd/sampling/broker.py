"""Between many local samplers and AWS, or in AWS's place: rules from memory, one merged report,
quota shared out.

A state machine: requests' bytes and `now` (epoch seconds) in, answers' bytes out. A client never
waits for upstream once rules are known. As the authority it takes its rules from the embedded
endpoint or a file, nothing goes upstream, and a rule's reservoir is the quota that is shared.

How a caller drives it::

    if broker.rules_due(now):
        # fetch all pages, decode_rules() each, then
        broker.absorb_rules(records, now, asked_at=began, jitter_s=5 * random())
        # or, when that failed:
        broker.rules_failed(now)

    for call in broker.due_round(now):  # every second or so; empty unless there is a report
        # POST call.body to /SamplingTargets, then always one of
        broker.absorb_targets(call, answer, now)
        broker.round_failed(call, now)

and for a client `rules_answer()` and `report(body, now)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET

from xrayd.sampling.report import (
    Answer,
    ErrorCode,
    Report,
    Statistics,
    Unprocessed,
    encode_answer,
    read_report,
)
from xrayd.sampling.rule import AnswerError, SamplingRule, SamplingRuleRecord
from xrayd.sampling.rulebook import RuleBook
from xrayd.sampling.rulestate import RuleState, RuleStatistics
from xrayd.sampling.shares import INTERVAL_S, ClientShare
from xrayd.sampling.upstream import Grant, Pending, RoundCall, is_retriable, read_targets
from xrayd.sampling.windows import Summary, Windows

RULES_INTERVAL_S = 300.0
"""Seconds between fetches of the rules (all X-Ray SDKs)."""

QUOTA_TTL_S = 30.0
"""How long a share counts where we are the authority: as long as a silent client is taken for
alive.

AWS's example has five minutes. Shares of clients that are gone stay accounted until their TTL ends,
and on a laptop every restart of the application is a new client.
"""

_UNKNOWN_RULES_MAX = 256
"""Rule names counted on trust while no rules are known."""


class Broker:
    """Rules, quotas and statistics of all samplers that come to this daemon."""

    def __init__(
        self,
        client_id: str,
        *,
        is_authority: bool = False,
        rules_interval_s: float = RULES_INTERVAL_S,
        quota_ttl_s: float = QUOTA_TTL_S,
    ) -> None:
        """A broker that knows nothing yet.

        Args:
            client_id: our own, 24 hex digits, chosen at random at start.
            is_authority: whether rules and quotas are ours to give.
            rules_interval_s: seconds between fetches of the rules.
            quota_ttl_s: seconds a share counts, as the authority.
        """
        if not re.fullmatch("[0-9a-f]{24}", client_id):
            raise ValueError(f"a ClientID is 24 hex digits, not {client_id!r}")
        self.client_id = client_id
        self.is_authority = is_authority
        self._quota_ttl_s = quota_ttl_s
        self._book = RuleBook(rules_interval_s)
        self._states: dict[str, RuleState] = {}
        # Rules that are no more, as long as clients hold shares of them: they may come back.
        self._gone: dict[str, RuleState] = {}
        self._pending = Pending(client_id)
        self._under_way: list[RoundCall] = []
        self._round_at: float | None = None
        self._windows = Windows()

    # Rules

    @property
    def rules(self) -> tuple[SamplingRule, ...]:
        """The rules in the order they are tried; empty until known."""
        return tuple(self._book.rules.values())

    def rules_answer(self) -> bytes | None:
        """The GetSamplingRules body, or None: not known yet."""
        return self._book.answer

    def rules_due(self, now: float) -> bool:
        """Whether the rules are to be fetched: never yet, the interval is over, or modified."""
        return not self.is_authority and self._book.is_due(now)

    def rules_age_s(self, now: float) -> float | None:
        """Seconds since the rules were last fetched; None if never."""
        return self._book.age_s(now)

    def absorb_rules(
        self,
        records: Sequence[SamplingRuleRecord],
        now: float,
        *,
        asked_at: float | None = None,
        jitter_s: float = 0.0,
    ) -> bool:
        """Take over the rules of all pages, or of the embedded endpoint or file.

        An empty list is a failed fetch: every account has a default rule.

        Args:
            records: the rules.
            now: epoch seconds.
            asked_at: when the fetch began; `now` if not given.
            jitter_s: added to the time of the next fetch.

        Returns:
            Whether they are different from before.
        """
        if not records:
            self._book.fail(now)
            return False
        if not self._book.absorb(records, now, now if asked_at is None else asked_at, jitter_s):
            return False
        known, states = self._gone | self._states, dict[str, RuleState]()
        for name, rule in self._book.rules.items():
            state = states[name] = known.pop(name) if name in known else RuleState(rule)
            state.follow(rule)
        self._states = states
        self._gone = {name: state for name, state in known.items() if state.held(now)}
        for state in self._gone.values():
            state.grant = None  # if it comes back it is another, and granted anew
        self._pending.keep_only(states.keys())
        return True

    def rules_failed(self, now: float) -> None:
        """A fetch of the rules failed; the next is due a little later each time."""
        self._book.fail(now)

    # Clients

    def report(self, body: bytes, now: float) -> bytes:
        """Answer a client's GetSamplingTargets call.

        Args:
            body: the request's body.
            now: epoch seconds.

        Returns:
            The answer's body, for status 200.

        Raises:
            ReportError: the body is no such request.
        """
        return encode_answer(self.exchange(read_report(body), now))

    def exchange(self, report: Report, now: float) -> Answer:
        """Like `report`, for a sampler in this process."""
        states, is_authority = self._states, self.is_authority
        rows, unprocessed = report.statistics, report.unprocessed
        reported = {row.rule_name: row for row in rows}
        if len(reported) < len(rows) or not reported.keys() <= states.keys():
            rows, refused = self._part_known(rows)
            unprocessed = unprocessed + refused
            reported = _merged(rows)
        if is_authority:
            self._windows.add(rows, now)
        targets = []
        for name, row in reported.items():
            state = states[name]
            grant = self._own_grant(state, now) if is_authority else state.grant
            target = state.exchange(row, grant, now, with_boost=report.speaks_boost)
            if target is not None:
                targets.append(target)
        unprocessed_boosts = list(report.unprocessed_boosts)
        for boost in report.boosts:
            if not self._knows(boost.rule_name):
                unprocessed_boosts.append(_unknown(boost.rule_name))
            elif not (is_authority or self._pending.add_boost(boost)):
                unprocessed_boosts.append(_unavailable(boost.rule_name))
        return Answer(
            targets=targets,
            last_rule_modification=self._book.last_modification(now),
            unprocessed=unprocessed,
            unprocessed_boosts=unprocessed_boosts if report.speaks_boost else UNSET,
        )

    # Upstream

    def due_round(self, now: float) -> list[RoundCall]:
        """The GetSamplingTargets calls to make now: none unless clients reported since the last.

        Every call must be given back with `absorb_targets` or `round_failed` before there is
        another round.
        """
        is_soon = self._round_at is not None and 0 <= now - self._round_at < INTERVAL_S
        if self.is_authority or self._under_way or is_soon:
            return []
        self._gather()
        calls = self._pending.take(self._interval_of, now)
        if calls:
            self._under_way = list(calls)
            self._round_at = now
        return calls

    def last_round(self, now: float) -> list[RoundCall]:
        """All that AWS was not told yet, due or not, before the end: what fails is lost."""
        if self.is_authority:
            return []
        self._gather()
        return self._pending.take(lambda _: 0.0, now)

    def absorb_targets(self, call: RoundCall, answer: bytes, now: float) -> None:
        """Take over AWS's answer (of a 200) to a call of the round.

        Raises:
            AnswerError: the answer cannot be read; the call counts as failed.
        """
        try:
            targets = read_targets(answer)
        except AnswerError:
            self.round_failed(call, now)
            raise
        if not self._settle(call):
            return
        for name, grant in targets.grants.items():
            if name in self._states:
                self._states[name].grant = grant
        for name, code in targets.unprocessed.items():
            if not is_retriable(code) and name in self._states and name in call.counts:
                self._states[name].refused += call.counts[name].requests
        self._pending.put_back(call, self._retriable(targets.unprocessed))
        self._pending.put_back_boosts(call, self._retriable(targets.unprocessed_boosts))
        self._book.hear_of_modification(targets.last_rule_modification, now)

    def round_failed(self, call: RoundCall, now: float) -> None:
        """A call of the round was not answered with a 200: its counts wait for the next round."""
        if self._settle(call):
            self._pending.put_back(call)
            self._pending.put_back_boosts(call)
            if self._states:
                self._pending.keep_only(self._states.keys())
            self._round_at = now

    # To look at

    def summaries(self, now: float) -> list[Summary]:
        """GetSamplingStatisticSummaries of the last hour, as the authority: ten-second windows,
        oldest first.
        """
        return self._windows.summaries(now)

    def clients(self, now: float) -> int:
        """How many clients reported any rule within its last three intervals."""
        alive: set[str] = set()
        for state in self._states.values():
            alive.update(state.clients(now))
        return len(alive)

    def statistics(self, now: float) -> list[RuleStatistics]:
        """Every rule as it stands, in the order they are tried."""
        return [state.statistics(self._grant(state, now), now) for state in self._states.values()]

    def shares(self, most: int, now: float) -> dict[str, list[ClientShare]]:
        """What the live clients with the most requests have, at most so many of each rule."""
        return {name: state.shares(most, now) for name, state in self._states.items()}

    def _knows(self, rule_name: str) -> bool:
        return rule_name in self._states or not (self._states or self.is_authority)

    def _part_known(self, rows: Iterable[Statistics]) -> tuple[list[Statistics], list[Unprocessed]]:
        """The rows of rules that are known, and what the client is told of the others."""
        known: list[Statistics] = []
        refused: list[Unprocessed] = []
        for row in rows:
            if row.rule_name in self._states:
                known.append(row)
            elif (refusal := self._count_unknown(row)) is not None:
                refused.append(refusal)
        return known, refused

    def _count_unknown(self, row: Statistics) -> Unprocessed | None:
        """Count a row on trust while no rules are known, or say why not."""
        if not self._knows(row.rule_name):
            return _unknown(row.rule_name)
        if row.rule_name not in self._pending and len(self._pending) >= _UNKNOWN_RULES_MAX:
            return _unavailable(row.rule_name)
        self._pending.add(row.rule_name, row)
        return None

    def _grant(self, state: RuleState, now: float) -> Grant | None:
        """What there is to share out of a rule: AWS's word, or the rule's own numbers."""
        return self._own_grant(state, now) if self.is_authority else state.grant

    def _own_grant(self, state: RuleState, now: float) -> Grant:
        ttl = int(now + self._quota_ttl_s)
        return Grant(state.rule.fixed_rate, state.rule.reservoir_size, ttl, INTERVAL_S, None)

    def _gather(self) -> None:
        """What clients reported of each rule since the last round, to what is pending."""
        for name, state in self._states.items():
            counts = state.take_untold()
            if counts is not None:
                self._pending.add(name, counts)

    def _interval_of(self, rule_name: str) -> float:
        state = self._states.get(rule_name)
        return INTERVAL_S if state is None else state.interval_s

    def _settle(self, call: RoundCall) -> bool:
        """Whether the call was still open; it no longer is."""
        if call not in self._under_way:
            return False
        self._under_way.remove(call)
        return True

    def _retriable(self, refused: dict[str, str]) -> set[str]:
        return {name for name, code in refused.items() if is_retriable(code) and self._knows(name)}


def _merged(rows: Iterable[Statistics]) -> dict[str, Statistics]:
    """One row for each rule, where a client sent several of one."""
    merged: dict[str, Statistics] = {}
    for row in rows:
        had = merged.get(row.rule_name)
        if had is None:
            merged[row.rule_name] = row
            continue
        merged[row.rule_name] = msgspec.structs.replace(
            had,
            requests=had.requests + row.requests,
            sampled=had.sampled + row.sampled,
            borrowed=had.borrowed + row.borrowed,
        )
    return merged


def _unknown(rule_name: str) -> Unprocessed:
    return Unprocessed(rule_name, ErrorCode.UNKNOWN_RULE, f"There is no sampling rule {rule_name}.")


def _unavailable(rule_name: str) -> Unprocessed:
    return Unprocessed(rule_name, ErrorCode.UNAVAILABLE, "Too much waits to be reported already.")
