"""The few fields of a document that the relay reads. It never re-encodes one."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a forwarded document is, as far as its bytes tell."""

    SEGMENT = "segment"
    SUBSEGMENT = "subsegment"
    OTLP_SAMPLED = "otlp_sampled"
    OTLP_UNSAMPLED = "otlp_unsampled"
    OTLP_OTHER = "otlp_other"
    UNREADABLE = "unreadable"


class Head(msgspec.Struct, gc=False):
    """A typed decode of a document's outermost fields; absent ones are empty.

    Source: AWS X-Ray Developer Guide, "X-Ray segment documents".
    """

    id: str = ""
    trace_id: str = ""
    name: str = ""
    type: str = ""
    in_progress: bool = False


# surrogateescape turns each undecodable byte into one of these.
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


class _Start(msgspec.Struct, gc=False):
    start_time: float | None = None


_decode_head = msgspec.json.Decoder(Head).decode
_decode_start = msgspec.json.Decoder(_Start).decode

# AWS's OpenTelemetry distributions write base64 OTLP behind these words: sampled traces, traces
# not sampled, traces, metrics.
_OTLP_KINDS = (
    (b"T1S", Kind.OTLP_SAMPLED),
    (b"T1U", Kind.OTLP_UNSAMPLED),
    (b"T1", Kind.OTLP_OTHER),
    (b"M1", Kind.OTLP_OTHER),
)


def read_head(document: bytes) -> Head | None:
    """Decode the fields the relay knows, or None where the document cannot be read."""
    try:
        return _decode_head(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_start(document: bytes) -> float | None:
    """When a document's segment began, in epoch seconds by its sender's clock; None if not said."""
    try:
        return _decode_start(document).start_time
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def kind_of(document: bytes, head: Head | None) -> Kind:
    """Name what a document is. `head` is what `read_head` made of it."""
    if head is not None:
        return Kind.SUBSEGMENT if head.type == "subsegment" else Kind.SEGMENT
    for word, kind in _OTLP_KINDS:
        if document.startswith(word):
            return kind
    return Kind.UNREADABLE


def to_text(document: bytes) -> tuple[str, bool]:
    """The document as text for a JSON string, and whether bytes had to be replaced.

    Bytes that are no UTF-8 cannot travel in JSON; each becomes U+FFFD, as Go's encoder has it.
    """
    try:
        return document.decode(), False
    except UnicodeDecodeError:
        pass
    escaped = document.decode("utf-8", "surrogateescape")
    return _ESCAPED_BYTE.sub("\ufffd", escaped), True
