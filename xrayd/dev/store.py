"""Documents of traces: taken in fast and safely, given back by trace.

Taking in does no more than to keep a document and to note that its trace is due for compiling
(`xrayd.dev.compiling`); reading a trace puts its documents together on the spot.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import msgspec

from xrayd.dev.database import Database
from xrayd.dev.documents import Accepted, load_document
from xrayd.dev.model import Document, Trace
from xrayd.dev.traces import compile_trace
from xrayd.errors import StoreError

DOCUMENTS_MAX = 10_000
"""Documents of one trace that are read: the latest. X-Ray stops keeping more at 500 kB a trace."""

DOCUMENTS_PER_SECOND = 1000
"""A trace with so many documents waits a second before it is compiled again, one with twice as
many two."""

_ROWS_MAX = 64
"""Rows to a statement. One statement for many rows gives the interpreter lock away once, not for
every row; taking it back can mean waiting for a busy thread."""


class StoredTrace(NamedTuple):
    """A trace's documents.

    Attributes:
        number: the store's own id of it.
        id: X-Ray form, lower case.
        touched_at: when its last document arrived, epoch seconds.
        revision: how many documents arrived.
        documents: in order of arrival.
    """

    number: int
    id: str
    touched_at: float
    revision: int
    documents: list[Document]

    def compile(self, now: float) -> Trace:
        """The trace they make; `now` in epoch seconds."""
        return compile_trace(
            self.id,
            self.documents,
            now=now,
            last_received=self.touched_at,
            revision=self.revision,
        )


class Store:
    """Documents by trace and segment id. Thread-safe.

    Attributes:
        database: where they are kept.
        compiling: held by whoever replaces what is known of compiled traces.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.compiling = threading.Lock()

    def add(self, documents: Sequence[Accepted], now: float) -> list[str]:
        """Keep documents; when this returns they outlive the process.

        A document takes the place of one with the same trace and id unless that is complete and
        it is in progress.

        Args:
            documents: what `parse_documents` accepted.
            now: epoch seconds.

        Returns:
            The X-Ray ids of their traces, each once, in order of arrival.

        Raises:
            StoreError: none of them is kept.
        """
        counts: dict[str, int] = {}
        for one in documents:
            trace_id = one.document.trace_id
            counts[trace_id] = counts.get(trace_id, 0) + 1
        if not counts:
            return []
        arrivals = [(trace_id, now, count, now) for trace_id, count in counts.items()]
        rows = [
            (one.document.trace_id, one.document.id, _rank(one.document), one.text)
            for one in documents
        ]
        with self.database.writing() as connection:
            _insert(connection, _ARRIVAL, arrivals)
            _insert(connection, _DOCUMENT, rows)
        return list(counts)

    def load(self, trace_ids: Sequence[str]) -> dict[str, StoredTrace]:
        """The traces with these X-Ray ids that there are.

        Raises:
            StoreError: reading failed.
        """
        with self.database.reading() as connection:
            return {trace.id: trace for trace in load_by_id(connection, trace_ids)}

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()


def load_by_id(connection: sqlite3.Connection, trace_ids: Sequence[str]) -> list[StoredTrace]:
    """The traces with these X-Ray ids that there are, in the order they first came.

    Raises:
        StoreError: a stored document is unreadable.
    """
    return _load_traces(connection, "xray_id", trace_ids)


def load_by_number(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[StoredTrace]:
    """The traces with these numbers that there are, in the order they first came.

    Raises:
        StoreError: a stored document is unreadable.
    """
    return _load_traces(connection, "trace_id", numbers)


def _load_traces(
    connection: sqlite3.Connection, column: str, keys: Sequence[str] | Sequence[int]
) -> list[StoredTrace]:
    arrivals: list[tuple[int, str, float, int]] = connection.execute(
        f"""SELECT trace_id, xray_id, touched_at, revision FROM arrival
        WHERE {column} IN (SELECT value FROM json_each(?)) ORDER BY trace_id""",  # noqa: S608
        (_listed(keys),),
    ).fetchall()
    bodies = connection.execute(
        """SELECT trace_id, body FROM document
        WHERE trace_id IN (SELECT value FROM json_each(?)) ORDER BY trace_id, number""",
        (_listed([row[0] for row in arrivals if row[3] <= DOCUMENTS_MAX]),),
    ).fetchall()
    for row in arrivals:
        if row[3] > DOCUMENTS_MAX:
            latest = connection.execute(
                """SELECT trace_id, body FROM document
                WHERE trace_id = ? ORDER BY number DESC LIMIT ?""",
                (row[0], DOCUMENTS_MAX),
            )
            bodies += reversed(latest.fetchall())
    documents = {
        number: [_load(body) for _, body in rows] for number, rows in groupby(bodies, itemgetter(0))
    }
    return [StoredTrace(*row, documents.get(row[0], [])) for row in arrivals]


def _listed(keys: Sequence[str] | Sequence[int]) -> str:
    """Keys as SQL can unfold them: one statement for any number of keys."""
    return msgspec.json.encode(keys).decode()


def _load(body: str) -> Document:
    try:
        return load_document(body)
    except ValueError as error:
        raise StoreError(f"a stored document is unreadable: {error}") from error


def _rank(document: Document) -> int:
    """What decides which of two documents of one id is kept; see `documents.supersedes`."""
    return 2 * (not document.is_in_progress) + (not document.is_subsegment)


class _Upsert(NamedTuple):
    head: str
    row: str
    tail: str


_ARRIVAL = _Upsert(
    "INSERT INTO arrival (xray_id, touched_at, revision, due_at) VALUES",
    "(?, ?, ?, ?)",
    # what grew large, because an application uses one trace id for ever, is compiled less often
    f"""ON CONFLICT (xray_id) DO UPDATE SET touched_at = excluded.touched_at,
    revision = revision + excluded.revision,
    due_at = min(ifnull(due_at, 1e300), excluded.due_at + revision / {DOCUMENTS_PER_SECOND})""",
)
_DOCUMENT = _Upsert(
    "INSERT INTO document (trace_id, id, rank, body) VALUES",
    "((SELECT trace_id FROM arrival WHERE xray_id = ?), ?, ?, ?)",
    """ON CONFLICT (trace_id, id) DO UPDATE SET rank = excluded.rank, body = excluded.body
    WHERE excluded.rank >= rank""",
)


def _insert(
    connection: sqlite3.Connection, into: _Upsert, rows: Sequence[tuple[object, ...]]
) -> None:
    for first in range(0, len(rows), _ROWS_MAX):
        chunk = rows[first : first + _ROWS_MAX]
        values = ", ".join([into.row] * len(chunk))
        connection.execute(
            f"{into.head} {values} {into.tail}", [value for row in chunk for value in row]
        )
