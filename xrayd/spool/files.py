"""The files of a spool: what is known of each, and how to know it without reading them all."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Final

import msgspec

from xrayd.spool.disk import Disk
from xrayd.spool.record import (
    HEADER_BYTES,
    RECORD_BYTES,
    TRAILER_BYTES,
    Header,
    Key,
    decode_header,
    decode_trailer,
    encode_trailer,
    is_other_version,
    walk,
)
from xrayd.spool.seqset import SeqSet

NEW_NAME: Final = "new"
"""A file is made under this name and renamed once it has a header."""
_NAME: Final = re.compile(r"[0-9a-f]{16}\.seg")
_SECTOR_BYTES: Final = 4096
_FIRST_BEYOND: Final = 1 << 62
"""Nobody appends so many records: a file that is called so is not the spool's."""


def name_of(first: int) -> str:
    """The name of the file that begins with this sequence number. Names sort as the numbers do."""
    return f"{first:016x}.seg"


class SpoolFile(msgspec.Struct, eq=False):
    """One file of records with consecutive sequence numbers."""

    name: str
    first: int
    """The sequence number of its first record."""
    end: int
    """One past the sequence number of its last record."""
    size: int
    """How many bytes of it count."""
    inode: int
    key: Key
    last_at: float
    """When the last record was appended, epoch seconds."""
    sealed: bool
    """Whether it ends with a trailer."""
    done: SeqSet = msgspec.field(default_factory=SeqSet)
    """Which of its records are acknowledged, or known to be lost."""
    bookmark: tuple[int, int] = (0, HEADER_BYTES)
    """A sequence number and the offset of its record, from which reading goes on."""

    @property
    def pending(self) -> int:
        """How many of its records are still to be delivered."""
        return self.end - self.first - len(self.done)

    @property
    def start(self) -> tuple[int, int]:
        """The bookmark of a file that has not been read."""
        return self.first, HEADER_BYTES

    def cut(self, end: int) -> SeqSet:
        """Let the file end before sequence number `end`; returns what was done from there on."""
        self.end = end
        self.sealed = False
        if self.bookmark[0] > end:
            self.bookmark = self.start
        return self.done.split(end)


class Found(msgspec.Struct):
    """What lies in a spool's directory."""

    files: list[SpoolFile] = []
    """Those that hold records, in the order of their sequence numbers."""
    empty: list[str] = []
    """Files that never got to hold a record."""
    unreadable: list[str] = []
    """Files that are damaged beyond reading, or of another version."""
    next_seq: int = 1
    """Higher than any sequence number in the files."""
    fault: OSError | None = None
    """Why the newest could not be put in order, if it could not."""


def find_files(disk: Disk, directory: int, secret: bytes) -> Found:
    """Look at every file of records. Only the newest that has no trailer is read, and none changed.

    Raises:
        OSError: The directory cannot be listed.
    """
    found = Found()
    for name in sorted(filter(_NAME.fullmatch, disk.listdir(directory))):
        first = int(name[:16], 16)
        if first >= _FIRST_BEYOND:
            found.unreadable.append(name)
            continue
        try:
            file = _look_at(disk, directory, name, secret)
        except FileNotFoundError:
            continue  # the daemon that has the spool has delivered all that was in it
        except OSError:
            file = None
        if file is None:
            found.unreadable.append(name)
            found.next_seq = max(found.next_seq, first + _records_at_most(disk, directory, name))
        elif file.size <= HEADER_BYTES or (file.sealed and file.end == first):
            found.empty.append(name)
            found.next_seq = max(found.next_seq, first)
        else:
            found.files.append(file)
    _measure_newest(disk, directory, found)
    for file, newer in pairwise(found.files):
        # A file without a trailer that has a newer one ends where the newer one begins: a newer one
        # is only ever begun there. Should bytes be damaged, reading will tell.
        if not file.sealed:
            file.end, file.last_at = newer.first, newer.last_at
        file.end = min(file.end, newer.first)
    found.next_seq = max([found.next_seq, *(file.end for file in found.files)])
    return found


