"""What has been acknowledged, in one small file of two slots.

The slots are written in turn and never synced, so a write can be lost or torn: then the other slot,
one write older, holds, and some records are delivered twice. Nothing that a slot says can lose a
record, because it never claims more than was acknowledged and never a number that was not given out
yet.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from zlib import crc32

import msgspec

from xrayd.spool.disk import Disk
from xrayd.spool.seqset import longest

NAME: Final = "cursor"
SLOT_BYTES: Final = 4096
"""One page, so that a kill between two writes cannot tear one."""
SECRET_BYTES: Final = 16
_MAGIC: Final = b"xrsc"
_HEAD: Final = struct.Struct("<4sIQQQ16s")
_RANGE: Final = struct.Struct("<QI")
_SUM: Final = struct.Struct("<I")
RANGES_MAX: Final = (SLOT_BYTES - _HEAD.size - _SUM.size) // _RANGE.size
_LENGTH_MAX: Final = 0xFFFF_FFFF


class CursorState(msgspec.Struct, frozen=True):
    """What a slot says."""

    watermark: int
    """Every sequence number below this one is done with."""
    next_seq: int
    """Every sequence number below this one was given out."""
    secret: bytes
    """From which the keys of the spool's files are derived (16 bytes)."""
    done: tuple[range, ...] = ()
    """Acknowledged above the watermark; not all of them, if they are too many ranges for a slot."""


def encode_slot(state: CursorState, generation: int) -> bytes:
    """A slot's bytes, at most 4,096. Forgets the shortest ranges if there are too many."""
    done = longest(_bounded(state.done), RANGES_MAX)
    head = _HEAD.pack(_MAGIC, len(done), generation, state.watermark, state.next_seq, state.secret)
    body = head + b"".join(_RANGE.pack(seqs.start, len(seqs)) for seqs in done)
    return body + _SUM.pack(crc32(body))


def decode_slot(data: bytes) -> tuple[int, CursorState] | None:
    """The generation and state in a slot, or None if it was never written, or torn or damaged."""
    if len(data) < _HEAD.size:
        return None
    magic, count, generation, watermark, next_seq, secret = _HEAD.unpack_from(data)
    size = _HEAD.size + count * _RANGE.size
    if magic != _MAGIC or size + _SUM.size > len(data):
        return None
    if _SUM.unpack_from(data, size)[0] != crc32(data[:size]):
        return None
    pairs = _RANGE.iter_unpack(data[_HEAD.size : size])
    done = tuple(range(start, start + length) for start, length in pairs)
    return generation, CursorState(watermark, next_seq, secret, done)


def _bounded(ranges: Iterable[range]) -> Iterable[range]:
    return (seqs[:_LENGTH_MAX] for seqs in ranges)


class Cursor:
    """The cursor file of an open spool directory."""

    def __init__(self, disk: Disk, directory: int) -> None:
        self._disk = disk
        self._directory = directory
        self._fd = -1
        self._generation = 0

    def read(self) -> CursorState | None:
        """The newest state that proves itself; None if there is none. Raises no OSError."""
        try:
            fd = self._disk.open(self._directory, NAME, os.O_RDONLY)
        except OSError:
            return None
        try:
            slots = [self._read_slot(fd, slot) for slot in (0, 1)]
        finally:
            self._disk.close(fd)
        best = max((slot for slot in slots if slot), key=lambda slot: slot[0], default=None)
        if best is None:
            return None
        self._generation = best[0]
        return best[1]

    def write(self, state: CursorState) -> None:
        """Write the older slot over, creating the file if need be.

        Raises:
            OSError: It could not be written. The state before holds; trying again is safe.
        """
        if self._fd < 0:
            self._open(state)
        self._write_next(state)

    def sync(self) -> None:
        """Make the last state durable. Only worth it when nothing follows: it saves duplicates."""
        if self._fd >= 0:
            self._disk.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1

    def _read_slot(self, fd: int, slot: int) -> tuple[int, CursorState] | None:
        try:
            return decode_slot(self._disk.pread(fd, SLOT_BYTES, slot * SLOT_BYTES))
        except OSError:
            return None

    def _open(self, state: CursorState) -> None:
        fd = self._disk.open(self._directory, NAME, os.O_RDWR | os.O_CREAT)
        try:
            if self._disk.fstat(fd).size < 2 * SLOT_BYTES:
                self._prepare(fd, state)
        except OSError:
            self._disk.close(fd)
            raise
        self._fd = fd

    def _prepare(self, fd: int, state: CursorState) -> None:
        """Give the file all the blocks it will ever need, so that a full disk cannot stop it."""
        try:
            for _ in range(2):
                self._generation += 1
                data = encode_slot(state, self._generation).ljust(SLOT_BYTES, b"\0")
                _pwrite_all(self._disk, fd, data, self._generation % 2 * SLOT_BYTES)
            self._disk.fdatasync(fd)
            self._disk.fsync_directory(self._directory)
        except OSError:
            with suppress(OSError):
                self._disk.unlink(self._directory, NAME)
            raise

    def _write_next(self, state: CursorState) -> None:
        generation = self._generation + 1
        data = encode_slot(state, generation)
        _pwrite_all(self._disk, self._fd, data, generation % 2 * SLOT_BYTES)
        self._generation = generation


def _pwrite_all(disk: Disk, fd: int, data: bytes, offset: int) -> None:
    while data:
        written = disk.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
