"""What is wrong with a filter expression, where, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from xrayd.errors import XraydError

_MESSAGE_MAX = 300


class FilterError(XraydError):
    """A filter expression that cannot be used; X-Ray answers it with InvalidRequestException.

    Attributes:
        message: what is wrong, one sentence without a full stop.
        position: where, in characters from 0; the text's length when its end is what is wrong.
        word: the offending piece of the text, "" when something is missing.
        suggestion: what was probably meant, ready to be put in `word`'s place, or None.
    """

    def __init__(
        self, message: str, position: int = 0, word: str = "", suggestion: str | None = None
    ) -> None:
        if len(message) > _MESSAGE_MAX:  # it quotes a word of thousands of characters
            message = message[: _MESSAGE_MAX - 1] + "…"
        hint = f'; did you mean "{suggestion}"?' if suggestion else ""
        super().__init__(f"Invalid filter expression at position {position}: {message}{hint}")
        self.message = message
        self.position = position
        self.word = word
        self.suggestion = suggestion


def suggest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` most resembles, or None when none is near."""
    by_lower = {candidate.lower(): candidate for candidate in sorted(candidates, reverse=True)}
    near = difflib.get_close_matches(word.lower()[:100], by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None
