"""Files that traces come in: what `xrayd dev export` writes, BatchGetTraces output, datagrams."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from xrayd.cli.parquet import MAGIC, read_parquet
from xrayd.dev.documents import DOCUMENT_BYTES_MAX
from xrayd.dev.traces import MISSING_PARENT
from xrayd.errors import ConfigError


def read_file(path: Path, advance: Callable[[int], None]) -> Iterator[str]:
    """The documents in a file, as PutTraceSegments takes them.

    Args:
        path: a Parquet or JSON lines file of `xrayd dev export`, JSON of BatchGetTraces or
            PutTraceSegments, JSON lines of documents or of captured datagrams (`b64`).
        advance: told how many bytes of the file were read.

    Raises:
        ConfigError: the file cannot be read or holds something else; naming file and line.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                for text in read_parquet(path):
                    yield from _split(_decode(text), text)
                advance(path.stat().st_size)
                return
            file.seek(0)
            number = 0
            for number, line in enumerate(file, 1):
                try:
                    value = msgspec.json.decode(line) if line.strip() else []
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    if number > 1:
                        raise ConfigError(f"{path} line {number}: this is no JSON") from None
                    break
                yield from _documents(value, f"{path} line {number}")
                advance(len(line))
            else:
                return
            file.seek(0)
            whole = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    try:
        value = msgspec.json.decode(whole)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is neither JSON, JSON lines nor Parquet: {error}") from error
    yield from _documents(value, str(path))
    advance(len(whole))


def _documents(value: Any, place: str) -> Iterator[str]:
    """The documents in one JSON value of any of the known forms."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += reversed(value)
        elif isinstance(value, str):
            yield value
        elif not isinstance(value, dict):
            raise ConfigError(f"{place}: {str(value)[:40]!r} is no trace, document or datagram")
        elif "b64" in value:
            yield _read_datagram(value["b64"], place)
        elif inner := next((k for k in ("Traces", "Segments", "TraceSegmentDocuments")
                            if isinstance(value.get(k), list)), None):  # fmt: skip
            stack += reversed(value[inner])
        elif isinstance(value.get("Document"), str):
            yield from _split(_decode(value["Document"]), value["Document"])
        elif "Document" in value:
            yield from _split(value["Document"])
        elif "trace_id" in value or "id" in value:
            yield from _split(value)
        else:
            raise ConfigError(f"{place}: this is no trace, document or datagram")


def _read_datagram(text: Any, place: str) -> str:
    """A datagram's body: what stands behind the header line, sent on as the relay would."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ConfigError(f"{place}: b64 is no base64: {error}") from error
    return data.partition(b"\n")[2].decode(errors="replace")


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None  # whoever takes it says what is wrong with it


def _split(document: Any, text: str | None = None) -> Iterator[str]:
    """A document as one or several that are taken, or None that need not be.

    What X-Ray made up itself is left out, for it is made up again. Subsegments that were sent on
    their own and joined when read are sent on their own again where the whole would be too large.
    """
    if not isinstance(document, dict):
        yield _encode(document) if text is None else text
        return
    if document.get("inferred") is True:
        return
    is_made_up = document.get("name") == MISSING_PARENT
    text = _encode(document) if text is None else text
    subsegments = document.get("subsegments")
    if not isinstance(subsegments, list) or not (
        is_made_up or len(text.encode(errors="replace")) > DOCUMENT_BYTES_MAX
    ):
        yield text
        return
    if not is_made_up:
        yield _encode({**document, "subsegments": []})
    for subsegment in subsegments:
        if isinstance(subsegment, dict):
            yield from _split(
                {
                    **subsegment,
                    "type": "subsegment",
                    "trace_id": document.get("trace_id"),
                    "parent_id": document.get("id"),
                }
            )


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()
