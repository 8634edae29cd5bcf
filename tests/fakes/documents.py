"""Segment documents and the datagrams that carry them, as an X-Ray SDK makes them."""

import json
import secrets
import time
from typing import Any

HEADER = b'{"format":"json","version":1}\n'
"""The line every SDK puts before the document (AWS X-Ray Developer Guide)."""


def make_document(*, size: int | None = None, **fields: Any) -> str:
    """A complete segment with ids of its own; `fields` are added or replace, None removes.

    `size` pads the document with metadata to exactly that many bytes.
    """
    now = time.time()
    segment: dict[str, Any] = {
        "trace_id": f"1-{int(now):08x}-{secrets.token_hex(12)}",
        "id": secrets.token_hex(8),
        "name": "test-service",
        "start_time": round(now - 0.1, 3),
        "end_time": round(now, 3),
    }
    segment.update(fields)
    segment = {name: value for name, value in segment.items() if value is not None}
    if size is None:
        return _dump(segment)
    segment["metadata"] = {"default": {"padding": ""}}
    missing = size - len(_dump(segment).encode())
    assert missing >= 0, f"a document with these fields has at least {size - missing} bytes"
    segment["metadata"]["default"]["padding"] = "x" * missing
    return _dump(segment)


def _dump(segment: dict[str, Any]) -> str:
    return json.dumps(segment, separators=(",", ":"), ensure_ascii=False)


def document_id(document: str) -> str:
    """The segment id; the document itself where it is no JSON object or has none."""
    try:
        segment = json.loads(document)
    except ValueError:
        return document
    return segment.get("id", document) if isinstance(segment, dict) else document


def make_datagram(document: str | bytes, header: bytes = HEADER) -> bytes:
    """Header line and document, as one datagram."""
    return header + (document.encode() if isinstance(document, str) else document)