def fetch_from(disk: Disk, fd: int) -> Callable[[int, int], bytes]:
    """A function that reads so many bytes at an offset; unreadable sectors become zeros."""

    def fetch(offset: int, size: int) -> bytes:
        try:
            return disk.pread(fd, size, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        parts = []
        while size > 0:
            part = min(size, _SECTOR_BYTES - offset % _SECTOR_BYTES)
            try:
                parts.append(disk.pread(fd, part, offset))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                parts.append(bytes(part))
            offset, size = offset + part, size - part
        return b"".join(parts)

    return fetch


def finish_file(disk: Disk, directory: int, file: SpoolFile) -> None:
    """Cut a file that is not open for writing to what counts of it, and give it a trailer.

    Raises:
        OSError: It could not be done, which costs nothing but time at the next start.
    """
    fd = disk.open(directory, file.name, os.O_RDWR | os.O_APPEND)
    try:
        state = disk.fstat(fd)
        if state.inode != file.inode:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        if state.size > file.size:
            disk.truncate(fd, file.size)
        if not file.sealed and state.size >= file.size:
            with suppress(OSError):
                write_trailer(disk, fd, file)
        disk.fdatasync(fd)
    finally:
        disk.close(fd)


def write_trailer(disk: Disk, fd: int, file: SpoolFile) -> None:
    """End a file that is open for appending with a trailer.

    Raises:
        OSError: It could not be written; the file is as it was, or ends in bytes that do not count.
    """
    trailer = encode_trailer(file.end, file.last_at, file.key)
    write_all(disk, fd, trailer)
    file.size += len(trailer)
    file.sealed = True


def write_all(disk: Disk, fd: int, data: bytes) -> None:
    """Append all of the data, in one call unless the system takes less.

    Raises:
        OSError: Not all of it could be written.
    """
    written = disk.write(fd, data)
    while written < len(data):
        written += disk.write(fd, memoryview(data)[written:])


def _look_at(disk: Disk, directory: int, name: str, secret: bytes) -> SpoolFile | None:
    """What a file's first and last bytes tell of it; None if it cannot be read at all."""
    first = int(name[:16], 16)
    fd = disk.open(directory, name, os.O_RDONLY)
    try:
        state = disk.fstat(fd)
        fetch = fetch_from(disk, fd)
        start = fetch(0, HEADER_BYTES)
        header = decode_header(start)
        if header is None or header.first != first:
            header = Header(first, 0.0, Key.derive(secret, first))
            damaged = state.size > 0 and not is_other_version(start)
            if state.size > 0 and not (damaged and _holds_a_record(fetch, header.key, state.size)):
                return None
        trailer = None
        if state.size >= HEADER_BYTES + TRAILER_BYTES:
            trailer = decode_trailer(fetch(state.size - TRAILER_BYTES, TRAILER_BYTES), header.key)
    finally:
        disk.close(fd)
    end, last_at = trailer or (first, header.created_at)
    return SpoolFile(
        name=name,
        first=first,
        end=max(end, first),
        size=state.size,
        inode=state.inode,
        key=header.key,
        last_at=last_at,
        sealed=trailer is not None,
        bookmark=(first, HEADER_BYTES),
    )


def _holds_a_record(fetch: Callable[[int, int], bytes], key: Key, size: int) -> bool:
    return any(record.document() is not None for record in walk(fetch, key, HEADER_BYTES, size))


def _measure_newest(disk: Disk, directory: int, found: Found) -> None:
    """Find out where the newest file ends; pass over newer ones that turn out to hold no record."""
    while found.files and not found.files[-1].sealed:
        file = found.files[-1]
        try:
            fd = disk.open(directory, file.name, os.O_RDONLY)
        except FileNotFoundError:  # meanwhile it was delivered
            found.files.pop()
            continue
        try:
            _measure(file, fetch_from(disk, fd))
        finally:
            disk.close(fd)
        if file.end > file.first:
            return
        found.empty.append(found.files.pop().name)
        found.next_seq = max(found.next_seq, file.first)


def _measure(file: SpoolFile, fetch: Callable[[int, int], bytes]) -> None:
    """Let the file end after the last record that proves itself."""
    stop = HEADER_BYTES
    for record in walk(fetch, file.key, HEADER_BYTES, file.size):
        if record.seq < file.end or record.document() is None:
            continue
        file.end, stop, file.last_at = record.seq + 1, record.stop, record.received_at
        if record.is_trailer:
            file.end, file.sealed = record.seq, True
            break
    file.size = stop


def _records_at_most(disk: Disk, directory: int, name: str) -> int:
    try:
        return disk.stat(directory, name).size // RECORD_BYTES + 1
    except OSError:
        return 1
