"""The bytes of a spool file. Pure: encodes records, and finds the ones that prove themselves.

A file is a header of 36 bytes, then records, then, if it was finished in good order, a trailer.

    header   magic 4 · version u32 · first seq u64 · created ns u64 · salt 8 · crc32 of these
    record   mark 4 · size u32 · seq u64 · received at u32 · hcrc u32 · pcrc u32 · document
    trailer  a record without a document whose size is 0xFFFFFFFF and whose seq is one past the last

Documents are chosen by whoever can send a datagram, and where bytes are damaged the next record has
to be searched for. So nothing a sender knows may look like a record: the mark that begins each one
and the start value of its checksums come from the file's salt, which never leaves the disk. A
record that a sender puts into a document is found neither as a record nor as a candidate, which
also keeps the search linear.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"xrsp"
VERSION: Final = 1
_HEADER: Final = struct.Struct("<4sIQQ8s")
_SUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _HEADER.size + _SUM.size

_HEAD: Final = struct.Struct("<4sIQI")
_SUMS: Final = struct.Struct("<II")
_WHOLE_HEAD: Final = struct.Struct("<4sIQII")
RECORD_BYTES: Final = _HEAD.size + _SUMS.size
"""What a record takes beside its document."""
TRAILER_BYTES: Final = RECORD_BYTES
TRAILER_SIZE: Final = 0xFFFF_FFFF
"""In place of a size: this is not a record but the end of the file."""

CHUNK_BYTES: Final = 64 * 1024
"""How much of a file is in memory while it is walked, unless a single record is larger."""


class Key(NamedTuple):
    """What a record of one file must be marked and checked with."""

    salt: bytes
    mark: bytes
    seed: int

    @classmethod
    def of(cls, salt: bytes) -> Key:
        """The key of a file with this salt (8 bytes)."""
        # 0xFB begins no UTF-8 character and is neither zero nor erased flash: what files are mostly
        # full of is never even a candidate.
        return cls(salt, b"\xfb" + salt[:3], crc32(salt))

    @classmethod
    def derive(cls, secret: bytes, first: int) -> Key:
        """The key of the file that begins with sequence number `first`.

        The salt is written into the file's header too. That either can be had without the other
        keeps a damaged header, like a lost secret, from costing more than itself.
        """
        return cls.of(
            hashlib.blake2b(first.to_bytes(8, "little"), digest_size=8, key=secret).digest()
        )


class Header(NamedTuple):
    """A file's header that proved itself."""

    first: int
    created_at: float
    key: Key


def encode_header(first: int, now: float, key: Key) -> bytes:
    """The first 36 bytes of a file."""
    head = _HEADER.pack(MAGIC, VERSION, first, int(max(now, 0) * 1e9), key.salt)
    return head + _SUM.pack(crc32(head))


def decode_header(data: bytes) -> Header | None:
    """The header in a file's first bytes, or None if it is damaged or of an unknown version."""
    if len(data) < HEADER_BYTES:
        return None
    magic, version, first, created_ns, salt = _HEADER.unpack_from(data)
    (checksum,) = _SUM.unpack_from(data, _HEADER.size)
    if magic != MAGIC or version != VERSION or crc32(data[: _HEADER.size]) != checksum:
        return None
    return Header(first, created_ns / 1e9, Key.of(salt))


def is_other_version(data: bytes) -> bool:
    """Whether a file's first bytes are a sound header of a version this code does not know."""
    if len(data) < HEADER_BYTES:
        return False
    magic, version, *_ = _HEADER.unpack_from(data)
    (checksum,) = _SUM.unpack_from(data, _HEADER.size)
    sound = magic == MAGIC and crc32(data[: _HEADER.size]) == checksum
    return bool(sound and version != VERSION)


