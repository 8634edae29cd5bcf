"""The bytes of a file: what was written is found, what was not is not, however they are damaged."""

from __future__ import annotations

import random
import struct
import sys
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayd.spool.record import (
    CHUNK_BYTES,
    HEADER_BYTES,
    MAGIC,
    RECORD_BYTES,
    TRAILER_BYTES,
    VERSION,
    Key,
    decode_header,
    decode_trailer,
    encode_header,
    encode_records,
    encode_trailer,
    is_other_version,
    walk,
)

KEY = Key.of(bytes(range(100, 108)))


def file_of(documents, first=1, key=KEY, *, trailer=False) -> bytes:
    data = encode_header(first, 5.0, key) + encode_records(documents, first, 7.0, key)
    return data + (encode_trailer(first + len(documents), 9.0, key) if trailer else b"")


def read(data: bytes, key=KEY, offset=HEADER_BYTES) -> dict[int, bytes]:
    """What is found and sound in a file."""

    def fetch(at: int, size: int) -> bytes:
        return data[at : at + size]

    found = {}
    for record in walk(fetch, key, offset, len(data)):
        document = record.document()
        if document is not None and not record.is_trailer:
            assert record.seq not in found
            found[record.seq] = document
    return found


def sizes_of(documents) -> list[int]:
    return [RECORD_BYTES + len(document) for document in documents]


@given(
    st.lists(st.binary(max_size=300)), st.integers(0, 1 << 63), st.binary(min_size=8, max_size=8)
)
def test_what_was_written_is_read(documents, first, salt):
    key = Key.of(salt)
    assert read(file_of(documents, first, key), key) == dict(enumerate(documents, first))


def test_records_larger_and_smaller_than_a_chunk_are_read():
    chance = random.Random(1)
    documents = [chance.randbytes(chance.choice([0, 900, 60_000, 200_000])) for _ in range(40)]
    assert sum(map(len, documents)) > 10 * CHUNK_BYTES
    assert read(file_of(documents)) == dict(enumerate(documents, 1))


def test_a_header_tells_whose_file_it_is_and_its_key():
    header = decode_header(encode_header(1 << 40, 1234.5, KEY))
    assert header is not None
    assert (header.first, header.created_at, header.key) == (1 << 40, 1234.5, KEY)


def test_a_header_of_another_version_is_known_for_one():
    head = struct.pack("<4sIQQ8s", MAGIC, VERSION + 1, 1, 0, KEY.salt)
    data = head + struct.pack("<I", crc32(head))
    assert decode_header(data) is None
    assert is_other_version(data)
    assert not is_other_version(encode_header(1, 0, KEY))
    assert not is_other_version(b"")


def test_a_damaged_header_is_no_header_of_any_version():
    data = encode_header(1, 5.0, KEY)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        assert decode_header(bytes(damaged)) is None
        assert not is_other_version(bytes(damaged))
        assert decode_header(data[:at]) is None


def test_a_trailer_tells_where_the_file_ends_unless_it_is_damaged():
    data = encode_trailer(42, 9.0, KEY)
    assert decode_trailer(data, KEY) == (42, 9.0)
    assert decode_trailer(data, Key.of(b"another.")) is None
    for at in range(24):  # The last four bytes are a second checksum that is not needed.
        damaged = bytearray(data)
        damaged[at] ^= 1
        assert decode_trailer(bytes(damaged), KEY) is None


@pytest.mark.parametrize("trailer", [False, True])
def test_cut_anywhere_a_file_holds_its_longest_whole_beginning(trailer):
    documents = [b"a" * 40, b"", b"b" * 100, b"c", b"d" * 77]
    data = file_of(documents, trailer=trailer)
    for cut in range(len(data) + 1):
        whole, stop = 0, HEADER_BYTES
        for size in sizes_of(documents):
            stop += size
            whole += stop <= cut
        assert read(data[:cut]) == dict(enumerate(documents[:whole], 1))


def test_a_flipped_byte_costs_the_record_it_is_in_and_no_other():
    documents = [b"a" * 40, b"", b"b" * 100, b"c", b"d" * 77]
    data = file_of(documents, trailer=True)
    stops = [HEADER_BYTES]
    for size in sizes_of(documents):
        stops.append(stops[-1] + size)
    for at in range(HEADER_BYTES, len(data)):
        hit = sum(stop <= at for stop in stops)
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            expected = dict(enumerate(documents, 1))
            expected.pop(hit, None)
            assert read(bytes(damaged)) == expected


