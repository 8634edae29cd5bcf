"""One SQLite file: one writer under a lock, a few bounded readers, one process.

Acknowledged writes survive the death of the process (write-ahead log; `synchronous = NORMAL` leaves
only the last moments before a power cut at risk). A file that is damaged, or written by a newer
xrayd, is moved aside with a message, never emptied; a file that belongs to another program or
another process is refused.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xrayd.dev import schema
from xrayd.errors import StoreError
from xrayd.filelock import try_lock

MEMORY = ":memory:"
"""A path that is no file: data lives as long as the process."""

READ_S_MAX = 5.0
"""Seconds a read may take in all before it is broken off."""

READERS = 4
"""Read connections; each may cache `READER_CACHE_KIB`."""

READER_CACHE_KIB = 8 * 1024
WRITER_CACHE_KIB = 32 * 1024
_PROGRESS_STEPS = 2000  # virtual machine steps between looks at the clock: well under a millisecond
# The log is written back by `checkpoint` beside everything else; whoever commits does it only where
# that has left 64 MiB, and then waits for the disk.
_WAL_PAGES = 8000
_SQLITE_MAGIC = b"SQLite format 3\0"


class TooSlowError(StoreError):
    """A read was broken off at its time limit: it asks for too much."""


class BusyError(StoreError):
    """No connection became free in time: ask again."""


class InUseError(StoreError):
    """Another process holds the file.

    Attributes:
        url: where that process answers the X-Ray API, "" where it does not say.
    """

    def __init__(self, message: str, url: str) -> None:
        super().__init__(message)
        self.url = url


class Database:
    """An open database with the schema of `xrayd.dev.schema`.

    Attributes:
        notice: what happened to a file that could not be used, None when nothing did. For the
            operator.
    """

    def __init__(self, path: str) -> None:
        """Open or create the database.

        Args:
            path: a file, created where missing, or `MEMORY`.

        Raises:
            StoreError: the file is in use by another process, belongs to another program, or cannot
                be opened or created; the message says which.
        """
        self.path = path
        self.notice: str | None = None
        self._writing = threading.Lock()
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._readers_made = 0
        self._is_closed = False
        self._is_damaged = False
        self._open: list[sqlite3.Connection] = []
        self._lock_file: int | None = None
        self._checkpointing = threading.Lock()
        self._checkpointer: sqlite3.Connection | None = None
        try:
            if path == MEMORY:
                self._writer = self._connect(WRITER_CACHE_KIB)
                schema.create(self._writer)
            else:
                # what a link leads to, or two processes could use it by two names
                self._open_file(Path(os.path.realpath(path)))
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"cannot use the database {path}: {error}") from error
        except (OSError, StoreError) as error:
            self.close()
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"cannot use the database {path}: {error.strerror}") from error

    @property
    def is_in_memory(self) -> bool:
        """Whether there is no file."""
        return self.path == MEMORY

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The writer, in a transaction that is committed on leaving and undone on an error.

        Raises:
            StoreError: the write failed; nothing of it is kept.
        """
        with self._writing:
            self._check_open()
            connection = self._writer
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:  # SQLite ends it itself where the disk is full
                        connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._explain(error) from error

    @contextmanager
    def reading(self, limit_s: float = READ_S_MAX) -> Iterator[sqlite3.Connection]:
        """A reader with one consistent view of the data.

        Args:
            limit_s: seconds from now on after which a running statement is broken off.

        Raises:
            BusyError: all readers stayed busy.
            TooSlowError: the limit was reached.
            StoreError: the read failed.
        """
        deadline = time.monotonic() + limit_s
        connection = self._borrow()
        try:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.set_progress_handler(None, 0)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._explain(error) from error
        finally:
            self._give_back(connection)

    def checkpoint(self) -> None:
        """Bring what was committed from the log into the file; call it now and then, in a thread.

        It waits for the disk; those who read and write meanwhile do not.

        Raises:
            StoreError: it failed; nothing is lost.
        """
        with self._checkpointing:
            if self._checkpointer is None or self._is_closed:
                return
            try:
                self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error as error:
                raise self._explain(error) from error

    def used_bytes(self) -> int:
        """Bytes of data and indexes; free pages inside the file are not counted."""
        with self.reading() as connection:
            pages, free, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    def tell_url(self, url: str) -> None:
        """Tell those who find the file in use where its traces can be had: `InUseError.url`."""
        if self._lock_file is not None:
            os.write(self._lock_file, f"{url}\n".encode())

    def close(self) -> None:
        """Write everything to the file and let go of it. Safe to call twice."""
        with self._checkpointing, self._writing:
            self._is_closed = True
            if self._readers_made and self._open:
                # a connection must not be closed while it is reading
                with suppress(queue.Empty, sqlite3.Error):
                    for _ in range(self._readers_made):
                        self._readers.get(timeout=READ_S_MAX)
                    state = schema.State.DAMAGED if self._is_damaged else schema.State.CLOSED
                    schema.mark(self._writer, state)
            for connection in reversed(self._open):
                with suppress(sqlite3.Error):
                    connection.close()
            self._open.clear()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the store is closed")

    def _borrow(self) -> sqlite3.Connection:
        self._check_open()
        if self.is_in_memory:
            if not self._writing.acquire(timeout=READ_S_MAX):
                raise BusyError("the store is busy")
            return self._writer
        try:
            return self._readers.get(timeout=READ_S_MAX)
        except queue.Empty:
            raise BusyError("all readers of the store are busy") from None

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self.is_in_memory:
            self._writing.release()
        else:
            self._readers.put(connection)

    def _explain(self, error: sqlite3.Error) -> StoreError:
        # errors that the sqlite3 module raises itself carry no code
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_INTERRUPT:
            return TooSlowError("the request reads too much: narrow its time range or its filter")
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return BusyError("the store is busy")
        self._is_damaged = self._is_damaged or _is_corruption(error)
        return StoreError(f"the store failed: {error}")

    def _open_file(self, path: Path) -> None:
        self._lock_file = _lock(path)
        if path.exists() and path.stat().st_size:
            self.notice = self._move_aside_if_unusable(path)
        self._writer = self._connect(WRITER_CACHE_KIB)
        schema.create(self._writer)
        schema.mark(self._writer, schema.State.OPEN)
        self._checkpointer = self._connect(READER_CACHE_KIB)
        for _ in range(READERS):
            reader = self._connect(READER_CACHE_KIB)
            reader.execute("PRAGMA query_only = ON")
            self._readers.put(reader)
            self._readers_made += 1

    def _move_aside_if_unusable(self, path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
                    raise sqlite3.DatabaseError("it does not begin like a database")
            # without settings of ours: it may turn out to be a stranger's
            connection = sqlite3.connect(path, timeout=READ_S_MAX, isolation_level=None)
            self._open.append(connection)
            version = schema.version_of(connection)
            if version is None:
                raise StoreError(
                    f"{path} is the database of another program; name another file with --data"
                )
            if version <= schema.VERSION:
                schema.check(connection)
                return None
            reason, suffix = f"was written by a newer xrayd (its schema is {version})", "newer"
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_corruption(error):
                raise
            reason, suffix = f"is damaged ({error})", "damaged"
        finally:
            while self._open:
                self._open.pop().close()
        aside = _move_aside(path, suffix)
        return f"{path} {reason}: moved to {aside}, starting with an empty one"

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=READ_S_MAX,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        self._open.append(connection)
        connection.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection


def _lock(path: Path) -> int:
    """An advisory lock beside the database, held while the process lives."""
    side = path.with_name(f"{path.name}.lock")
    descriptor = os.open(side, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        is_locked = try_lock(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    if not is_locked:
        holder, _, url = os.read(descriptor, 300).decode("ascii", "replace").partition("\n")
        os.close(descriptor)
        raise InUseError(
            f"{path} is in use by another xrayd (process {holder.strip() or 'unknown'});"
            " stop it or name another file with --data",
            url.strip(),
        )
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _move_aside(path: Path, suffix: str) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.{suffix}-{number}")).exists():
        number += 1
    path.rename(aside)
    for tail in ("-wal", "-shm"):
        side = path.with_name(path.name + tail)
        if side.exists():
            side.rename(aside.with_name(aside.name + tail))
    return aside


def _is_corruption(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
