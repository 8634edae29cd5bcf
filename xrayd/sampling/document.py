"""What the daemon's own sampling reads of a document; the caller decodes it."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class HttpRequest(Protocol):
    """`http.request`; texts are "" where the document has none."""

    @property
    def url(self) -> str:
        """As in the document."""

    @property
    def method(self) -> str:
        """As in the document."""


class Http(Protocol):
    """`http`."""

    @property
    def request(self) -> HttpRequest | None:
        """None where the document has none."""


class Document(Protocol):
    """What a decision reads of a segment document. Texts are "" where the document has none.

    It is what the relay decodes anyway: nothing is copied for a decision.
    """

    @property
    def trace_id(self) -> str:
        """As in the document."""

    @property
    def parent_id(self) -> str:
        """The caller's segment or subsegment."""

    @property
    def name(self) -> str:
        """The service."""

    @property
    def origin(self) -> str:
        """The service's type."""

    @property
    def resource_arn(self) -> str:
        """The ARN of what ran."""

    @property
    def http(self) -> Http | None:
        """None where the document has none."""

    @property
    def type(self) -> str:
        """`subsegment`, or "" for a segment."""

    @property
    def in_progress(self) -> bool:
        """Whether it is not complete."""

    def sdk_rule(self) -> str:
        """`aws.xray.sampling_rule_name` (Python, .NET) or `aws.xray.rule_name` (Node)."""


class OtlpDocument(Struct, frozen=True):
    """What a decision reads of an OTLP payload.

    Attributes:
        is_sampled: `T1S`, not `T1U`.
        trace_ids: of all spans in it, 32 hex digits or in X-Ray's form.
    """

    is_sampled: bool
    trace_ids: tuple[str, ...]
