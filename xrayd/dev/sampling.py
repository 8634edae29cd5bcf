"""What GetSamplingTargets answers: each live client's share of a rule's reservoir.

Sources: AWS X-Ray Developer Guide, "Using sampling rules with the X-Ray API"; botocore `xray`
model. How AWS divides a reservoir is not published; here live clients get equal shares, the
remainder going to the first by id.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import msgspec

INTERVAL_S = 10
"""Seconds between a client's reports."""

LIVE_S = 3 * INTERVAL_S
"""Seconds after its last report for which a client counts as live."""

QUOTA_S = 300
"""Seconds for which a quota holds."""

WINDOW_S = 10
"""Width in seconds of the windows of GetSamplingStatisticSummaries."""

WINDOWS_KEPT_S = 3600
"""Seconds for which those windows are kept."""

CLIENTS_MAX = 10_000
"""Clients remembered for a rule; beyond that the one that was silent longest is forgotten."""


class RateBoost(msgspec.Struct, rename="pascal", omit_defaults=True):
    """`SamplingRateBoost` of a rule; stored, with no effect here."""

    max_rate: float
    cooldown_window_minutes: int


class SamplingRule(msgspec.Struct):
    """A sampling rule: the API's members, and when it was created and modified, epoch seconds."""

    name: str
    arn: str
    resource_arn: str
    priority: int
    fixed_rate: float
    reservoir_size: int
    service_name: str
    service_type: str
    host: str
    http_method: str
    url_path: str
    version: int
    attributes: dict[str, str]
    boost: RateBoost | None
    created_at: float
    modified_at: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """One client's report about one rule.

    Attributes:
        rule: the rule's name.
        client: 24 hex digits.
        timestamp: epoch seconds, the client's clock.
        requests: requests the rule matched since the last report.
        sampled: of them, sampled. Whether that includes `borrowed` differs between clients.
        borrowed: of them, sampled on the one-a-second loan.
    """

    rule: str
    client: str
    timestamp: float
    requests: int
    sampled: int
    borrowed: int


class Target(NamedTuple):
    """What a client may sample by a rule.

    Attributes:
        rule: the rule's name.
        fixed_rate: share (0-1) of what the quota does not cover.
        quota: requests a second this client may sample before the rate applies.
        quota_ttl: epoch seconds until which `quota` holds.
        interval: seconds until the client should report again.
    """

    rule: str
    fixed_rate: float
    quota: int
    quota_ttl: int
    interval: int


TargetsOf: TypeAlias = Callable[[Mapping[str, SamplingRule], list[Statistics], float], list[Target]]
"""(rules by name, reports about rules among them, now) -> one target for each report, in order."""


class Window(NamedTuple):
    """A rule's requests in one window of all clients; `start` in epoch seconds."""

    start: int
    rule: str
    requests: int
    borrowed: int
    sampled: int


class SharedReservoirs:
    """Divides each rule's reservoir among the clients that reported about it lately.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._seen: dict[str, dict[str, float]] = {}

    def targets(
        self, rules: Mapping[str, SamplingRule], reports: list[Statistics], now: float
    ) -> list[Target]:
        """One target for each report; a `TargetsOf`."""
        with self._guard:
            for report in reports:
                clients = self._seen.setdefault(report.rule, {})
                clients.pop(report.client, None)
                clients[report.client] = now  # at the end: the order of clients is that of reports
                if len(clients) > CLIENTS_MAX:
                    del clients[next(iter(clients))]
            for name in self._seen.keys() - rules.keys():
                del self._seen[name]
            return [self._target(rules[report.rule], report.client, now) for report in reports]

    def _target(self, rule: SamplingRule, client: str, now: float) -> Target:
        seen = self._seen[rule.name]
        live = sorted(name for name, when in seen.items() if when > now - LIVE_S)
        share, remainder = divmod(rule.reservoir_size, len(live))
        quota = share + (live.index(client) < remainder)
        return Target(rule.name, rule.fixed_rate, quota, int(now) + QUOTA_S, INTERVAL_S)


@dataclass(slots=True)
class _Counts:
    requests: int = 0
    borrowed: int = 0
    sampled: int = 0


@dataclass(slots=True)
class StatisticWindows:
    """The reports of the last hour, summed over clients. Thread-safe."""

    _guard: threading.Lock = field(default_factory=threading.Lock)
    _windows: dict[tuple[int, str], _Counts] = field(default_factory=dict)

    def add(self, reports: Iterable[Statistics], now: float) -> None:
        """Count reports; one from the future as from now, one older than an hour not at all."""
        with self._guard:
            for report in reports:
                start = _window(min(report.timestamp, now))
                counts = self._windows.setdefault((start, report.rule), _Counts())
                counts.requests += report.requests
                counts.borrowed += report.borrowed
                counts.sampled += report.sampled
            self._forget(now)

    def all(self, now: float) -> list[Window]:
        """The last hour's windows that saw a report, by time and rule."""
        with self._guard:
            self._forget(now)
            return sorted(
                Window(start, rule, counts.requests, counts.borrowed, counts.sampled)
                for (start, rule), counts in self._windows.items()
            )

    def _forget(self, now: float) -> None:
        oldest = _window(now - WINDOWS_KEPT_S)
        for key in [key for key in self._windows if key[0] < oldest]:
            del self._windows[key]


def _window(when: float) -> int:
    return int(when // WINDOW_S) * WINDOW_S
