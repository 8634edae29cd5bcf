"""Requests counted by service and by group since the start, for metrics: they only ever grow.

A trace is counted when it is compiled. When it is compiled again, because more of it arrived, what
is new is added; what turned out otherwise is not taken back, for a falling counter means a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from xrayd.dev.observations import EdgeCall, Observations, Outcome, Request

SERVICES_MAX = 1000
"""Services told apart; those that appear beyond are counted together under `OTHER`."""

ServiceName: TypeAlias = tuple[str, str]
"""Name and type."""

Key = TypeVar("Key")

OTHER: ServiceName = ("(other)", "")


class Tally(NamedTuple):
    """Requests of a service or a group; each is at most one of error, fault and throttle.

    Attributes:
        requests: all that ended.
        errors: 4xx but 429.
        faults: 5xx.
        throttles: 429.
        duration_us: their response times together, microseconds.
    """

    requests: int = 0
    errors: int = 0
    faults: int = 0
    throttles: int = 0
    duration_us: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything counted since the start.

    Attributes:
        services: by service; of downstreams, as their callers saw them.
        groups: by group name: the requests that came from outside, of the group's traces.
    """

    services: dict[ServiceName, Tally]
    groups: dict[str, Tally]


class Counters:
    """The running totals. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._services: dict[ServiceName, Tally] = {}
        self._groups: dict[str, Tally] = {}

    def add(
        self,
        now: Observations,
        groups: Iterable[str],
        before: Observations | None,
        groups_before: Collection[str],
    ) -> None:
        """Count what a trace adds now, beyond what it added when it was counted before.

        Args:
            now: what the trace adds to the service graph.
            groups: names of the groups it is in.
            before: the same when it was counted last; None if it never was.
            groups_before: its groups then.
        """
        services = _by_service(now)
        services_before = {} if before is None else _by_service(before)
        entry = _tally(_entry_calls(now))
        entry_before = None if before is None else _tally(_entry_calls(before))
        with self._guard:
            for name, tally in services.items():
                known = name in self._services or len(self._services) < SERVICES_MAX
                _grow(self._services, name if known else OTHER, tally, services_before.get(name))
            for group in groups:
                _grow(self._groups, group, entry, entry_before if group in groups_before else None)

    def totals(self) -> Totals:
        """A copy of everything counted so far."""
        with self._guard:
            return Totals(dict(self._services), dict(self._groups))


def _grow(totals: dict[Key, Tally], key: Key, now: Tally, before: Tally | None) -> None:
    grown = now if before is None else [max(0, a - b) for a, b in zip(now, before, strict=True)]
    old = totals.get(key, Tally())
    totals[key] = Tally(*(a + b for a, b in zip(old, grown, strict=True)))


def _by_service(observations: Observations) -> dict[ServiceName, Tally]:
    requests: dict[ServiceName, list[Request]] = {}
    for request in observations.requests:
        service = observations.services[request.service]
        requests.setdefault((service.name, service.type), []).append(request)
    return {name: _tally(made) for name, made in requests.items()}


def _entry_calls(observations: Observations) -> list[EdgeCall]:
    """What clients asked for: one for each root of the trace."""
    return [
        call for call in observations.calls if observations.services[call.source].type == "client"
    ]


def _tally(requests: Iterable[Request | EdgeCall]) -> Tally:
    counts = [0] * len(Outcome)
    duration_us = 0
    for request in requests:
        counts[request.outcome] += 1
        duration_us += request.duration_us
    return Tally(
        sum(counts) - counts[Outcome.IN_PROGRESS],
        counts[Outcome.ERROR],
        counts[Outcome.FAULT],
        counts[Outcome.THROTTLE],
        duration_us,
    )
