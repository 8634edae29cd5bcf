"""Compiling what is due: from documents to summaries, the filter index and the service graph.

Done beside taking documents in, in batches, when a read needs it or in the background. A trace that
changes meanwhile stays due. Everything known of a trace is replaced together.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from xrayd.dev.filters import sql
from xrayd.dev.model import Trace
from xrayd.dev.observations import (
    EdgeCall,
    Observations,
    Request,
    encode_observations,
    observe,
)
from xrayd.dev.rollups import DEFAULT_GROUP, EVERYTHING, REACH_S, Rollups, decode
from xrayd.dev.store import Store, StoredTrace, load_by_id, load_by_number
from xrayd.dev.summary import summarize
from xrayd.dev.totals import Counters
from xrayd.dev.traces import GRACE_S

BATCH_TRACES = 50
"""Traces to a transaction: short, so that documents do not wait long for the writer."""

LINKED_TRACES_MAX = 20
"""Linked traces looked into for one trace (AWS X-Ray Developer Guide, "Trace linking")."""

_BATCH_S_MAX = 60.0  # many very large traces
_DURATION_US_MAX = int(REACH_S * 1_000_000)  # sums of senseless durations would outgrow 64 bits


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """Which traces a group counts; `arn` is its key in the sums, `name` in the metrics."""

    arn: str
    name: str
    matches: Callable[[Trace], bool]


class _Before(NamedTuple):
    observations: Observations
    groups: list[str]


class _Compiled(NamedTuple):
    number: int
    id: str
    revision: int
    due_at: float | None
    observations: Observations
    groups: list[str]
    rows: sql.IndexRows
    links: list[str]
    summary: tuple[bytes, bytes, str]


def compile_due(
    store: Store,
    groups: Sequence[GroupFilter],
    counters: Counters,
    now: float,
    *,
    limit: int,
    budget_s: float,
) -> int:
    """Compile traces that are due, those first that wait longest.

    Args:
        store: where they are.
        groups: beside the group of all traces; see `GroupFilter`.
        counters: counts their requests.
        now: epoch seconds.
        limit: traces at most.
        budget_s: seconds after which no further batch is begun.

    Returns:
        How many were compiled.

    Raises:
        StoreError: reading or writing failed; what was not compiled stays due.
    """
    until = time.monotonic() + budget_s
    done = 0
    with store.compiling:
        while done < limit:
            compiled = _compile_batch(store, groups, counters, now, min(BATCH_TRACES, limit - done))
            done += compiled
            # not before nothing is left: compiling a trace can make others due
            if compiled == 0 or time.monotonic() >= until:
                break
    return done


def count_due(store: Store, now: float, limit: int) -> int:
    """How many traces are due, counted up to `limit`.

    Raises:
        StoreError: reading failed.
    """
    with store.database.reading() as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM arrival WHERE due_at <= ? LIMIT ?)", (now, limit)
        ).fetchone()
    return int(count)


def _compile_batch(
    store: Store, groups: Sequence[GroupFilter], counters: Counters, now: float, size: int
) -> int:
    with store.database.reading(_BATCH_S_MAX) as connection:
        due = connection.execute(
            "SELECT trace_id FROM arrival WHERE due_at <= ? ORDER BY due_at LIMIT ?", (now, size)
        ).fetchall()
        numbers = [number for (number,) in due]
        if not numbers:
            return 0
        stored = load_by_number(connection, numbers)
        before = _load_before(connection, numbers)
        compiled = [_compile(connection, one, groups, now) for one in stored]
        rollups = Rollups(connection)
        for one in compiled:
            known = before.get(one.number)
            if known is not None:
                for group in (EVERYTHING, *known.groups):
                    rollups.add(group, known.observations, -1)
            for group in (EVERYTHING, *one.groups):
                rollups.add(group, one.observations, +1)
        sums = rollups.rows()
    with store.database.writing() as connection:
        for one in compiled:
            _replace(connection, one, is_known=one.number in before, now=now)
        connection.executemany("INSERT OR REPLACE INTO rollup VALUES (?, ?, ?)", sums)
    names = {EVERYTHING: DEFAULT_GROUP, **{group.arn: group.name for group in groups}}
    for one in compiled:
        known = before.get(one.number)
        counted = [] if known is None else [EVERYTHING, *known.groups]
        counters.add(
            one.observations,
            [names[arn] for arn in (EVERYTHING, *one.groups)],
            None if known is None else known.observations,
            [names[arn] for arn in counted if arn in names],
        )
    return len(compiled)


def _load_before(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, _Before]:
    rows = connection.execute(
        """SELECT trace_id, observations, groups FROM summary
        WHERE trace_id IN (SELECT value FROM json_each(?))""",
        (msgspec.json.encode(numbers).decode(),),
    )
    return {
        number: _Before(decode(observations), msgspec.json.decode(groups))
        for number, observations, groups in rows
    }


def _compile(
    connection: sqlite3.Connection, stored: StoredTrace, groups: Sequence[GroupFilter], now: float
) -> _Compiled:
    trace = stored.compile(now)
    observations = observe(trace, _load_linked(connection, trace, now))
    measured: list[Request | EdgeCall] = [*observations.requests, *observations.calls]
    for item in measured:
        item.duration_us = min(item.duration_us, _DURATION_US_MAX)
    matching = [group.arn for group in groups if group.matches(trace)]
    settled_at = stored.touched_at + GRACE_S
    return _Compiled(
        stored.number,
        trace.id,
        stored.revision,
        settled_at if trace.orphans and now < settled_at else None,
        observations,
        matching,
        sql.index_rows(trace),
        [link.trace_id for link in trace.links],
        (
            msgspec.json.encode(summarize(trace)),
            encode_observations(observations),
            msgspec.json.encode(matching).decode(),
        ),
    )


def _load_linked(connection: sqlite3.Connection, trace: Trace, now: float) -> Mapping[str, Trace]:
    linked = list(dict.fromkeys(link.trace_id for link in trace.links))[:LINKED_TRACES_MAX]
    if not linked:
        return {}
    return {one.id: one.compile(now) for one in load_by_id(connection, linked)}


def _replace(connection: sqlite3.Connection, one: _Compiled, *, is_known: bool, now: float) -> None:
    number, rows = one.number, one.rows
    if is_known:
        for statement in FORGET_INDEX:
            connection.execute(statement, (number,))
    connection.execute(_INSERT_TRACE, (number, *rows.trace))
    connection.executemany(
        _INSERT_NODE,
        [(number, *row, place) for place, row in enumerate(rows.nodes)],
    )
    connection.executemany(
        _INSERT_ANNOTATION,
        [(number, *row, place) for place, row in enumerate(rows.annotations)],
    )
    connection.executemany(_INSERT_LABEL, [(number, *row) for row in rows.labels])
    connection.executemany(
        "INSERT OR IGNORE INTO link VALUES (?, ?)",
        [(linked, number) for linked in one.links],
    )
    connection.execute("INSERT OR REPLACE INTO summary VALUES (?, ?, ?, ?)", (number, *one.summary))
    # traces that name this one may draw their edge from it now: where it has changed, lest two
    # that name each other go on for ever
    connection.execute(
        """UPDATE arrival SET due_at = ? WHERE due_at IS NULL AND trace_id IN
        (SELECT trace_id FROM link WHERE linked_xray_id = ?)
        AND (SELECT compiled < ? FROM arrival WHERE trace_id = ?)""",
        (now, one.id, one.revision, number),
    )
    connection.execute(
        "UPDATE arrival SET compiled = revision, due_at = ? WHERE trace_id = ? AND revision = ?",
        (one.due_at, number, one.revision),
    )


FORGET_INDEX = (
    "DELETE FROM trace WHERE id = ?",
    "DELETE FROM node WHERE trace_id = ?",
    "DELETE FROM annotation WHERE trace_id = ?",
    "DELETE FROM label WHERE trace_id = ?",
    "DELETE FROM link WHERE trace_id = ?",
)
"""What takes a trace out of the filter index."""


def _insert(table: str, columns: int) -> str:
    values = ", ".join("?" * columns)
    return f"INSERT OR REPLACE INTO {table} VALUES ({values})"  # noqa: S608 - our own names


_INSERT_TRACE = _insert(sql.TRACE_TABLE, len(sql.TRACE_COLUMNS))
_INSERT_NODE = _insert(sql.NODE_TABLE, len(sql.NODE_COLUMNS) + 1)
_INSERT_ANNOTATION = _insert(sql.ANNOTATION_TABLE, len(sql.ANNOTATION_COLUMNS) + 1)
_INSERT_LABEL = _insert(sql.LABEL_TABLE, len(sql.LABEL_COLUMNS))
