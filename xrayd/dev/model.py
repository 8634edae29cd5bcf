"""The compiled trace: what documents become, and what summaries, filters and graphs are read from.

A `Document` is the wire form of a segment or subsegment; decoding into it drops every field outside
AWS's segment schema, and encoding it again drops what is absent. An `Entity` is one segment or
subsegment in its place in the trace. A `Trace` holds its segments (each the root of a tree of
entities), the service nodes they belong to and the calls between those nodes.

Nothing here points upwards, so nothing is cyclic: parents are found by id in `Trace.entities`.
That is also why the structs are built with `gc=False`; a server compiles a great many of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from xrayd.dev.causes import FaultCause, TimeCause

MISSING_TIME = -1.0
"""A `start_time` that was not sent. No accepted document carries it."""

AnnotationValue: TypeAlias = str | int | float | bool
"""Annotation values X-Ray indexes; documents may hold others, which are dropped."""


class HttpRequest(msgspec.Struct, omit_defaults=True, gc=False):
    """`http.request` as sent: `method` may be lower case, `client_ip` a whole forwarding list."""

    method: str | None = None
    url: str | None = None
    user_agent: str | None = None
    client_ip: str | None = None
    x_forwarded_for: bool | None = None
    traced: bool | None = None


class HttpResponse(msgspec.Struct, omit_defaults=True, gc=False):
    """`http.response`: the status code, an integer of the model (32 bits) as summaries show it, and
    the body's length in bytes (-1 where unknown).
    """

    status: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    content_length: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None


class Http(msgspec.Struct, omit_defaults=True, gc=False):
    """The `http` block; either half may be absent."""

    request: HttpRequest | None = None
    response: HttpResponse | None = None


class Link(msgspec.Struct, omit_defaults=True, gc=False):
    """A reference to a segment or subsegment of another trace (AWS trace linking)."""

    trace_id: str = ""
    id: str = ""
    attributes: dict[str, Any] | None = None


class Document(msgspec.Struct, omit_defaults=True, gc=False):
    """One segment or subsegment as sent, reduced to the fields of AWS's segment schema.

    Empty strings and `MISSING_TIME` stand for fields that were not sent. Times are epoch seconds.
    `aws`, `sql`, `service` and `cause` stay open mappings because clients put more into them than
    is documented; `metadata` stays the bytes that were sent because nothing reads it.
    """

    name: str = ""
    id: str = ""
    trace_id: str = ""
    parent_id: str = ""
    type: str = ""  # "subsegment" on independent subsegments only
    start_time: float = MISSING_TIME
    end_time: float | None = None
    in_progress: bool | None = None
    inferred: bool | None = None  # set by the server, never read from a sender
    origin: str | None = None
    namespace: str | None = None
    resource_arn: str | None = None
    user: str | None = None
    fault: bool | None = None
    error: bool | None = None
    throttle: bool | None = None
    traced: bool | None = None
    http: Http | None = None
    aws: dict[str, Any] | None = None
    sql: dict[str, Any] | None = None
    service: dict[str, Any] | None = None
    cause: str | dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    metadata: msgspec.Raw = msgspec.Raw()
    precursor_ids: list[str] | None = None
    links: list[Link] | None = None
    subsegments: list[Document] = []

    @property
    def is_subsegment(self) -> bool:
        """Whether this is an independent subsegment (`type: "subsegment"`)."""
        return self.type == "subsegment"

    @property
    def is_in_progress(self) -> bool:
        """Whether the work has not ended: flagged so, or without an end time."""
        return self.in_progress is True or self.end_time is None


class StatusClass(StrEnum):
    """The one class a request is counted in, though its flags may say several."""

    OK = "ok"
    ERROR = "error"
    THROTTLE = "throttle"
    FAULT = "fault"


class Entity(msgspec.Struct, gc=False):
    """A segment or subsegment in its place.

    Attributes:
        document: What was sent (or made up, for inferred and placeholder segments). Its
            `subsegments` are already re-nested: the documents of `children`, in that order.
        is_segment: True for segments (also inferred and placeholder ones).
        parent_id: Id of the entity it hangs on, "" for none. May name one that never arrived.
        segment_id: Id of the segment it belongs to; a segment's own id; "" below `Trace.orphans`.
        children: Subsegments directly inside, by start time. Never segments.
        inferred: A segment made up for a downstream that sent none of its own.
        placeholder: A segment made up for subsegments whose parent never arrived.
        fault: Effective flag: as sent, else status 5xx.
        error: Effective flag: as sent, else status 4xx.
        throttle: Effective flag: as sent, else status 429.
    """

    document: Document
    is_segment: bool
    parent_id: str
    segment_id: str
    children: list[Entity]
    inferred: bool
    placeholder: bool
    fault: bool
    error: bool
    throttle: bool

    @property
    def id(self) -> str:
        """Segment or subsegment id, 16 hex digits in well-formed documents."""
        return self.document.id

    @property
    def name(self) -> str:
        """Name as sent. Service names are the node's: see `Node.name`."""
        return self.document.name

    @property
    def start(self) -> float:
        """Start in epoch seconds."""
        return self.document.start_time

    @property
    def end(self) -> float | None:
        """End in epoch seconds, never before `start`; None while in progress."""
        document = self.document
        if document.in_progress is True or document.end_time is None:
            return None
        return max(document.start_time, document.end_time)

    @property
    def in_progress(self) -> bool:
        """Whether it has not ended."""
        return self.document.is_in_progress

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, unrounded; None while in progress."""
        document = self.document
        if document.in_progress is True or document.end_time is None:
            return None
        return max(0.0, document.end_time - document.start_time)

    @property
    def ok(self) -> bool:
        """Whether none of fault, error and throttle holds."""
        return not (self.fault or self.error or self.throttle)

    @property
    def is_remote(self) -> bool:
        """Whether it is a call to another service (namespace `aws` or `remote`)."""
        return self.document.namespace in ("aws", "remote")

    @property
    def request(self) -> HttpRequest | None:
        """`http.request`, if sent."""
        return None if self.document.http is None else self.document.http.request

    @property
    def status(self) -> int | None:
        """`http.response.status`, if sent."""
        http = self.document.http
        return None if http is None or http.response is None else http.response.status

    @property
    def status_class(self) -> StatusClass:
        """The class this request counts in: the status decides where it says 4xx or 5xx."""
        status = self.status
        if status is not None and status >= 500:
            return StatusClass.FAULT
        if status == 429:
            return StatusClass.THROTTLE
        if status is not None and status >= 400:
            return StatusClass.THROTTLE if self.document.throttle else StatusClass.ERROR
        if self.fault:
            return StatusClass.FAULT
        if self.throttle:
            return StatusClass.THROTTLE
        return StatusClass.ERROR if self.error else StatusClass.OK

    @property
    def annotations(self) -> dict[str, AnnotationValue]:
        """Its own annotations whose values X-Ray keeps: strings, numbers and booleans."""
        sent = self.document.annotations
        if not sent:
            return {}
        return {key: value for key, value in sent.items() if isinstance(value, (str, int, float))}

    def walk(self) -> Iterator[Entity]:
        """This entity and every subsegment below it, parents before children."""
        stack = [self]
        while stack:
            entity = stack.pop()
            yield entity
            stack.extend(reversed(entity.children))


NodeState = Literal["active", "unknown"]


class Node(msgspec.Struct, gc=False):
    """A service of the trace. Its key is (`name`, `type`, `account_id`).

    Attributes:
        name: Canonical service name: the segment's, or the resource's (a DynamoDB table's).
        type: The segment's origin, `client`, `remote`, `Database::SQL`, `AWS::…`, or "".
        account_id: AWS account that owns it, "" if unknown.
        names: `name` first, then other names it was seen under, sorted.
        state: `active` when segments of its own arrived; `unknown` for clients and for
            downstreams known from their callers only.
        is_root: Whether the trace's root segment belongs to it.
        segments: Its segments; inferred ones for downstreams, none for a client.
    """

    name: str
    type: str
    account_id: str
    names: list[str]
    state: NodeState
    is_root: bool
    segments: list[Entity]

    @property
    def key(self) -> tuple[str, str, str]:
        """(name, type, account id)."""
        return (self.name, self.type, self.account_id)


class Call(msgspec.Struct, gc=False):
    """One request from a node to a node.

    Attributes:
        source: The caller; a node of type `client` for root segments.
        target: The callee.
        entity: What the call is measured by: the caller's subsegment, or the callee's own segment
            when the caller is a client or a segment (Lambda).
        segment: The callee's segment, real or inferred.
    """

    source: Node
    target: Node
    entity: Entity
    segment: Entity


class TraceLink(msgspec.Struct, gc=False):
    """A link from a segment of this trace to (a segment of) the trace that caused it.

    Attributes:
        trace_id: The linked trace, X-Ray form, lower case.
        id: The linked segment's or subsegment's id.
        node: The node here that the link arrives at.
        segment: The segment here that carries the link.
    """

    trace_id: str
    id: str
    node: Node
    segment: Entity


class Trace(msgspec.Struct, gc=False):
    """Everything known about one trace.

    Attributes:
        id: X-Ray form, lower case.
        revision: Grows as documents arrive.
        segments: Real, placeholder and inferred segments by start time; trees of subsegments.
        root: The entry point's segment, None while no segment is known.
        entities: Every entity by id: those of `segments` and `orphans`, whole trees.
        orphans: Subsegments whose parent has not arrived and has no placeholder yet.
        nodes: Services, in order of first appearance; includes the client nodes.
        calls: Requests between nodes, by the start of what they are measured by.
        links: References to other traces.
        start: Earliest segment start, epoch seconds; of orphans when there is no segment.
        end: Latest end of any segment or subsegment, epoch seconds; `start` when nothing ended.
        response_time: The root segment's seconds; None while it is in progress or absent.
        is_partial: Something is in progress, made up in place of its parent, or there is no root.
        has_fault: The root segment's effective flag.
        has_error: The root segment's effective flag.
        has_throttle: Whether any segment was throttled.
        annotations: Distinct values by key, of all entities; what X-Ray indexes, so at most 50
            keys, made of letters, digits, `_` and `.`, and no string over 1000 characters.
        users: Distinct users of all segments.
        resource_arns: Distinct ARNs of the resources the segments ran on.
        instance_ids: Distinct EC2 instance ids.
        availability_zones: Distinct availability zones.
        fault_causes: Paths of faults; see `FaultCause`.
        error_causes: Paths of errors.
        response_time_causes: At most one path, when the root was slow.
    """

    id: str
    revision: int
    segments: list[Entity]
    root: Entity | None
    entities: dict[str, Entity]
    orphans: list[Entity]
    nodes: list[Node]
    calls: list[Call]
    links: list[TraceLink]
    start: float
    end: float
    response_time: float | None
    is_partial: bool
    has_fault: bool
    has_error: bool
    has_throttle: bool
    annotations: dict[str, list[AnnotationValue]]
    users: list[str]
    resource_arns: list[str]
    instance_ids: list[str]
    availability_zones: list[str]
    fault_causes: list[FaultCause]
    error_causes: list[FaultCause]
    response_time_causes: list[TimeCause]

    @property
    def duration(self) -> float:
        """Seconds from the earliest start to the latest end, unrounded."""
        return max(0.0, self.end - self.start)

    @property
    def ok(self) -> bool:
        """Whether the root has no fault, error or throttle (False without a root)."""
        return self.root is not None and self.root.ok

    @property
    def has_inferred(self) -> bool:
        """Whether any segment is inferred."""
        return any(segment.inferred for segment in self.segments)
