"""Reads one document string as X-Ray does: accepted as typed documents, or refused with its code.

A string holds one JSON object, or an array of them; each counts for itself. Required fields are
checked in X-Ray's order and the first failure names the refusal. Optional fields of a wrong type
are dropped, as X-Ray drops what does not comply with its schema; they never refuse a document.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NoReturn, TypeGuard

import msgspec

from xrayd.dev.model import (
    Document,
    Http,
    HttpRequest,
    HttpResponse,
    Link,
)

DOCUMENT_BYTES_MAX = 64 * 1024
"""Largest document X-Ray takes (AWS X-Ray endpoints and quotas)."""

DEPTH_MAX = 500
"""Objects and arrays in each other. Decoders and encoders give up at a depth that depends on who
calls them; with this it is the same for all, and what is stored can be read.
"""

SEGMENT_NAME_MAX = 200
SUBSEGMENT_NAME_MAX = 250
UNKNOWN_NAME = "unknown"
"""The name a lenient reading gives to what was sent without one."""

_TRACE_ID = re.compile(r"1-[0-9a-fA-F]{8}-[0-9a-fA-F]{24}")
_W3C_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}")
_ENTITY_ID = re.compile(r"[0-9a-fA-F]{16}")
_NAME = re.compile(r"[\w\s.:/%&#=+\\\-@]+")
"""Unicode letters, numbers, whitespace and _ . : / % & # = + \\ - @ (AWS X-Ray Developer Guide).
Holds for subsegments too: X-Ray answers InvalidName to brackets, `?`, `$` and commas in theirs."""
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[][{}]")
_document_decoder = msgspec.json.Decoder(Document)
_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class RejectionCode(StrEnum):
    """`ErrorCode` of an unprocessed segment. The first seven were seen from X-Ray."""

    INVALID_NAME = "InvalidName"
    INVALID_SEGMENT = "InvalidSegment"  # here: the document is too large or too deep
    INVALID_TRACE_ID = "InvalidTraceId"
    MISSING_END_TIME = "MissingEndTime"
    MISSING_ID = "MissingId"
    MISSING_NAME = "MissingName"
    MISSING_PARENT_ID = "MissingParentId"
    PARSE_ERROR = "ParseError"
    INVALID_ID = "InvalidId"
    INVALID_PARENT_ID = "InvalidParentId"
    MISSING_START_TIME = "MissingStartTime"
    MISSING_TRACE_ID = "MissingTraceId"


class Accepted(msgspec.Struct, gc=False):
    """A document to keep.

    Attributes:
        document: Its schema fields; `trace_id` in lower case.
        text: Its JSON as it was sent (cut out of the array it came in, if any).
    """

    document: Document
    text: str


class Rejected(msgspec.Struct, gc=False):
    """A document X-Ray would not process, as it reports it in `UnprocessedTraceSegments`.

    Attributes:
        id: The document's own id, also when a subsegment inside is at fault; None if unreadable.
        code: Why.
        message: X-Ray's wording of it.
    """

    id: str | None
    code: RejectionCode
    message: str


def parse_documents(text: str, *, lenient: bool = False) -> list[Accepted | Rejected]:
    """Read one string of `TraceSegmentDocuments`.

    Args:
        text: JSON: a segment or subsegment document, or an array of them.
        lenient: Accept names X-Ray refuses; what has none is called "unknown".

    Returns:
        One verdict for each document, in order; for an empty array the one X-Ray gives.
    """
    try:
        document = _document_decoder.decode(text)
    except msgspec.ValidationError:
        if text.lstrip(" \t\r\n")[:1] == "[":
            return _parse_array(text, lenient)
        repaired = _repair(text)
        if repaired is None:
            return [_reject(None, RejectionCode.PARSE_ERROR, is_subsegment=False)]
        document = repaired
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        repaired = _repair(text) if _has_surrogate(text) else None
        if repaired is None:
            return [_reject(None, RejectionCode.PARSE_ERROR, is_subsegment=False)]
        document = repaired
    return [_judge(document, text, lenient)]


def load_document(text: str) -> Document:
    """Decode a document that was accepted before (`Accepted.text`).

    Raises:
        ValueError: It never was accepted: not a JSON object.
    """
    try:
        document = _document_decoder.decode(text)
    except msgspec.DecodeError as error:
        repaired = _repair(text)
        if repaired is None:
            raise ValueError(f"not a segment document: {error}") from error
        document = repaired
    _name_the_nameless(document)
    document.trace_id = document.trace_id.lower()
    return document


def supersedes(new: Document, old: Document) -> bool:
    """Whether `new`, which arrived later, takes the place of `old` with the same trace and id.

    Complete beats in progress in either order; between two alike, a segment beats a subsegment
    and else the later wins.
    """
    return (not new.is_in_progress, not new.is_subsegment) >= (
        not old.is_in_progress,
        not old.is_subsegment,
    )


def normalize_trace_id(text: str) -> str | None:
    """X-Ray form, lower case, of a trace id in X-Ray or W3C form; None if it is neither."""
    if _TRACE_ID.fullmatch(text):
        return text.lower()
    if _W3C_TRACE_ID.fullmatch(text):
        return f"1-{text[:8]}-{text[8:]}".lower()
    return None


def _parse_array(text: str, lenient: bool) -> list[Accepted | Rejected]:
    try:
        items = _array_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return [_reject(None, RejectionCode.PARSE_ERROR, is_subsegment=False)]
    if not items:
        return [_reject(None, RejectionCode.MISSING_ID, is_subsegment=False)]
    verdicts: list[Accepted | Rejected] = []
    for item in items:
        inner = bytes(item).decode()
        if inner[:1] == "[":  # an array in an array is no document
            verdicts.append(_reject(None, RejectionCode.PARSE_ERROR, is_subsegment=False))
        else:
            verdicts.extend(parse_documents(inner, lenient=lenient))
    return verdicts


def _judge(document: Document, text: str, lenient: bool) -> Accepted | Rejected:
    code = _find_fault(document, lenient, nested=False)
    if code is not None:
        return _reject(document.id or None, code, document.is_subsegment)
    if len(text) > DOCUMENT_BYTES_MAX or (
        not text.isascii() and len(text.encode(errors="surrogatepass")) > DOCUMENT_BYTES_MAX
    ):
        return _reject(document.id, RejectionCode.INVALID_SEGMENT, document.is_subsegment)
    if text.count("{") + text.count("[") > DEPTH_MAX and _depth(text) > DEPTH_MAX:
        return _reject(document.id, RejectionCode.INVALID_SEGMENT, document.is_subsegment)
    for subsegment in _iterate_embedded(document):
        code = _find_fault(subsegment, lenient, nested=True)
        if code is not None:
            return _reject(document.id, code, is_subsegment=True)
    if lenient:
        _name_the_nameless(document)
    document.trace_id = document.trace_id.lower()
    return Accepted(document, text)


def _depth(text: str) -> int:
    """How deep arrays and objects are nested in JSON."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(_TEXT.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _find_fault(document: Document, lenient: bool, *, nested: bool) -> RejectionCode | None:
    """The first thing wrong with one document by itself, in X-Ray's order."""
    if not document.id:
        return RejectionCode.MISSING_ID
    if not _ENTITY_ID.fullmatch(document.id):
        return RejectionCode.INVALID_ID
    if not nested:
        if not document.trace_id:
            return RejectionCode.MISSING_TRACE_ID
        if not _TRACE_ID.fullmatch(document.trace_id):
            return RejectionCode.INVALID_TRACE_ID
    if not lenient:
        longest = SUBSEGMENT_NAME_MAX if nested or document.is_subsegment else SEGMENT_NAME_MAX
        code = _find_name_fault(document.name, longest)
        if code is not None:
            return code
    if document.start_time < 0:
        return RejectionCode.MISSING_START_TIME
    if document.end_time is None and not document.in_progress:
        return RejectionCode.MISSING_END_TIME
    return None if nested else _find_parent_fault(document)


