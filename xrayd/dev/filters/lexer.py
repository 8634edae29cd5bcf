"""Filter expression text to tokens."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from enum import Enum, auto

from xrayd.dev.filters.errors import FilterError

TEXT_MAX = 10_000
"""Characters of a filter expression. X-Ray's model states no limit today; 2000 was one once."""

DEPTH_MAX = 50
"""Nested parentheses, blocks and negations; also nested arrays and objects of a JSON literal."""


class Kind(Enum):
    """What a token is."""

    WORD = auto()  # a keyword, a logical word or an unquoted value: name, http.url, and, traces
    NUMBER = auto()
    STRING = auto()
    OPERATOR = auto()  # = != < <= > >=
    MARK = auto()  # ( ) { } , : !
    BRACKETED = auto()  # the key in annotation[key]
    JSON = auto()  # what follows #
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text.

    Attributes:
        kind: What it is.
        text: Its characters as written.
        start: Where it begins, in characters from 0.
        end: Where it ends, exclusive.
        value: What a string, number, bracketed key or JSON literal stands for.
    """

    kind: Kind
    text: str
    start: int
    end: int
    value: object = None

    @property
    def lower(self) -> str:
        """The text without its case: keywords and logical words have none."""
        return self.text.lower()


_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![\w.\-])")
_WORD = re.compile(r"\w[\w.\-]*")
_OPERATOR = re.compile(r"&&|\|\||==|<>|=>|=<|<=|>=|!=|=|<|>")
_OPERATORS_OF_ELSEWHERE = {
    "&&": "AND",
    "||": "OR",
    "==": "=",
    "<>": "!=",
    "=>": ">=",
    "=<": "<=",
}


def tokenize(text: str) -> list[Token]:
    """The tokens of `text`, the last of them `Kind.END`.

    Raises:
        FilterError: the text is too long, or a piece of it can be no token.
    """
    if len(text) > TEXT_MAX:
        raise FilterError(
            f"the expression has {len(text)} characters, at most {TEXT_MAX} are allowed", TEXT_MAX
        )
    tokens: list[Token] = []
    position = _skip_space(text, 0)
    while position < len(text):
        token = _read_token(text, position, tokens[-1] if tokens else None)
        tokens.append(token)
        position = _skip_space(text, token.end)
    tokens.append(Token(Kind.END, "", len(text), len(text)))
    return tokens


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None
    return match.end()


def _read_token(text: str, start: int, previous: Token | None) -> Token:
    character = text[start]
    if character in "\"'":
        value, end = _read_string(text, start)
        return Token(Kind.STRING, text[start:end], start, end, value)
    if character == "#":
        return _read_json(text, start)
    if character == "[" and previous is not None and previous.lower == "annotation":
        return _read_bracketed(text, start)
    if match := _NUMBER.match(text, start):
        return _read_number(match)
    if match := _WORD.match(text, start):
        return Token(Kind.WORD, match[0], start, match.end())
    if match := _OPERATOR.match(text, start):
        if match[0] in _OPERATORS_OF_ELSEWHERE:
            meant = _OPERATORS_OF_ELSEWHERE[match[0]]
            raise FilterError(f'unknown operator "{match[0]}"', start, match[0], meant)
        return Token(Kind.OPERATOR, match[0], start, match.end())
    if character in "(){},:!":
        return Token(Kind.MARK, character, start, start + 1)
    raise FilterError(f"unexpected character {character!r}", start, character)


def _read_string(text: str, start: int) -> tuple[str, int]:
    """The quoted string at `start` and where it ends; a backslash escapes a quote or itself."""
    quote = text[start]
    characters: list[str] = []
    position = start + 1
    while position < len(text):
        character = text[position]
        if character == quote:
            return "".join(characters), position + 1
        if character == "\\" and text[position + 1 : position + 2] in ("\\", '"', "'"):
            position += 1
            character = text[position]
        characters.append(character)
        position += 1
    raise FilterError(f"missing closing quote {quote}", start, text[start:])


def _read_number(match: re.Match[str]) -> Token:
    number = float(match[0])
    if math.isinf(number):
        raise FilterError("number out of range", match.start(), match[0])
    return Token(Kind.NUMBER, match[0], match.start(), match.end(), number)


def _read_bracketed(text: str, start: int) -> Token:
    position = _skip_space(text, start + 1)
    if text[position : position + 1] in ('"', "'"):
        key, end = _read_string(text, position)
        end = _skip_space(text, end)
        closed = text[end : end + 1] == "]"
    else:
        end = text.find("]", position)
        closed = end >= 0
        key = text[position:end].strip()
    if not closed:
        raise FilterError("missing closing bracket ]", start, text[start:])
    if not key:
        raise FilterError("missing annotation key", start, text[start : end + 1])
    return Token(Kind.BRACKETED, text[start : end + 1], start, end + 1, key)


def _read_json(text: str, start: int) -> Token:
    position = _skip_space(text, start + 1)
    try:
        value, end = _JSON.raw_decode(text, position)
    except RecursionError:
        raise _json_too_deep(start) from None
    except json.JSONDecodeError as error:
        message = f"the text after # is no JSON: {error.msg}"
        raise FilterError(
            message, min(error.pos, len(text)), text[error.pos : error.pos + 1]
        ) from None
    except ValueError as error:  # NaN, Infinity, an integer of thousands of digits
        raise FilterError(f"the text after # is no JSON: {error}", start, "#") from None
    if _depth(value) > DEPTH_MAX:
        raise _json_too_deep(start)
    return Token(Kind.JSON, text[start:end], start, end, value)


def _json_too_deep(start: int) -> FilterError:
    return FilterError(f"the JSON after # is nested deeper than {DEPTH_MAX}", start, "#")


def _depth(value: object) -> int:
    """How deep arrays and objects are nested in a decoded JSON value."""
    depth, level = 0, [value]
    while level := [
        inner
        for outer in level
        if isinstance(outer, (list, dict))
        for inner in [None, *(outer.values() if isinstance(outer, dict) else outer)]
    ]:
        depth += 1
    return depth


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is no number")
    return number


_JSON = json.JSONDecoder(parse_constant=_parse_finite, parse_float=_parse_finite)
