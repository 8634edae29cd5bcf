"""What one trace adds to the service graph: requests that nodes served, and calls along edges.

Small enough to be kept beside the trace, so that it can be added to a graph without compiling the
trace again, and taken out again when the trace changes. Times of day are epoch seconds, durations
whole microseconds: sums of integers do not depend on the order they are made in.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import msgspec

from xrayd.dev.model import Call, Entity, Node, StatusClass, Trace, TraceLink

MINUTE_S = 60
_MICROSECONDS = 1_000_000


class Outcome(IntEnum):
    """How a request is counted; one in progress is seen, but not counted yet."""

    IN_PROGRESS = 0
    OK = 1
    ERROR = 2
    THROTTLE = 3
    FAULT = 4


_OUTCOMES = {
    StatusClass.OK: Outcome.OK,
    StatusClass.ERROR: Outcome.ERROR,
    StatusClass.THROTTLE: Outcome.THROTTLE,
    StatusClass.FAULT: Outcome.FAULT,
}


class ObservedService(msgspec.Struct, array_like=True, gc=False):
    """A node as this trace knows it. `names` are other names than its own."""

    name: str
    type: str
    account_id: str
    names: list[str]
    is_active: bool
    is_root: bool


class Request(msgspec.Struct, array_like=True, gc=False):
    """One segment of a service (an index into `Observations.services`).

    It counts at its start; `end` is its start while it is in progress.
    """

    service: int
    start: float
    end: float
    duration_us: int
    outcome: Outcome


class EdgeCall(msgspec.Struct, array_like=True, gc=False):
    """One call between two services (indexes), measured at the caller.

    It counts at its start. For a link between traces, `duration_us` is the age of what was
    received, and the outcome that of the receiving segment.
    """

    source: int
    target: int
    is_link: bool
    start: float
    end: float
    duration_us: int
    outcome: Outcome


class Observations(msgspec.Struct, array_like=True, gc=False):
    """All that one trace adds to the service graph."""

    services: list[ObservedService]
    requests: list[Request]
    calls: list[EdgeCall]

    def minutes(self) -> set[int]:
        """The minutes (epoch seconds // 60) that any of it counts in."""
        return {int(request.start // MINUTE_S) for request in self.requests} | {
            int(call.start // MINUTE_S) for call in self.calls
        }


_decoder = msgspec.msgpack.Decoder(Observations)


def encode_observations(observations: Observations) -> bytes:
    """Their stored form."""
    return msgspec.msgpack.encode(observations)


def decode_observations(stored: bytes) -> Observations:
    """Back from the stored form.

    Raises:
        msgspec.DecodeError: It is damaged.
    """
    return _decoder.decode(stored)


def observe(trace: Trace, linked: Mapping[str, Trace] | None = None) -> Observations:
    """What a trace adds to the service graph.

    Args:
        trace: The trace.
        linked: Traces by id in which the ends of its links are looked up. A link to another trace
            draws no edge.
    """
    builder = _Builder(trace)
    for call in trace.calls:
        builder.add_call(call)
    for link in trace.links:
        cause = (linked or {}).get(link.trace_id)
        if cause is not None:
            builder.add_link(link, cause)
    return builder.observations


class _Builder:
    """Numbers the services while requests and calls refer to them."""

    def __init__(self, trace: Trace) -> None:
        self.observations = Observations([], [], [])
        self._index: dict[tuple[str, str, str], int] = {}
        for node in trace.nodes:
            service = self._number(node, is_root=node.is_root)
            for segment in node.segments:
                self.observations.requests.append(Request(service, *_measure(segment)))

    def add_call(self, call: Call) -> None:
        """A request between two nodes of the trace."""
        source, target = self._index[call.source.key], self._index[call.target.key]
        self.observations.calls.append(EdgeCall(source, target, False, *_measure(call.entity)))

    def add_link(self, link: TraceLink, cause: Trace) -> None:
        """A message from a node of the trace that caused this one, if it is there."""
        sender = cause.entities.get(link.id)
        for node in cause.nodes if sender is not None else ():
            if sender is None or all(s.id != sender.segment_id for s in node.segments):
                continue
            # The other trace says itself whether this node is its root.
            source, target = self._number(node, is_root=False), self._index[link.node.key]
            start, end, _, outcome = _measure(link.segment)
            sent_at = sender.start if sender.end is None else sender.end
            age_us = max(0, round((start - sent_at) * _MICROSECONDS))
            self.observations.calls.append(
                EdgeCall(source, target, True, start, end, age_us, outcome)
            )

    def _number(self, node: Node, *, is_root: bool) -> int:
        number = self._index.get(node.key)
        if number is None:
            number = self._index[node.key] = len(self.observations.services)
            is_active = node.state == "active"
            self.observations.services.append(
                ObservedService(*node.key, node.names[1:], is_active, is_root)
            )
        return number


def _measure(entity: Entity) -> tuple[float, float, int, Outcome]:
    duration = entity.duration
    if duration is None:
        return entity.start, entity.start, 0, Outcome.IN_PROGRESS
    outcome = _OUTCOMES[entity.status_class]
    return entity.start, entity.start + duration, round(duration * _MICROSECONDS), outcome
