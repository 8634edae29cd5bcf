"""Times on a command line: `--last 15m`, `--start 2026-01-31T12:00 --end 1795350557`."""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIME_MAX = 1e11
_AHEAD_S = 60.0  # the clocks of senders


def read_duration(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """Seconds of `90s`, `15m`, `1.5h`, `2d` or `1w`.

    Raises:
        BadParameter: it is no duration.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([smhdw])", text)
    if match is None or not float(match[1]):
        raise click.BadParameter(f"{text!r} is no duration; write 90s, 15m, 1h, 2d or 1w")
    return float(match[1]) * _UNITS[match[2]]


def read_time(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """Epoch seconds of ISO 8601, which is local time where it names no zone, or of themselves.

    Raises:
        BadParameter: it is no time.
    """
    if text is None:
        return None
    try:
        found = float(text)
    except ValueError:
        try:
            found = dt.datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            found = math.nan
    if not 0 <= found < _TIME_MAX:
        raise click.BadParameter(
            f"{text!r} is no time; write 2026-01-31T12:00, with +01:00 or Z behind it where it"
            " is not local time, or epoch seconds"
        )
    return found


def time_options(command: Command) -> Command:
    """Add `--last`, `--start` and `--end` to a command."""
    for option in (
        click.option(
            "--end",
            callback=read_time,
            metavar="TIME",
            help="Traces that began before; now by default.",
        ),
        click.option(
            "--start", callback=read_time, metavar="TIME", help="Traces that began then or later."
        ),
        click.option(
            "--last",
            callback=read_duration,
            metavar="DURATION",
            help="Traces of the last 90s, 15m, 1h, 2d …",
        ),
    ):
        command = option(command)
    return command


def find_window(
    last: float | None, start: float | None, end: float | None, default_s: float
) -> tuple[float, float]:
    """Start and end in epoch seconds.

    Args:
        last: seconds.
        start: epoch seconds.
        end: epoch seconds.
        default_s: seconds, where neither a length nor a start is given.

    Raises:
        UsageError: they contradict each other.
    """
    if last is not None and start is not None:
        raise click.UsageError("--last and --start exclude each other")
    until = time.time() + _AHEAD_S if end is None else end
    if start is None:
        base = time.time() if end is None else end
        start = max(0.0, base - (default_s if last is None else last))
    if start > until:
        raise click.UsageError("--start lies behind --end")
    return start, until
