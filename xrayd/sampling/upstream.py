"""The merged GetSamplingTargets round: what all local clients reported, as one client's report.

Counts are in exactly one place: pending, or in a call under way. A failed call puts them back. The
protocol has no token to tell a repeated report from a new one, so a call that AWS counted but whose
answer was lost is counted twice by AWS; nothing can be done about that on this side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec
from msgspec import Struct

from xrayd.sampling.report import COUNT_MAX, BoostStatistics, SamplingBoost, Statistics
from xrayd.sampling.rule import AnswerError, parse_object, read_integer, read_number
from xrayd.sampling.windows import Counts

DOCUMENTS_MAX = 25
"""Statistics documents in one GetSamplingTargets call (botocore model)."""

BOOSTS_MAX = 500
"""Rules times services whose anomalies can wait."""

_PUNCTUAL_S = 1.0
"""A rule is due so much before its interval is over, or rounds would drift past it."""

BoostKey = tuple[str, str]
"""Rule name and service name."""

BoostCounts = tuple[int, int, int]
"""Anomalies, traces, sampled anomalies."""


class RoundCall(Struct, frozen=True, eq=False):
    """One GetSamplingTargets call of a round. Send `body`, then absorb the answer or say it failed.

    Attributes:
        body: the request's JSON.
        counts: what it reports, by rule.
        boosts: what it reports of anomalies.
    """

    body: bytes
    counts: dict[str, Counts]
    boosts: dict[BoostKey, BoostCounts]


class Grant(Struct, frozen=True):
    """What AWS answered for one rule.

    Attributes:
        fixed_rate: 0 to 1.
        quota: requests a second for all of this daemon's clients together; None: none given yet.
        ttl: epoch seconds, the last second in which the quota counts.
        interval: seconds until the rule is to be reported again.
        boost: a raised rate, passed on to clients that know it.
    """

    fixed_rate: float
    quota: int | None
    ttl: int
    interval: int
    boost: SamplingBoost | None


class TargetsAnswer(Struct, frozen=True):
    """AWS's GetSamplingTargets answer.

    Attributes:
        grants: by rule name.
        last_rule_modification: epoch seconds.
        unprocessed: error code by rule name.
        unprocessed_boosts: error code by rule name.
    """

    grants: dict[str, Grant]
    last_rule_modification: float
    unprocessed: dict[str, str]
    unprocessed_boosts: dict[str, str]


class Pending:
    """Counts that AWS has not been told yet."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._counts: defaultdict[str, Counts] = defaultdict(Counts)
        self._boosts: dict[BoostKey, BoostCounts] = {}
        self._sent_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, rule_name: str) -> bool:
        return rule_name in self._counts

    def add(self, rule_name: str, counts: Counts | Statistics) -> None:
        """Add what clients counted; zeros too, for they ask to keep the rule's quota."""
        self._counts[rule_name].add(counts)

    def add_boost(self, row: BoostStatistics) -> bool:
        """Add a client's anomalies; False: there are too many services already."""
        key = row.rule_name, row.service_name
        if key not in self._boosts and len(self._boosts) >= BOOSTS_MAX:
            return False
        self._put_boost(key, (row.anomalies, row.total, row.sampled_anomalies))
        return True

    def take(self, interval_of: Callable[[str], float], now: float) -> list[RoundCall]:
        """The calls of a round: every rule reported since its last one and due again.

        Args:
            interval_of: seconds between reports of a rule.
            now: epoch seconds.
        """
        due = [name for name in self._counts if self._is_due(name, interval_of(name), now)]
        boosts = list(self._boosts)
        calls = []
        for first in range(0, max(len(due), len(boosts)), DOCUMENTS_MAX):
            upto = first + DOCUMENTS_MAX
            call = _round_call(
                self._client_id,
                {name: self._take(name) for name in due[first:upto]},
                {key: self._boosts.pop(key) for key in boosts[first:upto]},
                now,
            )
            calls.append(call)
        for name in due:
            self._sent_at[name] = now
        return calls

    def put_back(self, call: RoundCall, rule_names: Collection[str] | None = None) -> None:
        """Counts of a call that AWS did not take: all, or those of the named rules."""
        for name, counts in call.counts.items():
            if rule_names is None or name in rule_names:
                self._counts[name].add(counts)
                self._sent_at.pop(name, None)

    def put_back_boosts(self, call: RoundCall, rule_names: Collection[str] | None = None) -> None:
        """The same for anomalies."""
        for key, counts in call.boosts.items():
            if rule_names is None or key[0] in rule_names:
                self._put_boost(key, counts)

    def keep_only(self, rule_names: Collection[str]) -> None:
        """Forget rules that are no more; AWS refuses their statistics."""
        for name in self._counts.keys() - rule_names:
            del self._counts[name]
        for key in [key for key in self._boosts if key[0] not in rule_names]:
            del self._boosts[key]
        for name in self._sent_at.keys() - rule_names:
            del self._sent_at[name]

    def _put_boost(self, key: BoostKey, more: BoostCounts) -> None:
        had = self._boosts.get(key, (0, 0, 0))
        self._boosts[key] = (had[0] + more[0], had[1] + more[1], had[2] + more[2])

    def _is_due(self, name: str, interval_s: float, now: float) -> bool:
        sent_at = self._sent_at.get(name)
        return sent_at is None or not 0 <= now - sent_at < interval_s - _PUNCTUAL_S

    def _take(self, name: str) -> Counts:
        """All of a rule's counts, or as much as fits; the rest stays for the next round."""
        counts = self._counts.pop(name)
        if max(counts.requests, counts.sampled, counts.borrowed) <= COUNT_MAX:
            return counts
        fits = Counts(
            min(counts.requests, COUNT_MAX),
            min(counts.sampled, COUNT_MAX),
            min(counts.borrowed, COUNT_MAX),
        )
        self._counts[name] = Counts(
            counts.requests - fits.requests,
            counts.sampled - fits.sampled,
            counts.borrowed - fits.borrowed,
        )
        return fits