def _find_name_fault(name: str, longest: int) -> RejectionCode | None:
    if not name:
        return RejectionCode.MISSING_NAME
    if len(name) > longest or not _NAME.fullmatch(name):
        return RejectionCode.INVALID_NAME
    return None


def _find_parent_fault(document: Document) -> RejectionCode | None:
    if not document.parent_id:
        return RejectionCode.MISSING_PARENT_ID if document.is_subsegment else None
    return None if _ENTITY_ID.fullmatch(document.parent_id) else RejectionCode.INVALID_PARENT_ID


def _reject(id_: str | None, code: RejectionCode, is_subsegment: bool) -> Rejected:
    kind = "subsegment" if is_subsegment else "segment"
    return Rejected(id_, code, f"Invalid {kind}. ErrorCode: {code}")


def _iterate_embedded(document: Document) -> Iterator[Document]:
    """Every embedded subsegment, at any depth, in document order."""
    stack = document.subsegments[::-1]
    while stack:
        subsegment = stack.pop()
        yield subsegment
        stack.extend(subsegment.subsegments[::-1])


def _name_the_nameless(document: Document) -> None:
    document.name = document.name or UNKNOWN_NAME
    for subsegment in _iterate_embedded(document):
        subsegment.name = subsegment.name or UNKNOWN_NAME


# The slow path: documents that are JSON, but not what the schema says. -----------------------

_NESTED: dict[str, type[msgspec.Struct]] = {
    "http": Http,
    "request": HttpRequest,
    "response": HttpResponse,
}
_NESTED_LISTS: dict[str, type[msgspec.Struct]] = {"subsegments": Document, "links": Link}


def _has_surrogate(text: str) -> bool:
    r"""Whether a `\ud8xx` escape may be why a strict decoder refused the text."""
    return "\\ud" in text or "\\uD" in text


def _repair(text: str) -> Document | None:
    """Decode what is JSON after dropping every field of a wrong type; None if it is no object.

    Lone surrogate escapes, which JavaScript writes for a string cut inside an emoji, become "?":
    valid JSON by its grammar, but nothing UTF-8 can hold.
    """
    try:
        value = json.loads(text, parse_float=_read_float, parse_constant=_refuse_constant)
        if not _is_object(value):
            return None
        tidy = json.dumps(_tidy(value, Document), ensure_ascii=False)
        return _document_decoder.decode(tidy.encode(errors="replace"))
    except (ValueError, RecursionError):
        # ValueError: no JSON after all, or an integer longer than Python reads.
        return None


def _read_float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _tidy(value: dict[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The members of `value` that `struct` knows and whose types it allows."""
    tidy: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        member = value.get(field.name)
        if member is None:
            continue
        if field.name in _NESTED:
            if _is_object(member):
                tidy[field.name] = _tidy(member, _NESTED[field.name])
        elif field.name in _NESTED_LISTS:
            if isinstance(member, list):
                nested = _NESTED_LISTS[field.name]
                tidy[field.name] = [_tidy(item, nested) for item in member if _is_object(item)]
        elif field.type is msgspec.Raw or _complies(member, field.type):
            tidy[field.name] = member
        elif (
            isinstance(member, float) and member.is_integer() and _complies(int(member), field.type)
        ):
            tidy[field.name] = int(member)  # a status of 200.0
    return tidy


def _complies(value: object, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return False
    return True
