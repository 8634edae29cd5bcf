"""The tables of the embedded endpoint, their version, and whether a file can be trusted.

What filter expressions are looked up in (`trace`, `node`, `annotation`, `label`) has its columns
from `xrayd.dev.filters.sql`, the one place where they are agreed on. Those rows exist once a trace
is compiled; `arrival` and `document` are written at once when documents come in.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Mapping
from enum import Enum

from xrayd.dev.filters import sql

VERSION = 1
"""`user_version` of the files this code writes. A file with a greater one is not touched."""

APPLICATION_ID = 0x58726179
"""`application_id` of our files: "Xray"."""

PAGE_BYTES = 8192
"""Several 1 KB documents to a page."""

CHECK_S_MAX = 1.0
"""Seconds that looking for damage may delay the start."""

_PROGRESS_STEPS = 2000


def _columns(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


_TABLES = (
    # one row for each trace any document of which arrived, when that was last, and how many there
    # were; `compiled`: how many of them its index is made of; `due_at`: from when on it is to be
    # compiled, NULL when it needs no compiling
    """CREATE TABLE arrival (
        trace_id INTEGER PRIMARY KEY,
        xray_id TEXT NOT NULL UNIQUE,
        touched_at REAL NOT NULL,
        revision INTEGER NOT NULL,
        compiled INTEGER NOT NULL DEFAULT 0,
        due_at REAL
    )""",
    "CREATE INDEX arrival_due ON arrival (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX arrival_touched ON arrival (touched_at)",
    """CREATE TABLE document (
        number INTEGER PRIMARY KEY,
        trace_id INTEGER NOT NULL,
        id TEXT NOT NULL,
        rank INTEGER NOT NULL,
        body TEXT NOT NULL
    )""",
    "CREATE UNIQUE INDEX document_id ON document (trace_id, id)",
    f"CREATE TABLE {sql.TRACE_TABLE} ({_columns(sql.TRACE_COLUMNS)})",
    f"CREATE INDEX trace_start ON {sql.TRACE_TABLE} (start_time, id, end_time)",
    # rows of one trace lie together: they are looked for by trace and written at once
    f"""CREATE TABLE {sql.NODE_TABLE} (
        {_columns(sql.NODE_COLUMNS)}, number INTEGER,
        PRIMARY KEY (trace_id, number)
    ) WITHOUT ROWID""",
    f"""CREATE TABLE {sql.ANNOTATION_TABLE} (
        {_columns(sql.ANNOTATION_COLUMNS)}, number INTEGER,
        PRIMARY KEY (trace_id, key, number)
    ) WITHOUT ROWID""",
    f"""CREATE TABLE {sql.LABEL_TABLE} (
        {_columns(sql.LABEL_COLUMNS)},
        PRIMARY KEY (trace_id, kind, value)
    ) WITHOUT ROWID""",
    # what is shown of a compiled trace, and what it adds to the service graph
    """CREATE TABLE summary (
        trace_id INTEGER PRIMARY KEY,
        body BLOB NOT NULL,
        observations BLOB NOT NULL,
        groups TEXT NOT NULL
    )""",
    # which traces a trace was caused by
    """CREATE TABLE link (
        linked_xray_id TEXT,
        trace_id INTEGER,
        PRIMARY KEY (linked_xray_id, trace_id)
    ) WITHOUT ROWID""",
    "CREATE INDEX link_trace ON link (trace_id)",
    # the service graph by group and minute of what it counts
    """CREATE TABLE rollup (
        group_arn TEXT,
        minute INTEGER,
        body BLOB NOT NULL,
        PRIMARY KEY (group_arn, minute)
    ) WITHOUT ROWID""",
    # groups, sampling rules, policies, tags …: few and small
    """CREATE TABLE resource (
        kind TEXT,
        name TEXT,
        body BLOB NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID""",
)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables where they are missing."""
    if version_of(connection) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def version_of(connection: sqlite3.Connection) -> int | None:
    """The file's schema version, 0 for an empty file, None for another program's file."""
    if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return None if tables else 0


class State(Enum):
    """What is known about a file that is opened."""

    OPEN = b"open"  # it was not closed in good order
    CLOSED = b"closed"
    DAMAGED = b"damaged"  # damage was come upon while it was open


def mark(connection: sqlite3.Connection, state: State) -> None:
    """Note the state that the next one to open the file shall find."""
    connection.execute(
        "INSERT OR REPLACE INTO resource VALUES ('store', 'state', ?)", (state.value,)
    )


def check(connection: sqlite3.Connection) -> None:
    """Look for damage: for `CHECK_S_MAX` where the file was not closed in good order.

    Where damage was come upon before, the whole file is looked through, however long it takes.

    Raises:
        sqlite3.DatabaseError: the file is damaged; the message says how.
    """
    row = connection.execute(
        "SELECT body FROM resource WHERE kind = 'store' AND name = 'state'"
    ).fetchone()
    state = State.OPEN.value if row is None else row[0]
    if state == State.CLOSED.value:
        return
    is_bounded = state == State.OPEN.value
    deadline = time.monotonic() + CHECK_S_MAX if is_bounded else math.inf
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        found = "ok"
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise sqlite3.DatabaseError(found)