def read_targets(answer: bytes) -> TargetsAnswer:
    """Read AWS's GetSamplingTargets answer, tolerant of unknown fields and single bad documents.

    Raises:
        AnswerError: not a JSON object.
    """
    body = parse_object(answer)
    if body is None:
        raise AnswerError("the GetSamplingTargets answer is not a JSON object")
    return TargetsAnswer(
        grants={
            name: grant
            for raw in _objects(body, "SamplingTargetDocuments")
            if isinstance(name := raw.get("RuleName"), str) and (grant := _grant(raw)) is not None
        },
        last_rule_modification=read_number(body.get("LastRuleModification")) or 0.0,
        unprocessed=_error_codes(_objects(body, "UnprocessedStatistics")),
        unprocessed_boosts=_error_codes(_objects(body, "UnprocessedBoostStatistics")),
    )


def is_retriable(error_code: str) -> bool:
    """Whether statistics refused with this code are worth sending again.

    AWS publishes no list; the SDK for Go reads codes beginning with 5 as failures of the service.
    """
    return error_code.startswith(("5", "429")) or "hrottl" in error_code


def _round_call(
    client_id: str,
    counts: dict[str, Counts],
    boosts: dict[BoostKey, BoostCounts],
    now: float,
) -> RoundCall:
    timestamp = int(now)
    body: dict[str, object] = {
        "SamplingStatisticsDocuments": [
            {
                "RuleName": name,
                "ClientID": client_id,
                "Timestamp": timestamp,
                "RequestCount": count.requests,
                "SampledCount": count.sampled,
                "BorrowCount": count.borrowed,
            }
            for name, count in counts.items()
        ]
    }
    if boosts:
        body["SamplingBoostStatisticsDocuments"] = [
            {
                "RuleName": rule_name,
                "ServiceName": service_name,
                "Timestamp": timestamp,
                "AnomalyCount": min(anomalies, COUNT_MAX),
                "TotalCount": min(total, COUNT_MAX),
                "SampledAnomalyCount": min(sampled, COUNT_MAX),
            }
            for (rule_name, service_name), (anomalies, total, sampled) in boosts.items()
        ]
    return RoundCall(body=msgspec.json.encode(body), counts=counts, boosts=boosts)


def _objects(body: Mapping[str, object], name: str) -> list[dict[str, object]]:
    listed = body.get(name)
    return [raw for raw in listed if isinstance(raw, dict)] if isinstance(listed, list) else []


def _grant(raw: Mapping[str, object]) -> Grant | None:
    rate = read_number(raw.get("FixedRate"))
    if rate is None:
        return None
    quota, ttl = read_integer(raw.get("ReservoirQuota")), read_integer(raw.get("ReservoirQuotaTTL"))
    interval = read_integer(raw.get("Interval"))
    return Grant(
        fixed_rate=min(max(rate, 0.0), 1.0),
        quota=None if quota is None or ttl is None else min(max(quota, 0), COUNT_MAX),
        ttl=ttl or 0,
        interval=10 if interval is None or interval < 1 else min(interval, COUNT_MAX),
        boost=_boost(raw.get("SamplingBoost")),
    )


def _boost(raw: object) -> SamplingBoost | None:
    if not isinstance(raw, dict):
        return None
    rate, ttl = read_number(raw.get("BoostRate")), read_number(raw.get("BoostRateTTL"))
    return None if rate is None or ttl is None else SamplingBoost(rate, ttl)


def _error_codes(refused: Iterable[Mapping[str, object]]) -> dict[str, str]:
    return {
        name: str(raw.get("ErrorCode") or "")
        for raw in refused
        if isinstance(name := raw.get("RuleName"), str)
    }
