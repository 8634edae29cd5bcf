"""Which traces an OTLP payload belongs to: just enough of protobuf to find the ids.

`T1S…` and `T1U…` are base64 of an `ExportTraceServiceRequest` (opentelemetry-proto), in which
resource_spans = 1, scope_spans = 2, spans = 2 and trace_id = 1.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from xrayd.sampling.document import OtlpDocument

_PATH_TO_SPANS = (1, 2, 2)
_TRACE_ID = 1
_LENGTH_DELIMITED = 2


def read_otlp(document: bytes) -> OtlpDocument | None:
    """The flag and trace ids of a `T1S` or `T1U` document; None for any other, or a broken one."""
    flag = document[:3]
    if flag not in (b"T1S", b"T1U"):
        return None
    try:
        messages = [base64.b64decode(document[3:], validate=True)]
        for number in _PATH_TO_SPANS:
            messages = [part for message in messages for part in _fields(message, number)]
        ids = {trace_id.hex() for span in messages for trace_id in _fields(span, _TRACE_ID)}
    except (IndexError, ValueError):  # bad base64 is a ValueError
        return None
    return OtlpDocument(is_sampled=flag == b"T1S", trace_ids=tuple(sorted(ids)))


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """The length-delimited fields of a number.

    Raises:
        ValueError: no protobuf.
        IndexError: it is cut short.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == _LENGTH_DELIMITED:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("a field is longer than its message")
            if tag >> 3 == wanted:
                yield message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")
