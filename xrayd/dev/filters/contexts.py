"""Which keyword may stand where, of what type it is, and where its value is found.

Source: AWS X-Ray Developer Guide, "Using filter expressions". Each context has a subject that its
keywords are asked of: the trace, a segment of a node, a call, a step of a root cause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from xrayd.dev.causes import FaultEntity, FaultService, RootCauseException, TimeEntity, TimeService
from xrayd.dev.filters.syntax import CauseKind, CausePart
from xrayd.dev.model import AnnotationValue, Call, Entity, Node, Trace

Subject = TypeVar("Subject")
AnnotationReader: TypeAlias = Callable[[Subject, str], Sequence[AnnotationValue]]


@dataclass(frozen=True)
class Context(Generic[Subject]):
    """A place in an expression where keywords are looked up.

    Attributes:
        where: The place in words, for error messages.
        flags: Boolean keywords; every subject has each of them.
        numbers: Number keywords; None where the subject has no such value.
        strings: String keywords; all values the subject has, () for none.
        annotations: All values of an annotation key, or None where annotations may not stand.
    """

    where: str
    flags: Mapping[str, Callable[[Subject], bool]] = field(default_factory=dict)
    numbers: Mapping[str, Callable[[Subject], float | None]] = field(default_factory=dict)
    strings: Mapping[str, Callable[[Subject], Sequence[str]]] = field(default_factory=dict)
    annotations: AnnotationReader[Subject] | None = None

    @property
    def keywords(self) -> list[str]:
        """The simple keywords that may stand here."""
        return [*self.flags, *self.numbers, *self.strings]


class ServiceSegment(NamedTuple):
    """The subject of a service's block: one segment of one node."""

    node: Node
    segment: Entity


@dataclass(frozen=True, slots=True)
class Listed(Generic[Subject]):
    """The subject of a root cause's block: one step with its place in its list, from 0."""

    item: Subject
    index: int
    count: int


def _one(value: str | None) -> Sequence[str]:
    return () if value is None else (value,)


def _request_field(read: Callable[[Any], str | None]) -> Callable[[Entity | None], Sequence[str]]:
    def read_field(segment: Entity | None) -> Sequence[str]:
        request = None if segment is None else segment.request
        return () if request is None else _one(read(request))

    return read_field


_method = _request_field(lambda request: request.method)
_url = _request_field(lambda request: request.url)
_user_agent = _request_field(lambda request: request.user_agent)
_client_ip = _request_field(lambda request: request.client_ip)


def segment_duration(segment: Entity) -> float | None:
    """Seconds from a segment's start to the last end inside it, which may outlive its response."""
    ends = [end for entity in segment.walk() if (end := entity.end) is not None]
    return max(0.0, max(ends) - segment.start) if ends else None


def segment_is_partial(segment: Entity) -> bool:
    """Whether a segment, or work inside it, has not ended, or stands in for one that is missing."""
    return segment.placeholder or any(entity.in_progress for entity in segment.walk())


def _segment_annotations(subject: ServiceSegment, key: str) -> Sequence[AnnotationValue]:
    own = (entity.annotations.get(key) for entity in subject.segment.walk())
    return [value for value in own if value is not None]


def _cause_types(service: FaultService | TimeService) -> Sequence[str]:
    """An inferred resource goes by its service's type too: a table by `AWS::DynamoDB`.

    The documentation's examples look for tables that way, though their nodes are
    `AWS::DynamoDB::Table`.
    """
    parts = service.type.split("::")
    if service.inferred and parts[0] == "AWS" and len(parts) > 2:
        return (service.type, "::".join(parts[:2]))
    return (service.type,)


TRACE: Context[Trace] = Context(
    where="in a filter expression",
    flags={
        "ok": lambda trace: trace.ok,
        "error": lambda trace: trace.has_error,
        "fault": lambda trace: trace.has_fault,
        "throttle": lambda trace: trace.has_throttle,
        "partial": lambda trace: trace.is_partial,
        "inferred": lambda trace: trace.has_inferred,
    },
    numbers={
        "responsetime": lambda trace: trace.response_time,
        "duration": lambda trace: trace.duration,
        "http.status": lambda trace: None if trace.root is None else trace.root.status,
    },
    strings={
        "http.method": lambda trace: _method(trace.root),
        "http.url": lambda trace: _url(trace.root),
        "http.useragent": lambda trace: _user_agent(trace.root),
        "http.clientip": lambda trace: _client_ip(trace.root),
        "user": lambda trace: trace.users,
        "availabilityzone": lambda trace: trace.availability_zones,
        "instance.id": lambda trace: trace.instance_ids,
        "resource.arn": lambda trace: trace.resource_arns,
        "account.id": lambda trace: [node.account_id for node in trace.nodes if node.account_id],
    },
    annotations=lambda trace, key: trace.annotations.get(key, ()),
)

