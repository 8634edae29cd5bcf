"""What the daemon's own sampling reads of a document; the caller decodes it."""

from __future__ import annotations

from msgspec import Struct


class Document(Struct, frozen=True):
    """What a decision reads of a segment document. None: absent. Never an empty string.

    Attributes:
        trace_id: as in the document.
        parent_id: the caller's segment or subsegment.
        type: `subsegment`, or None for a segment.
        in_progress: whether it is not complete.
        sdk_rule: `aws.xray.sampling_rule_name` (Python, .NET) or `aws.xray.rule_name` (Node).
        name: the service name.
        origin: the service type.
        host: of `http.request.url`, see `matching.host_and_path`.
        method: `http.request.method`.
        url_path: of `http.request.url`.
        resource_arn: as in the document.
    """

    trace_id: str | None
    parent_id: str | None = None
    type: str | None = None
    in_progress: bool = False
    sdk_rule: str | None = None
    name: str | None = None
    origin: str | None = None
    host: str | None = None
    method: str | None = None
    url_path: str | None = None
    resource_arn: str | None = None


class OtlpDocument(Struct, frozen=True):
    """What a decision reads of an OTLP payload.

    Attributes:
        is_sampled: `T1S`, not `T1U`.
        trace_ids: of all spans in it, 32 hex digits or in X-Ray's form.
    """

    is_sampled: bool
    trace_ids: tuple[str, ...]
