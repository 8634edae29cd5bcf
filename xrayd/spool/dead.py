"""Documents the service refuses for good, kept with its reasons for someone to look at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Self

import msgspec

from xrayd.spool.directory import open_directory
from xrayd.spool.disk import Disk
from xrayd.spool.files import fetch_from, write_all
from xrayd.spool.record import (
    HEADER_BYTES,
    RECORD_BYTES,
    Key,
    decode_header,
    encode_header,
    encode_records,
    walk,
)

NAME: Final = "dead"
BYTES_MAX: Final = 10 * 1024 * 1024
_FILES_MAX: Final = 10
_FILE_NAME: Final = re.compile(r"[0-9a-f]{16}\.dead")


class DeadLetter(msgspec.Struct, frozen=True):
    """A refused document and why it was refused."""

    refused_at: float
    """Epoch seconds."""
    reason: str
    """What xrayd made of it, as a stable word."""
    code: str
    """The service's error code; empty if it gave none."""
    message: str
    """What the service said about it; empty if nothing."""
    trace_id: str
    """Empty if the document does not tell."""
    document: bytes


class _File(msgspec.Struct):
    name: str
    first: int
    size: int


class DeadLetters:
    """The directory `dead` inside a spool's, opened to add to by the process that has the spool.

    At most 10 MiB are kept: the oldest tenth makes room. Letters survive the process; they are not
    synced one by one, because each of them was counted where it was refused.
    """

    def __init__(self, disk: Disk, directory: int, bytes_max: int) -> None:
        self._disk = disk
        self._directory = directory
        self._bytes_max = bytes_max
        self._file_bytes = bytes_max // _FILES_MAX
        self._files = _list_files(disk, directory)
        self._key: Key | None = None
        self._fd = -1
        self._next = 1
        if self._files:
            newest = self._files[-1]
            numbers = [number for number, _ in _read_file(disk, directory, newest.name)]
            # Beyond the file's own number even if nothing in it can be read: the name is taken.
            self._next = max([newest.first, *numbers]) + 1

    @classmethod
    def open(
        cls,
        spool_directory: str | os.PathLike[str],
        *,
        bytes_max: int = BYTES_MAX,
        disk: Disk | None = None,
    ) -> Self:
        """Open the dead letters of a spool, whose directory must exist.

        Raises:
            ConfigError: The directory for them cannot be used.
            OSError: It cannot be created or listed.
        """
        disk = disk or Disk()
        directory = open_directory(disk, os.path.join(os.fspath(spool_directory), NAME))
        return cls(disk, directory, bytes_max)

    @property
    def bytes_on_disk(self) -> int:
        """What the letters take."""
        return sum(file.size for file in self._files)

    def add(self, letter: DeadLetter) -> bool:
        """Keep a letter. False if the disk does not take it, or if it is larger than a file."""
        payload = msgspec.msgpack.encode(letter)
        try:
            return self._append(payload, letter.refused_at)
        except OSError:
            self._close_file()
            return False

    def __iter__(self) -> Iterator[tuple[int, DeadLetter]]:
        """The letters with their numbers, oldest first."""
        return _read_all(self._disk, self._directory)

    def close(self) -> None:
        """Close the files."""
        self._close_file()
        self._disk.close(self._directory)

    def _append(self, payload: bytes, now: float) -> bool:
        size = RECORD_BYTES + len(payload)
        if HEADER_BYTES + size > self._file_bytes:
            return False
        if self._key is None:
            self._open_newest()
        if self._key is None or self._files[-1].size + size > self._file_bytes:
            self._key = self._begin_file(now)
        write_all(self._disk, self._fd, encode_records([payload], self._next, now, self._key))
        self._files[-1].size += size
        self._next += 1
        return True

    def _open_newest(self) -> None:
        """Go on where the last process, or the last failed write, left off."""
        if not self._files:
            return
        newest = self._files[-1]
        self._fd = self._disk.open(self._directory, newest.name, os.O_RDWR | os.O_APPEND)
        newest.size = self._disk.fstat(self._fd).size
        fetch = fetch_from(self._disk, self._fd)
        header = decode_header(fetch(0, HEADER_BYTES))
        if header is None:
            return
        records = walk(fetch, header.key, HEADER_BYTES, newest.size)
        stops = [record.stop for record in records if record.document() is not None]
        # Behind half a record, a whole one would be taken for its second half.
        newest.size = max([HEADER_BYTES, *stops])
        self._disk.truncate(self._fd, newest.size)
        self._key = header.key

    def _begin_file(self, now: float) -> Key:
        self._close_file()
        while self._files and self.bytes_on_disk + self._file_bytes > self._bytes_max:
            self._disk.unlink(self._directory, self._files[0].name)
            del self._files[0]
        name = f"{self._next:016x}.dead"
        key = Key.of(os.urandom(8))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._fd = self._disk.open(self._directory, name, flags)
        try:
            write_all(self._disk, self._fd, encode_header(self._next, now, key))
        except OSError:
            self._next += 1  # Should the name stay taken, the next attempt has another.
            with suppress(OSError):
                self._disk.unlink(self._directory, name)
            raise
        self._files.append(_File(name, self._next, HEADER_BYTES))
        return key

    def _close_file(self) -> None:
        self._key = None
        if self._fd >= 0:
            with suppress(OSError):
                self._disk.close(self._fd)
            self._fd = -1


def read_dead_letters(
    spool_directory: str | os.PathLike[str], disk: Disk | None = None
) -> Iterator[tuple[int, DeadLetter]]:
    """The dead letters of a spool, oldest first with their numbers, also while xrayd runs.

    Raises:
        OSError: The directory cannot be read, or one of its files.
    """
    disk = disk or Disk()
    try:
        directory = disk.open_directory(os.path.join(os.fspath(spool_directory), NAME))
    except FileNotFoundError:
        return
    try:
        yield from _read_all(disk, directory)
    finally:
        disk.close(directory)


def _list_files(disk: Disk, directory: int) -> list[_File]:
    names = sorted(filter(_FILE_NAME.fullmatch, disk.listdir(directory)))
    return [_File(name, int(name[:16], 16), disk.stat(directory, name).size) for name in names]


def _read_all(disk: Disk, directory: int) -> Iterator[tuple[int, DeadLetter]]:
    for file in _list_files(disk, directory):
        try:
            yield from _read_file(disk, directory, file.name)
        except FileNotFoundError:
            continue  # It was the oldest, and made room.


def _read_file(disk: Disk, directory: int, name: str) -> Iterator[tuple[int, DeadLetter]]:
    fd = disk.open(directory, name, os.O_RDONLY)
    try:
        fetch = fetch_from(disk, fd)
        header = decode_header(fetch(0, HEADER_BYTES))
        if header is None:
            return
        for record in walk(fetch, header.key, HEADER_BYTES, disk.fstat(fd).size):
            payload = record.document()
            if payload is not None and not record.is_trailer:
                yield record.seq, msgspec.msgpack.decode(payload, type=DeadLetter)
    finally:
        disk.close(fd)
