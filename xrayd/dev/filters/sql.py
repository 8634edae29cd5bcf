"""The index of a trace that filter expressions are looked up in: its tables and their rows.

The tables are agreed on here only: the store creates them, and replaces a trace's rows by
`index_rows` whenever its documents change; the conditions of `prefilter` read them. NULL means
that the trace, segment or call has no such value. The first column of each table is the store's own
number of the trace. Columns and indexes that the store adds for itself do no harm; useful for the
conditions is that the rows of one trace can be found by `trace_id`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from xrayd.dev.filters import contexts
from xrayd.dev.model import Call, Entity, Node, Trace

Value: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[Value, ...]

# One row for each trace, known as `t` in conditions.
TRACE_TABLE = "trace"
TRACE_COLUMNS: Mapping[str, str] = {
    "id": "INTEGER PRIMARY KEY",  # what the other tables' trace_id points at
    "start_time": "REAL",  # epoch seconds; for the window, never part of a filter expression
    "end_time": "REAL",
    "duration": "REAL",  # seconds, earliest start to latest end
    "response_time": "REAL",  # seconds, the root segment's
    "is_ok": "INTEGER",  # 0 or 1, as all is_, has_ and call_ok … call_throttle
    "has_error": "INTEGER",  # the root's flag
    "has_fault": "INTEGER",  # the root's flag
    "has_throttle": "INTEGER",  # any segment's flag
    "is_partial": "INTEGER",
    "has_inferred": "INTEGER",
    "has_fault_cause": "INTEGER",
    "has_error_cause": "INTEGER",
    "has_response_time_cause": "INTEGER",
    "http_status": "REAL",  # of the root, as the next four
    "http_method": "TEXT",  # upper case
    "http_url": "TEXT",
    "http_user_agent": "TEXT",
    "http_client_ip": "TEXT",
}

# One row for each segment of a trace with its node and the call that led to it (a client's, for a
# root), and one for each node without segments.
NODE_TABLE = "node"
NODE_COLUMNS: Mapping[str, str] = {
    "trace_id": "INTEGER",
    "name": "TEXT",
    "names": "TEXT",  # all of them, see `encode_names`; NULL when there is only one
    "type": "TEXT",  # "" for an untyped node
    "account_id": "TEXT",  # "" when unknown
    "is_ok": "INTEGER",  # from here: the segment; all NULL for a node without segments
    "has_error": "INTEGER",
    "has_fault": "INTEGER",
    "has_throttle": "INTEGER",
    "is_partial": "INTEGER",
    "is_root": "INTEGER",
    "is_inferred": "INTEGER",
    "response_time": "REAL",
    "duration": "REAL",
    "http_status": "REAL",
    "caller_name": "TEXT",  # from here: the call; all NULL for a segment that nothing called
    "caller_names": "TEXT",
    "caller_type": "TEXT",
    "caller_account_id": "TEXT",
    "call_ok": "INTEGER",
    "call_error": "INTEGER",
    "call_fault": "INTEGER",
    "call_throttle": "INTEGER",
    "call_response_time": "REAL",
    "call_http_status": "REAL",
}

# One row for each indexed key and value of a trace.
ANNOTATION_TABLE = "annotation"
ANNOTATION_COLUMNS: Mapping[str, str] = {
    "trace_id": "INTEGER",
    "key": "TEXT",
    "string_value": "TEXT",  # exactly one of the three is not NULL
    "number_value": "REAL",
    "boolean_value": "INTEGER",
}

# One row for each other string that a trace may have several of.
LABEL_TABLE = "label"
LABEL_COLUMNS: Mapping[str, str] = {
    "trace_id": "INTEGER",
    "kind": "TEXT",  # the filter keyword: user, availabilityzone, instance.id, resource.arn
    "value": "TEXT",
}


@dataclass(frozen=True, slots=True)
class IndexRows:
    """What the index holds of one trace: values in the order of the columns above.

    The first column, which numbers the trace, is left to the store.
    """

    trace: Row
    nodes: list[Row]
    annotations: list[Row]
    labels: list[Row]


def index_rows(trace: Trace) -> IndexRows:
    """The rows of `trace`."""
    return IndexRows(
        trace=_trace_row(trace),
        nodes=list(_node_rows(trace)),
        annotations=list(_annotation_rows(trace)),
        labels=list(_label_rows(trace)),
    )


def encode_names(names: list[str]) -> str | None:
    """All names of a node that has several, as one text: `,"users","DynamoDB",`; else None."""
    if len(names) < 2:
        return None
    return f",{','.join(json.dumps(name) for name in names)},"


def encode_name(name: str) -> str:
    """What `encode_names` contains if and only if `name` is among the names."""
    return f",{json.dumps(name)},"


def as_number(value: float | None) -> float | None:
    """A number as X-Ray compares it: a double. Not-a-number is no value."""
    if value is None:
        return None
    try:
        number = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return None if math.isnan(number) else number


def _trace_row(trace: Trace) -> Row:
    request = None if trace.root is None else trace.root.request
    method = None if request is None else request.method
    return (
        trace.start,
        trace.end,
        trace.duration,
        as_number(trace.response_time),
        int(trace.ok),
        int(trace.has_error),
        int(trace.has_fault),
        int(trace.has_throttle),
        int(trace.is_partial),
        int(trace.has_inferred),
        int(bool(trace.fault_causes)),
        int(bool(trace.error_causes)),
        int(bool(trace.response_time_causes)),
        as_number(None if trace.root is None else trace.root.status),
        None if method is None else (method.upper()),
        None if request is None else (request.url),
        None if request is None else (request.user_agent),
        None if request is None else (request.client_ip),
    )


def _node_rows(trace: Trace) -> Iterator[Row]:
    calls: dict[str, list[Call]] = {}
    for call in trace.calls:
        calls.setdefault(call.segment.id, []).append(call)
    for node in trace.nodes:
        head = ((node.name), encode_names(node.names), (node.type), (node.account_id))
        if not node.segments:
            yield (*head, *_NO_SEGMENT, *_NO_CALL)
        for segment in node.segments:
            state = _segment_columns(node, segment)
            incoming = calls.get(segment.id)
            if incoming is None:
                yield (*head, *state, *_NO_CALL)
            else:
                for call in incoming:
                    yield (*head, *state, *_call_columns(call))


_NO_SEGMENT: Row = (None,) * 10
_NO_CALL: Row = (None,) * 10


def _segment_columns(node: Node, segment: Entity) -> Row:
    return (
        int(segment.ok),
        int(segment.error),
        int(segment.fault),
        int(segment.throttle),
        int(contexts.segment_is_partial(segment)),
        int(node.is_root),
        int(segment.inferred),
        as_number(segment.duration),
        as_number(contexts.segment_duration(segment)),
        as_number(segment.status),
    )


def _call_columns(call: Call) -> Row:
    return (
        (call.source.name),
        encode_names(call.source.names),
        (call.source.type),
        (call.source.account_id),
        int(call.entity.ok),
        int(call.entity.error),
        int(call.entity.fault),
        int(call.entity.throttle),
        as_number(call.entity.duration),
        as_number(call.entity.status),
    )


def _annotation_rows(trace: Trace) -> Iterator[Row]:
    for key, values in trace.annotations.items():
        for value in values:
            if isinstance(value, str):
                yield ((key), (value), None, None)
            elif isinstance(value, bool):
                yield ((key), None, None, int(value))
            else:
                yield ((key), None, as_number(value), None)


def _label_rows(trace: Trace) -> Iterator[Row]:
    labels = {
        "user": trace.users,
        "availabilityzone": trace.availability_zones,
        "instance.id": trace.instance_ids,
        "resource.arn": trace.resource_arns,
    }
    for kind, values in labels.items():
        for value in values:
            yield (kind, (value))
