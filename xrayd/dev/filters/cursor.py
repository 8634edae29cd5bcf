"""A place in the tokens of one text, and the small steps a parser takes from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.lexer import DEPTH_MAX, Kind, Token, tokenize


class Cursor:
    """Reads the tokens of `text` one after the other.

    Raises:
        FilterError: the text cannot be cut into tokens.
    """

    def __init__(self, text: str) -> None:
        self._tokens = tokenize(text)
        self._next = 0
        self._depth = 0

    @property
    def current(self) -> Token:
        """The token to be read next; at the end, again and again the end."""
        return self._tokens[self._next]

    def advance(self) -> Token:
        """The current token, which is then behind."""
        token = self.current
        if token.kind is not Kind.END:
            self._next += 1
        return token

    def is_at(self, kind: Kind, *texts: str) -> bool:
        """Whether the current token is of this kind and one of these texts, in any case."""
        return self.current.kind is kind and self.current.lower in texts

    def take_word(self, word: str) -> bool:
        """Steps over the current token if it is this word; says whether it was."""
        return self._take(Kind.WORD, word)

    def take_mark(self, mark: str) -> bool:
        """Steps over the current token if it is this mark; says whether it was."""
        return self._take(Kind.MARK, mark)

    def _take(self, kind: Kind, text: str) -> bool:
        taken = self.is_at(kind, text)
        if taken:
            self.advance()
        return taken

    def expect_mark(self, mark: str, why: str) -> None:
        """Steps over this mark.

        Raises:
            FilterError: something else is there; `why` says what the mark is for.
        """
        if not self.take_mark(mark):
            raise self.unexpected(f'"{mark}" {why}')

    def expect_end(self) -> None:
        """Raises FilterError unless everything has been read."""
        token = self.current
        if token.text in (")", "}"):
            raise error_at(token, f'unbalanced "{token.text}"')
        if token.kind is not Kind.END:
            raise error_at(token, f"unexpected {describe(token)}")

    @contextmanager
    def nested(self, opening: Token) -> Iterator[None]:
        """One level deeper, begun by `opening`.

        Raises:
            FilterError: that is too deep.
        """
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise error_at(opening, f"nested deeper than {DEPTH_MAX}")
        yield
        self._depth -= 1

    def unexpected(self, wanted: str, suggestion: str | None = None) -> FilterError:
        """The error that the current token is not what is wanted."""
        token = self.current
        return error_at(token, f"expected {wanted}, found {describe(token)}", suggestion)


def error_at(token: Token, message: str, suggestion: str | None = None) -> FilterError:
    """The error that something is wrong with `token`."""
    return FilterError(message, token.start, token.text, suggestion)


def describe(token: Token) -> str:
    """A token in an error message."""
    match token.kind:
        case Kind.END:
            return "the end"
        case Kind.STRING:
            return f"the string {token.text}"
        case Kind.JSON:
            return "a JSON literal"
        case _:
            return f'"{token.text}"'