@pytest.mark.parametrize("fill", ["zeros", "ones", "noise", "other sector"])
def test_a_bad_sector_costs_at_most_three_records_of_a_kilobyte(fill):
    documents = [b"%04d" % n * 249 for n in range(400)]  # 996 + 28 bytes: 1 KiB each.
    data = file_of(documents)
    chance = random.Random(fill)
    lost = []
    for _ in range(60):
        at = chance.randrange(1, len(data) // 512) * 512
        other = chance.randrange(0, len(data) // 512) * 512
        sector = {
            "zeros": bytes(512),
            "ones": b"\xff" * 512,
            "noise": chance.randbytes(512),
            "other sector": data[other : other + 512],
        }[fill]
        found = read(data[:at] + sector + data[at + 512 :])
        assert found.items() <= dict(enumerate(documents, 1)).items()
        lost.append(len(documents) - len(found))
    assert max(lost) <= 3
    assert max(lost) >= 1


@given(st.data())
def test_nothing_that_was_not_written_is_ever_found(data):
    documents = data.draw(st.lists(st.binary(max_size=60), min_size=1, max_size=12))
    damaged = bytearray(file_of(documents, trailer=True))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        change = data.draw(st.binary(max_size=40))
        if data.draw(st.booleans()):
            damaged[at : at + len(change)] = change
        else:
            damaged[at:at] = change
    found = read(bytes(damaged), offset=data.draw(st.integers(0, HEADER_BYTES)))
    assert found.items() <= dict(enumerate(documents, 1)).items()


def forgery(seq: int, document: bytes, key: Key) -> bytes:
    return encode_records([document], seq, 7.0, key)


def test_a_record_inside_a_document_is_never_taken_for_one():
    # Everything about the format is public but the file's salt.
    guesses = [Key.of(bytes(8)), Key.of(b"\xff" * 8), Key.derive(bytes(16), 1)]
    documents = [b"".join(forgery(seq, b"forged", key) for key in guesses) for seq in range(2, 6)]
    data = file_of(documents)
    for at in range(HEADER_BYTES, len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        assert b"forged" not in read(bytes(damaged)).values()


def test_a_record_of_another_file_is_never_taken_for_one_of_this():
    other = Key.derive(b"a secret of 16 b", 1)
    document = forgery(2, b"from another file", other)
    damaged = bytearray(file_of([document, b"sound"], key=Key.derive(b"a secret of 16 b", 2)))
    damaged[HEADER_BYTES] ^= 1
    assert read(bytes(damaged), Key.derive(b"a secret of 16 b", 2)) == {2: b"sound"}


def checksums_taken(data: bytes) -> int:
    taken = 0

    def count(_frame, event, function) -> None:
        nonlocal taken
        taken += event == "c_call" and function is crc32

    sys.setprofile(count)
    try:
        read(data)
    finally:
        sys.setprofile(None)
    return taken


def test_no_document_can_make_the_search_for_the_next_record_long():
    """Each byte of what a sender chose is looked at once, whatever it is."""
    hostile = [
        forgery(3, b"", Key.of(bytes(8))) * 2000,
        (b"\xfb" + bytes(3)) * 15_000,
        MAGIC * 15_000,
        encode_header(1, 0, Key.of(bytes(8))) * 1500,
        b"\xfb" * 60_000,
        struct.pack("<4sIQI", b"\xfb\0\0\0", 60_000, 2, 0) * 3000,
    ]
    damaged = bytearray(file_of(hostile * 4))
    at = HEADER_BYTES
    for size in sizes_of(hostile * 4):
        damaged[at + 5] ^= 0xFF  # Every single header, so that every document is searched.
        at += size
    assert checksums_taken(bytes(damaged)) < 200
    assert read(bytes(damaged)) == {}


def test_one_more_salt_is_another_mark_and_another_checksum():
    keys = {Key.derive(b"secret", first)[1:] for first in range(1000)}
    assert len(keys) == 1000


def test_sizes_are_what_the_format_says():
    assert (HEADER_BYTES, RECORD_BYTES, TRAILER_BYTES) == (36, 28, 28)
