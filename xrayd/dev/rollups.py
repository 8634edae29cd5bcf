"""The service graph, summed up by group and minute, and read back for any window.

A window's whole minutes come from the sums. What is left at its ends is added trace by trace, where
that is little work; otherwise those minutes count whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from xrayd.dev.graph import Graph, decode_graph, encode_graph
from xrayd.dev.observations import MINUTE_S, Observations, decode_observations
from xrayd.errors import StoreError

DEFAULT_GROUP = "Default"
"""The group of all traces: always there, without a filter, not to be deleted."""

EVERYTHING = ""
"""The key of its sums; those of other groups have the group's ARN."""

PART_TRACES_MAX = 2000
"""Traces looked at one by one for a part of a minute."""

REACH_S = 7 * 24 * 3600.0
"""How long before a window a trace that reaches into it can have started: X-Ray lets a trace change
for seven days (AWS X-Ray endpoints and quotas)."""


class Rollups:
    """Changes to the sums of some minutes: collected, then written together."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Changes to what `connection` sees now."""
        self._connection = connection
        self._graphs: dict[tuple[str, int], Graph] = {}

    def add(self, group: str, observations: Observations, sign: int) -> None:
        """Count a trace in a group's sums, or take it out again (`sign` -1)."""
        for minute in observations.minutes():
            graph = self._graphs.get((group, minute))
            if graph is None:
                graph = self._graphs[group, minute] = self._load(group, minute)
            graph.add(observations, start=minute * MINUTE_S, end=(minute + 1) * MINUTE_S, sign=sign)

    def rows(self) -> list[tuple[str, int, bytes]]:
        """The changed sums, to be written over the stored ones."""
        return [
            (group, minute, encode_graph(graph)) for (group, minute), graph in self._graphs.items()
        ]

    def _load(self, group: str, minute: int) -> Graph:
        row = self._connection.execute(
            "SELECT body FROM rollup WHERE group_arn = ? AND minute = ?", (group, minute)
        ).fetchone()
        return Graph() if row is None else _graph(row[0])


def read_graphs(
    connection: sqlite3.Connection, group: str, start: float, end: float
) -> Iterator[tuple[float, Graph]]:
    """The graphs that together make a window's, each with the epoch second it begins at.

    None of them reaches over a full minute. `start` and `end` in epoch seconds, the end excluded.

    Raises:
        StoreError: stored sums are unreadable.
    """
    first, last = -int(-start // MINUTE_S), int(end // MINUTE_S)
    if first > last:
        yield from _read_part(connection, group, start, end)
        return
    yield from _read_part(connection, group, start, first * MINUTE_S)
    rows = connection.execute(
        "SELECT minute, body FROM rollup WHERE group_arn = ? AND minute >= ? AND minute < ?",
        (group, first, last),
    )
    for minute, body in rows:
        yield float(minute * MINUTE_S), _graph(body)
    yield from _read_part(connection, group, last * MINUTE_S, end)


def read_observations(
    connection: sqlite3.Connection, group: str, start: float, end: float, limit: int
) -> list[Observations] | None:
    """What each trace of a group that overlaps a window adds; None where they are over `limit`.

    Raises:
        StoreError: a trace's stored observations are unreadable.
    """
    rows = connection.execute(
        """SELECT s.observations, s.groups FROM trace AS t INDEXED BY trace_start
        CROSS JOIN summary AS s ON s.trace_id = t.id
        WHERE t.start_time >= ? AND t.start_time < ? AND t.end_time >= ? LIMIT ?""",
        (start - REACH_S, end, start, limit + 1),
    ).fetchall()
    if len(rows) > limit:
        return None
    return [
        decode(observations)
        for observations, groups in rows
        if group == EVERYTHING or group in msgspec.json.decode(groups)
    ]


def decode(stored: bytes) -> Observations:
    """A trace's stored observations.

    Raises:
        StoreError: they are unreadable.
    """
    try:
        return decode_observations(stored)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"what a trace adds to the service graph is unreadable: {error}"
        ) from error


def _read_part(
    connection: sqlite3.Connection, group: str, start: float, end: float
) -> Iterable[tuple[float, Graph]]:
    """A part of one minute."""
    if start >= end:
        return
    minute = int(start // MINUTE_S)
    found = read_observations(connection, group, start, end, PART_TRACES_MAX)
    if found is None:
        row = connection.execute(
            "SELECT body FROM rollup WHERE group_arn = ? AND minute = ?", (group, minute)
        ).fetchone()
        if row is not None:
            yield start, _graph(row[0])
        return
    graph = Graph()
    for observations in found:
        graph.add(observations, start=start, end=end)
    yield start, graph


def _graph(body: bytes) -> Graph:
    try:
        return decode_graph(body)
    except msgspec.DecodeError as error:
        raise StoreError(f"a stored service graph is unreadable: {error}") from error