def encode_records(documents: Sequence[bytes], first: int, now: float, key: Key) -> bytes:
    """Records with the sequence numbers from `first` on, one for each document."""
    received_at = _seconds(now)
    mark, seed = key.mark, key.seed
    parts: list[bytes] = []
    for seq, document in enumerate(documents, first):
        head = _HEAD.pack(mark, len(document), seq, received_at)
        hcrc = crc32(head, seed)
        parts += (head, _SUMS.pack(hcrc, crc32(document, hcrc)), document)
    return b"".join(parts)


def encode_trailer(end: int, now: float, key: Key) -> bytes:
    """The last 28 bytes of a file whose last record is number `end - 1`."""
    head = _HEAD.pack(key.mark, TRAILER_SIZE, end, _seconds(now))
    hcrc = crc32(head, key.seed)
    return head + _SUMS.pack(hcrc, hcrc)


def decode_trailer(data: bytes, key: Key) -> tuple[int, float] | None:
    """One past the last sequence number, and when that record came; None if this is no trailer."""
    if len(data) != TRAILER_BYTES:
        return None
    mark, size, end, written_at, hcrc = _WHOLE_HEAD.unpack_from(data)
    if mark != key.mark or size != TRAILER_SIZE or crc32(data[: _HEAD.size], key.seed) != hcrc:
        return None
    return end, float(written_at)


class Located(NamedTuple):
    """A record, or the trailer, whose header proved itself. Its document is still to be checked."""

    offset: int
    """In the file."""
    stop: int
    """In the file: the offset after it."""
    seq: int
    received_at: float
    is_trailer: bool
    chunk: bytes
    at: int
    """Its offset in the chunk."""

    def document(self) -> bytes | None:
        """The document, or None if it is not what was written."""
        at, chunk = self.at, self.chunk
        document = chunk[at + RECORD_BYTES : at + self.stop - self.offset]
        hcrc, pcrc = _SUMS.unpack_from(chunk, at + _HEAD.size)
        return document if crc32(document, hcrc) == pcrc else None


def walk(fetch: Callable[[int, int], bytes], key: Key, offset: int, end: int) -> Iterator[Located]:
    """Find what proves itself as a record between two offsets of a file, in the order of offsets.

    Whatever does not prove itself is passed over; the time it takes grows with its length only.

    Args:
        fetch: Called with an offset and a size; returns that part of the file, less at its end.
        key: The file's.
        offset: Where to begin: at a record, or anywhere.
        end: Where the file ends.

    Yields:
        Each record, and the trailer, of which the header is sound and which ends within the file.
    """
    need = CHUNK_BYTES
    while offset < end:
        wanted = min(need, end - offset)
        chunk = fetch(offset, wanted)
        at, need = yield from _walk_chunk(chunk, key, offset, end)
        if len(chunk) < wanted or offset + wanted == end:
            return
        offset += at


def _walk_chunk(
    chunk: bytes, key: Key, base: int, end: int
) -> Generator[Located, None, tuple[int, int]]:
    """Yield what is found in one chunk; return where to go on, and how much to fetch there."""
    mark, seed = key.mark, key.seed
    unpack, head_size = _WHOLE_HEAD.unpack_from, _HEAD.size
    at, length = 0, len(chunk)
    while at + RECORD_BYTES <= length:
        found, size, seq, received_at, hcrc = unpack(chunk, at)
        if found == mark and crc32(chunk[at : at + head_size], seed) == hcrc:
            is_trailer = size == TRAILER_SIZE
            stop = at + RECORD_BYTES + (0 if is_trailer else size)
            if stop <= length:
                yield Located(base + at, base + stop, seq, received_at, is_trailer, chunk, at)
                at = stop
                continue
            if base + stop <= end:
                return at, stop - at
        after = at + 1
        at = chunk.find(mark, after)
        if at < 0:
            return max(after, length - len(mark) + 1), CHUNK_BYTES
    return at, CHUNK_BYTES


def _seconds(now: float) -> int:
    return min(max(int(now), 0), 0xFFFF_FFFF)
