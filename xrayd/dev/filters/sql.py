"""A filter expression as an SQL condition that no matching trace fails.

The store keeps, beside the documents, an index of each trace in four tables. Their names and
columns are the constants below, the only place they are agreed on; the store creates them, fills
them from the compiled trace whenever its documents change, and splices `Prefilter.where` in:

    SELECT t.id FROM trace AS t
    WHERE t.start_time >= :start AND t.start_time < :end AND (<where>)
    ORDER BY t.start_time DESC, ... LIMIT ...

When `exact` is true, the rows of that query are the answer. Otherwise the predicate of
`evaluate.compile` still has to look at each row's trace; it never finds one that the query left
out. Indexes the conditions can use: `node(trace_id)`, `annotation(trace_id, key)`,
`label(trace_id, kind)`, besides whatever the window needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# trace: one row for each trace, alias `t` in the conditions. NULL: the trace has no such value.
TRACE_TABLE = "trace"
TRACE_COLUMNS = {
    "id": "INTEGER PRIMARY KEY",  # what the other tables' trace_id points at
    "start_time": "REAL",  # epoch seconds; the window, never part of a filter expression
    "end_time": "REAL",
    "duration": "REAL",  # seconds, earliest start to last end
    "response_time": "REAL",  # seconds, the root segment's
    "is_ok": "INTEGER",  # 0 or 1, as all of is_ and has_: the root has no error, fault, throttle
    "has_error": "INTEGER",  # TraceSummary.HasError: the root's flag
    "has_fault": "INTEGER",  # TraceSummary.HasFault: the root's flag
    "has_throttle": "INTEGER",  # TraceSummary.HasThrottle: any segment's
    "is_partial": "INTEGER",
    "has_inferred": "INTEGER",  # some segment is inferred
    "has_fault_cause": "INTEGER",  # FaultRootCauses is not empty
    "has_error_cause": "INTEGER",
    "has_response_time_cause": "INTEGER",
    "http_status": "INTEGER",  # the root's http block, as in TraceSummary.Http
    "http_method": "TEXT",
    "http_url": "TEXT",
    "http_user_agent": "TEXT",
    "http_client_ip": "TEXT",
}

# node: one row for each segment of the compiled trace, real, inferred or placeholder: the node it
# belongs to, its own data, and the one call that led to it (for a root: the client's).
NODE_TABLE = "node"
NODE_COLUMNS = {
    "trace_id": "INTEGER",
    "name": "TEXT",
    "type": "TEXT",  # "" for an untyped node
    "account_id": "TEXT",  # NULL when unknown
    "is_ok": "INTEGER",
    "has_error": "INTEGER",
    "has_fault": "INTEGER",
    "has_throttle": "INTEGER",
    "is_partial": "INTEGER",
    "is_root": "INTEGER",
    "is_inferred": "INTEGER",
    "response_time": "REAL",  # seconds; NULL in progress
    "http_status": "INTEGER",
    "caller_name": "TEXT",  # NULL when nothing in the trace called it
    "caller_type": "TEXT",
    "caller_account_id": "TEXT",
    "call_ok": "INTEGER",
    "call_error": "INTEGER",
    "call_fault": "INTEGER",
    "call_throttle": "INTEGER",
    "call_response_time": "REAL",
    "call_http_status": "INTEGER",
}

# annotation: one row for each distinct key and value of a trace (the 50 indexed keys). Exactly one
# of the three value columns is not NULL.
ANNOTATION_TABLE = "annotation"
ANNOTATION_COLUMNS = {
    "trace_id": "INTEGER",
    "key": "TEXT",
    "string_value": "TEXT",
    "number_value": "REAL",
    "boolean_value": "INTEGER",
}

# label: one row for each distinct other string that any segment of a trace carries. `kind` is the
# filter keyword: user, availabilityzone, instance.id, resource.arn.
LABEL_TABLE = "label"
LABEL_COLUMNS = {
    "trace_id": "INTEGER",
    "kind": "TEXT",
    "value": "TEXT",
}


@dataclass(frozen=True, slots=True)
class Prefilter:
    """An SQL condition over the tables above.

    Attributes:
        where: the condition, never NULL in value; "1" when nothing can be said.
        parameters: values of its named parameters (`:filter_0`, `:filter_1`, …).
        exact: whether the condition alone decides, so that no predicate is needed.
    """

    where: str = "1"
    parameters: Mapping[str, str | float] = field(default_factory=dict)
    exact: bool = True