SERVICE: Context[ServiceSegment] = Context(
    where="in a service's block",
    flags={
        "ok": lambda subject: subject.segment.ok,
        "error": lambda subject: subject.segment.error,
        "fault": lambda subject: subject.segment.fault,
        "throttle": lambda subject: subject.segment.throttle,
        "partial": lambda subject: segment_is_partial(subject.segment),
        "root": lambda subject: subject.node.is_root,
        "inferred": lambda subject: subject.segment.inferred,
    },
    numbers={
        "responsetime": lambda subject: subject.segment.duration,
        "duration": lambda subject: segment_duration(subject.segment),
        "http.status": lambda subject: subject.segment.status,
    },
    strings={
        "http.method": lambda subject: _method(subject.segment),
        "http.url": lambda subject: _url(subject.segment),
        "http.useragent": lambda subject: _user_agent(subject.segment),
        "http.clientip": lambda subject: _client_ip(subject.segment),
        "user": lambda subject: _one(subject.segment.document.user),
        "name": lambda subject: (subject.node.name,),
        "type": lambda subject: (subject.node.type,),
    },
    annotations=_segment_annotations,
)

EDGE: Context[Call] = Context(
    where="in an edge's block",
    flags={
        "ok": lambda call: call.entity.ok,
        "error": lambda call: call.entity.error,
        "fault": lambda call: call.entity.fault,
        "throttle": lambda call: call.entity.throttle,
    },
    numbers={
        "responsetime": lambda call: call.entity.duration,
        "http.status": lambda call: call.entity.status,
    },
)

_POSITION_FLAGS: Mapping[str, Callable[[Listed[Any]], bool]] = {
    "first": lambda listed: listed.index == 0,
    "last": lambda listed: listed.index == listed.count - 1,
}
_POSITION_NUMBERS: Mapping[str, Callable[[Listed[Any]], float | None]] = {
    "index": lambda listed: listed.index,
}

CAUSE_SERVICE: Context[Listed[FaultService | TimeService]] = Context(
    where="in a root cause's service block",
    flags={**_POSITION_FLAGS, "inferred": lambda listed: listed.item.inferred},
    numbers=_POSITION_NUMBERS,
    strings={
        "name": lambda listed: (listed.item.name,),
        "type": lambda listed: _cause_types(listed.item),
        "account.id": lambda listed: (listed.item.account_id,) if listed.item.account_id else (),
    },
)

CAUSE_ENTITY: Context[Listed[FaultEntity | TimeEntity]] = Context(
    where="in a root cause's entity block",
    flags={**_POSITION_FLAGS, "remote": lambda listed: listed.item.remote},
    numbers=_POSITION_NUMBERS,
    strings={"name": lambda listed: (listed.item.name,)},
)

CAUSE_TIME_ENTITY: Context[Listed[TimeEntity]] = Context(
    where="in a response time root cause's entity block",
    flags={**_POSITION_FLAGS, "remote": lambda listed: listed.item.remote},
    numbers={**_POSITION_NUMBERS, "coverage": lambda listed: listed.item.coverage},
    strings={"name": lambda listed: (listed.item.name,)},
)

CAUSE_EXCEPTION: Context[Listed[RootCauseException]] = Context(
    where="in a root cause's exception block",
    flags=_POSITION_FLAGS,
    numbers=_POSITION_NUMBERS,
    strings={
        "name": lambda listed: (listed.item.name,),
        "message": lambda listed: (listed.item.message,),
    },
)

CAUSES: Mapping[tuple[CauseKind, CausePart], Context[Any]] = {
    ("fault", "service"): CAUSE_SERVICE,
    ("fault", "entity"): CAUSE_ENTITY,
    ("fault", "exception"): CAUSE_EXCEPTION,
    ("error", "service"): CAUSE_SERVICE,
    ("error", "entity"): CAUSE_ENTITY,
    ("error", "exception"): CAUSE_EXCEPTION,
    ("responsetime", "service"): CAUSE_SERVICE,
    ("responsetime", "entity"): CAUSE_TIME_ENTITY,
}
"""The context of each root cause block, by kind and part; there are no others."""

COMPLEX_KEYWORDS = (
    "service",
    "edge",
    *(f"rootcause.{kind}.{part}" for kind, part in CAUSES),
    "json",
    "rootcause.json",
    "rootcause.fault.json",
    "rootcause.error.json",
    "rootcause.responsetime.json",
    "group.name",
    "group.arn",
)
"""Keywords with a syntax of their own; they stand outside blocks only. `annotation` is another."""
