"""OpenTelemetry spans that came as documents: `T1S`, `T1U` or `T1`, then OTLP protobuf in base64.

That is what the OTLP UDP exporters of the AWS Distro for OpenTelemetry send: traces that were
sampled (`T1S`; `T1` from older ones) and traces that were not (`T1U`). `M1` carries metrics.
The protobuf classes are imported when the first such document comes, which may be never.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from xrayd.dev.documents import Accepted, Rejected, RejectionCode, parse_documents
from xrayd.dev.spans import Span, SpanEvent, SpanKind, SpanLink, convert_span

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
    )
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

_NANOSECONDS = 1_000_000_000
_KINDS = {2: SpanKind.SERVER, 3: SpanKind.CLIENT, 4: SpanKind.PRODUCER, 5: SpanKind.CONSUMER}
_STATUS_ERROR = 2
_DEPTH_MAX = 20
_HAS_IS_REMOTE = 0x100
_IS_REMOTE = 0x200


class Payload(msgspec.Struct, gc=False):
    """What an OTLP document holds.

    Attributes:
        verdicts: On each segment document made from it; one refusal if it cannot be read.
        unsampled: Spans of traces that were not sampled: to be counted, never shown.
    """

    verdicts: list[Accepted | Rejected]
    unsampled: int


def is_otlp(text: str) -> bool:
    """Whether a document string is OTLP and not JSON."""
    return text.startswith(("T1", "M1"))


def read_payload(text: str) -> Payload:
    """Turn an OTLP document (`is_otlp`) into segment documents. Metrics are passed over."""
    if text.startswith("M1"):
        return Payload([], 0)
    is_sampled = not text.startswith("T1U")
    encoded = text[3:] if text.startswith(("T1S", "T1U")) else text[2:]
    request = _decode(encoded)
    if request is None:
        message = f"Invalid segment. ErrorCode: {RejectionCode.PARSE_ERROR}"
        return Payload([Rejected(None, RejectionCode.PARSE_ERROR, message)], 0)
    spans = _read_spans(request)
    if not is_sampled:
        return Payload([], len(spans))
    verdicts: list[Accepted | Rejected] = []
    for span in spans:
        for document in convert_span(span):
            # Judged like any other document: what X-Ray would refuse is refused here too.
            verdicts.extend(parse_documents(msgspec.json.encode(document).decode()))
    return Payload(verdicts, 0)


def _decode(encoded: str) -> ExportTraceServiceRequest | None:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - only where OTLP is sent
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415

    try:
        request = trace_service_pb2.ExportTraceServiceRequest()
        request.ParseFromString(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return None
    return request


def _read_spans(request: ExportTraceServiceRequest) -> list[Span]:
    found: list[Span] = []
    for resource_spans in request.resource_spans:
        resource = _read_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            found += [_read_span(span, resource) for span in scope_spans.spans]
    return found


def _read_span(span: ProtoSpan, resource: dict[str, Any]) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        is_parent_remote=bool(span.flags & _IS_REMOTE) if span.flags & _HAS_IS_REMOTE else None,
        name=span.name,
        kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
        start=span.start_time_unix_nano / _NANOSECONDS,
        end=span.end_time_unix_nano / _NANOSECONDS if span.end_time_unix_nano else None,
        is_error=span.status.code == _STATUS_ERROR,
        status_message=span.status.message,
        attributes=_read_attributes(span.attributes),
        resource=resource,
        events=[SpanEvent(event.name, _read_attributes(event.attributes)) for event in span.events],
        links=[
            SpanLink(link.trace_id.hex(), link.span_id.hex(), _read_attributes(link.attributes))
            for link in span.links
        ],
    )


def _read_attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _read_value(pair.value, 0) for pair in pairs}


def _read_value(value: AnyValue, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth == _DEPTH_MAX:
        return None
    if kind == "array_value":
        return [_read_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _read_value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind)
