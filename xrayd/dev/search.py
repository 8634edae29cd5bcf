"""Finding traces: newest first, page by page, bounded in rows and in time."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from xrayd.dev.database import Database
from xrayd.dev.model import Trace
from xrayd.dev.rollups import REACH_S
from xrayd.dev.store import load_by_number

PAGE_TRACES = 100
"""Summaries to a page."""

EXAMINED_MAX = 2000
"""Traces that are compiled for one page, where SQL alone does not decide; the next page goes on."""

EXAMINED_S_MAX = 1.0
"""Seconds for which they are."""

Cursor: TypeAlias = tuple[float, int]
"""Start (epoch seconds) and number of the last trace looked at."""

TimeRangeType: TypeAlias = Literal["TraceId", "Event", "Service"]


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for.

    Attributes:
        start: epoch seconds.
        end: epoch seconds, excluded.
        time_range: what has to be in that window: the start of the trace; anything of it (Event);
            its end (Service).
        where: an SQL condition about the filter index, the trace known as `t`.
        parameters: what the condition refers to by name.
        matches: what decides about a trace that passed the condition; None where nothing more does.
        share: only this share (0-1) of all traces is looked at, always the same ones.
        after: where the page before ended, None for the first.
    """

    start: float
    end: float
    time_range: TimeRangeType = "TraceId"
    where: str = "1"
    parameters: Mapping[str, str | float | bytes] = field(default_factory=dict)
    matches: Callable[[Trace], bool] | None = None
    share: float = 1.0
    after: Cursor | None = None


class Found(NamedTuple):
    """A trace that was found: its start, its last arrival (epoch seconds), its summary's JSON."""

    start: float
    touched_at: float
    summary: bytes


class Page(NamedTuple):
    """A page of traces, newest first.

    Attributes:
        found: the traces.
        scanned: how many traces were in that part of the window, matching or not.
        next: where the next page begins; None for the last.
    """

    found: list[Found]
    scanned: int
    next: Cursor | None


class _Row(NamedTuple):
    number: int
    start: float
    id: str
    touched_at: float
    summary: bytes


_WINDOWS: Mapping[TimeRangeType, str] = {
    "TraceId": "t.start_time >= :start AND t.start_time < :end",
    "Event": "t.start_time >= :reach AND t.start_time < :end AND t.end_time >= :start",
    "Service": "t.start_time >= :reach AND t.start_time < :end"
    " AND t.end_time >= :start AND t.end_time < :end",
}
_SELECT = """SELECT t.id, t.start_time, a.xray_id, a.touched_at, s.body
    FROM trace AS t INDEXED BY trace_start
    CROSS JOIN summary AS s ON s.trace_id = t.id
    CROSS JOIN arrival AS a ON a.trace_id = t.id"""
_COUNT = "SELECT count(*) FROM trace AS t INDEXED BY trace_start"
_NEWEST_FIRST = "ORDER BY t.start_time DESC, t.id DESC"
_AFTER = " AND (t.start_time, t.id) < (:after_start, :after_id)"


def find_page(database: Database, query: Query, now: float) -> Page:
    """One page of traces, as far as they are compiled.

    Raises:
        StoreError: reading failed, or took too long.
    """
    window = _WINDOWS[query.time_range]
    parameters: dict[str, str | float | bytes] = {
        **query.parameters,
        "start": query.start,
        "end": query.end,
        "reach": query.start - REACH_S,
    }
    if query.after is not None:
        window += _AFTER
        parameters["after_start"], parameters["after_id"] = query.after
    with database.reading() as connection:
        rows = map(
            _Row._make,
            connection.execute(
                f"{_SELECT} WHERE {window} AND ({query.where}) {_NEWEST_FIRST}",
                parameters,
            ),
        )
        found, last = _collect(connection, rows, query, now)
        scanned = _count(connection, window, parameters, last)
    return Page(found, scanned, last)


def _collect(
    connection: sqlite3.Connection, rows: Iterator[_Row], query: Query, now: float
) -> tuple[list[Found], Cursor | None]:
    """The page's traces, and the last one looked at where there are more to look at."""
    until = time.monotonic() + EXAMINED_S_MAX
    found: list[Found] = []
    last: Cursor | None = None
    examined = 0
    for row in rows:
        if len(found) == PAGE_TRACES or examined == EXAMINED_MAX:
            return found, last
        if examined and time.monotonic() > until:
            return found, last
        if query.share >= 1 or _position(row.id) < query.share:
            examined += query.matches is not None
            if query.matches is None or _matches(connection, row, query.matches, now):
                found.append(Found(row.start, row.touched_at, row.summary))
        last = (row.start, row.number)
    return found, None


def _matches(
    connection: sqlite3.Connection, row: _Row, matches: Callable[[Trace], bool], now: float
) -> bool:
    return any(matches(stored.compile(now)) for stored in load_by_number(connection, [row.number]))


def _count(
    connection: sqlite3.Connection,
    window: str,
    parameters: dict[str, str | float | bytes],
    last: Cursor | None,
) -> int:
    if last is not None:
        window += " AND (t.start_time, t.id) >= (:last_start, :last_id)"
        parameters = {**parameters, "last_start": last[0], "last_id": last[1]}
    (count,) = connection.execute(f"{_COUNT} WHERE {window}", parameters).fetchone()
    return int(count)


def _position(trace_id: str) -> float:
    """Where between 0 and 1 a trace stands, spread evenly and always the same."""
    return zlib.crc32(trace_id.encode()) / 2**32
