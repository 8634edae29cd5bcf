"""What may be written to a terminal: nothing a document holds may steer it."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import NamedTuple

import click

from xrayd.logs import printable

_WIDTH_ELSEWHERE = 120  # of a file or a pipe
_WIDTH_MIN = 40


class Marks(NamedTuple):
    """Signs beside a word, so that neither colour nor reading is needed to find a fault."""

    ok: str
    error: str
    throttle: str
    fault: str
    partial: str
    bar: str
    open_bar: str
    cut: str
    arrow: str


UNICODE = Marks("✓", "!", "~", "✗", "…", "█", "▒", "…", "→")
ASCII = Marks("+", "!", "~", "x", ".", "#", "-", "~", ">")


class Terminal(NamedTuple):
    """Where output goes: its width in cells, and what it can show."""

    width: int
    has_color: bool
    marks: Marks

    def paint(self, text: str, color: str | None) -> str:
        """The text in a colour, where there are colours."""
        return click.style(text, fg=color) if color and self.has_color else text


def find_terminal(*, no_color: bool = False) -> Terminal:
    """Look at standard output; what it cannot encode is escaped from here on.

    Args:
        no_color: no colours, as with `NO_COLOR`, `TERM=dumb` and where it is no terminal.
    """
    encoding = sys.stdout.encoding or "ascii"
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        "".join(UNICODE).encode(encoding)
        marks = UNICODE
    except UnicodeEncodeError:
        marks = ASCII
    is_terminal = sys.stdout.isatty()
    has_color = is_terminal and not (
        no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    )
    width = shutil.get_terminal_size((_WIDTH_ELSEWHERE, 24)).columns
    return Terminal(max(_WIDTH_MIN, width), has_color, marks)


def tame(value: object, limit: int = 200) -> str:
    """Text from outside: no control, direction or invisible characters; cut to a length."""
    return printable(str(value), limit)


def cells(text: str) -> int:
    """How many cells of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def fit(text: str, width: int, cut: str = "…") -> str:
    """A text made exactly `width` cells wide, with a mark where it was cut."""
    taken = cells(text)
    if taken <= width:
        return text + " " * (width - taken)
    kept = ""
    left = width - 1
    for c in text:
        left -= cells(c)
        if left < 0:
            break
        kept += c
    kept += cut
    return kept + " " * (width - cells(kept))


def show_seconds(seconds: float) -> str:
    """A duration as people read it."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs" if seconds > 0 else "0 ms"
    if seconds < 1:
        return f"{seconds * 1000:.{1 if seconds < 0.01 else 0}f} ms"
    if seconds < 600:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"
