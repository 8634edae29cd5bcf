"""Small settings kept by kind and name: groups, sampling rules, policies, tags and the like."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from xrayd.dev.database import Database
from xrayd.errors import StoreError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of resource: the name it is stored under, and the struct its JSON is read into."""

    name: str
    value: type[T]


class Resources:
    """The resources of a database, seen through a connection that is reading or writing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, kind: Kind[T], name: str) -> T | None:
        """The resource of this name, if there is one."""
        row = self._connection.execute(
            "SELECT body FROM resource WHERE kind = ? AND name = ?", (kind.name, name)
        ).fetchone()
        return None if row is None else _decode(kind, name, row[0])

    def all(self, kind: Kind[T]) -> dict[str, T]:
        """Every resource of the kind by name, in the order of names."""
        rows = self._connection.execute(
            "SELECT name, body FROM resource WHERE kind = ? ORDER BY name", (kind.name,)
        )
        return {name: _decode(kind, name, body) for name, body in rows}

    def put(self, kind: Kind[T], name: str, value: T) -> None:
        """Store or replace."""
        self._connection.execute(
            "INSERT OR REPLACE INTO resource VALUES (?, ?, ?)",
            (kind.name, name, msgspec.json.encode(value)),
        )

    def delete(self, kind: Kind[T], name: str) -> None:
        """Remove; nothing happens where there is none."""
        self._connection.execute(
            "DELETE FROM resource WHERE kind = ? AND name = ?", (kind.name, name)
        )

    def delete_sums(self, group_arn: str) -> None:
        """Remove what a group counted."""
        self._connection.execute("DELETE FROM rollup WHERE group_arn = ?", (group_arn,))


@contextmanager
def reading_resources(database: Database) -> Iterator[Resources]:
    """The resources as they are now.

    Raises:
        StoreError: reading failed.
    """
    with database.reading() as connection:
        yield Resources(connection)


@contextmanager
def changing_resources(database: Database) -> Iterator[Resources]:
    """The resources for reading and writing, with nobody else writing meanwhile.

    Raises:
        StoreError: writing failed; nothing of it is kept.
    """
    with database.writing() as connection:
        yield Resources(connection)


def _decode(kind: Kind[T], name: str, body: bytes) -> T:
    try:
        return msgspec.json.decode(body, type=kind.value)
    except msgspec.DecodeError as error:
        raise StoreError(f"the stored {kind.name} {name!r} is unreadable: {error}") from error
