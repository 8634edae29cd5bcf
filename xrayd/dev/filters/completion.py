"""What could be written next in a filter expression that somebody is typing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from xrayd.dev.filters import contexts
from xrayd.dev.filters.contexts import Context
from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.lexer import TEXT_MAX, Kind, Token, tokenize
from xrayd.dev.filters.parser import CAUSE_PARTS, NODE_PARTS, STRING_OPERATORS
from xrayd.dev.filters.syntax import quote

CANDIDATES_MAX = 50
_CALLS = ("service", "edge", "id")


@dataclass(frozen=True, slots=True)
class Candidate:
    """Text that may replace the characters from `start` to `end`, where the cursor is."""

    text: str
    start: int
    end: int


def complete(
    text: str, cursor: int, names: Iterable[str], annotation_keys: Iterable[str]
) -> list[Candidate]:
    """What fits at the cursor, best first, at most `CANDIDATES_MAX`.

    Args:
        text: The expression so far; what stands behind the cursor is not looked at.
        cursor: In characters from 0.
        names: Service names that are known.
        annotation_keys: Annotation keys that are known.
    """
    split = _split(text[:cursor])
    if split is None:
        return []
    tokens, partial, start = split
    opening = partial[:1].replace("'", '"') if partial[:1] in ("'", '"', "[") else ""
    typed = partial.strip("\"'[").lower()
    fitting = [
        one
        for one in _possible(tokens, names, annotation_keys)
        if one.startswith(opening) and typed in one.lower()
    ]
    fitting.sort(key=lambda one: not one.strip('"[').lower().startswith(typed))
    return [Candidate(one, start, cursor) for one in fitting[:CANDIDATES_MAX]]


def _split(text: str) -> tuple[list[Token], str, int] | None:
    """The whole tokens, the unfinished rest and where that begins; None where nothing fits."""
    if len(text) > TEXT_MAX:
        return None
    try:
        tokens = tokenize(text)[:-1]
    except FilterError as error:
        if text[error.position : error.position + 1] in ("'", '"', "["):
            return _split_before(text, error.position)
        return None
    if tokens and tokens[-1].kind is Kind.WORD and tokens[-1].end == len(text):
        return tokens[:-1], tokens[-1].text, tokens[-1].start
    return tokens, "", len(text)


def _split_before(text: str, position: int) -> tuple[list[Token], str, int] | None:
    """The split of a text that is cut in the middle of a quoted or bracketed piece."""
    try:
        return tokenize(text[:position])[:-1], text[position:], position
    except FilterError:  # the piece is inside something else, a JSON literal
        return None


def _possible(
    tokens: Sequence[Token], names: Iterable[str], annotation_keys: Iterable[str]
) -> list[str]:
    quoted = [quote(name) for name in names]
    last = tokens[-1].lower if tokens else ""
    before = tokens[-2].lower if len(tokens) > 1 else ""
    place = _place(tokens)
    if isinstance(place, str):
        if place == "id" and last == ":":
            return quoted if before == "name" else []
        if last not in ("(", ","):
            return []
        return [f"{part}: " for part in NODE_PARTS] if place == "id" else [*quoted, "id("]
    if tokens and tokens[-1].kind is Kind.OPERATOR:
        if before in place.flags:
            return ["true", "false"]
        return quoted if before == "name" else []
    if last in (operator.lower() for operator in STRING_OPERATORS):
        return []
    if last == "annotation":
        return [f"[{quote(key)}]" for key in annotation_keys]
    terms = _terms(place, annotation_keys)
    if not tokens or last in ("and", "or", "not", "!", "(", "{"):
        return [*terms, "NOT"]
    operators = _operators(place, last)
    return [*operators, "AND", "OR", *terms]


def _operators(place: Context[Any], keyword: str) -> list[str]:
    if keyword in place.strings or keyword.startswith("annotation."):
        return list(STRING_OPERATORS)
    if keyword in place.numbers:
        return ["=", "!=", "<", "<=", ">", ">="]
    return ["="] if keyword in place.flags else []


def _terms(place: Context[Any], annotation_keys: Iterable[str]) -> list[str]:
    terms = list(place.keywords)
    if place is contexts.TRACE:
        complex_keywords = contexts.COMPLEX_KEYWORDS
        terms.extend(f"{word}(" if word in _CALLS else word for word in complex_keywords)
    if place.annotations is not None:
        terms.extend(
            f"annotation.{key}"
            if key.isascii() and key.replace("_", "").isalnum()
            else f"annotation[{quote(key)}]"
            for key in annotation_keys
        )
    return terms


def _place(tokens: Sequence[Token]) -> Context[Any] | str:
    """The context at the end of the tokens, or the call (service, edge, id) that is still open."""
    open_places: list[Context[Any] | str] = [contexts.TRACE]
    opener = ""  # the last word that may stand before ( or {
    for token in tokens:
        if token.kind is Kind.WORD:
            opener = token.lower
        elif token.text == "(":
            open_places.append(opener if opener in _CALLS else open_places[-1])
        elif token.text == "{":
            open_places.append(_block_context(opener))
        elif token.text in (")", "}") and len(open_places) > 1:
            closed = open_places.pop()
            opener = closed if isinstance(closed, str) else ""
    return open_places[-1]


def _block_context(opener: str) -> Context[Any]:
    if opener == "service":
        return contexts.SERVICE
    if opener == "edge":
        return contexts.EDGE
    if opener in CAUSE_PARTS:
        return contexts.CAUSES[CAUSE_PARTS[opener]]
    return contexts.TRACE
