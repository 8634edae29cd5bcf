"""A trace as GetTraceSummaries and BatchGetTraces give it."""

from __future__ import annotations

from copy import copy
from typing import Any

import msgspec

from xrayd.dev.model import AnnotationValue, Document, Entity, Node, Trace

TRACE_BYTES_MAX = 500_000
"""Size in bytes from which `LimitExceeded` is said; X-Ray stops keeping more (AWS quotas)."""


def summarize(trace: Trace, *, matched_event_time: float | None = None) -> dict[str, Any]:
    """The `TraceSummary` of a trace. Times are rounded to milliseconds, here and only here.

    Args:
        trace: The trace.
        matched_event_time: Epoch seconds of the event that a search by event time found.
    """
    root = trace.root
    summary: dict[str, Any] = {
        "Id": trace.id,
        "StartTime": round(trace.start, 3),
        "Duration": round(trace.duration, 3),
        "HasFault": trace.has_fault,
        "HasError": trace.has_error,
        "HasThrottle": trace.has_throttle,
        "IsPartial": trace.is_partial,
        "Http": {} if root is None else _summarize_http(root),
        "Annotations": {
            key: [{"AnnotationValue": _tag_value(value), "ServiceIds": []} for value in values]
            for key, values in trace.annotations.items()
        },
        "Users": [{"UserName": user, "ServiceIds": []} for user in trace.users],
        "ServiceIds": [describe_service(node) for node in trace.nodes],
        "ResourceARNs": [{"ARN": arn} for arn in trace.resource_arns],
        "InstanceIds": [{"Id": id_} for id_ in trace.instance_ids],
        "AvailabilityZones": [{"Name": zone} for zone in trace.availability_zones],
        "FaultRootCauses": msgspec.to_builtins(trace.fault_causes),
        "ErrorRootCauses": msgspec.to_builtins(trace.error_causes),
        "ResponseTimeRootCauses": msgspec.to_builtins(trace.response_time_causes),
        "Revision": trace.revision,
    }
    if trace.response_time is not None:
        summary["ResponseTime"] = round(trace.response_time, 3)
    for node in trace.nodes:
        if node.is_root:
            summary["EntryPoint"] = describe_service(node)
    if matched_event_time is not None:
        summary["MatchedEventTime"] = round(matched_event_time, 3)
    return summary


def render_trace(trace: Trace) -> dict[str, Any]:
    """The `Trace` of BatchGetTraces: each segment's document as a JSON string, by start time.

    The documents hold all their subsegments, also those that were sent separately, and nothing
    that is null or outside X-Ray's schema.
    """
    segments = [
        {"Id": segment.id, "Document": render_document(segment.document)}
        for segment in trace.segments
    ]
    return {
        "Id": trace.id,
        "Duration": round(trace.duration, 3),
        "LimitExceeded": sum(len(item["Document"].encode()) for item in segments) > TRACE_BYTES_MAX,
        "Segments": segments,
    }


def render_document(document: Document) -> str:
    """One segment document, cleaned, as JSON."""
    return msgspec.json.encode(_clean(document)).decode()


def describe_service(node: Node) -> dict[str, Any]:
    """The `ServiceId` of a node; without an `AccountId` when it is unknown."""
    service: dict[str, Any] = {"Name": node.name, "Names": node.names, "Type": node.type}
    if node.account_id:
        service["AccountId"] = node.account_id
    return service


def _summarize_http(root: Entity) -> dict[str, Any]:
    request = root.request
    found = {"HttpStatus": root.status} | (
        {}
        if request is None
        else {
            "HttpURL": request.url,
            "HttpMethod": request.method,
            "UserAgent": request.user_agent,
            "ClientIp": request.client_ip,
        }
    )
    return {key: value for key, value in found.items() if value is not None}


def _tag_value(value: AnnotationValue) -> dict[str, AnnotationValue]:
    if isinstance(value, bool):
        return {"BooleanValue": value}
    return {"StringValue" if isinstance(value, str) else "NumberValue": value}


def _clean(document: Document) -> Document:
    clean = copy(document)
    clean.aws = _drop_nulls(document.aws)
    clean.sql = _drop_nulls(document.sql)
    clean.service = _drop_nulls(document.service)
    clean.cause = _drop_nulls(document.cause)
    if document.annotations is not None:
        clean.annotations = {
            key: value
            for key, value in document.annotations.items()
            if isinstance(value, (str, int, float))
        }
    if bytes(document.metadata) == b"null":
        clean.metadata = msgspec.Raw()
    clean.subsegments = [_clean(subsegment) for subsegment in document.subsegments]
    return clean


def _drop_nulls(value: Any) -> Any:
    """Without null members, at any depth; nulls in lists keep their places."""
    if isinstance(value, dict):
        return {key: _drop_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_drop_nulls(item) for item in value]
    return value
