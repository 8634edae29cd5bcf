"""The cursor forgets when it must, and never claims what was not acknowledged."""

from __future__ import annotations

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spool.memory_disk import MemoryDisk

from xrayd.spool.cursor import (
    NAME,
    RANGES_MAX,
    SLOT_BYTES,
    Cursor,
    CursorState,
    decode_slot,
    encode_slot,
)
from xrayd.spool.seqset import SeqSet

SECRET = b"0123456789abcdef"


def state(watermark: int, *done: range) -> CursorState:
    return CursorState(watermark, 1000, SECRET, done)


@pytest.fixture
def disk():
    disk = MemoryDisk()
    disk.make_directory("spool")
    return disk


@pytest.fixture
def directory(disk):
    return disk.open_directory("spool")


@given(st.dictionaries(st.integers(10, 1 << 60), st.integers(1, 1 << 31), max_size=20))
def test_a_slot_says_what_was_written(lengths):
    done = tuple(range(start, start + length) for start, length in sorted(lengths.items()))
    assert decode_slot(encode_slot(state(7, *done), 3)) == (3, state(7, *done))


def test_a_slot_with_any_byte_changed_or_missing_says_nothing():
    data = encode_slot(state(7, range(9, 12), range(20, 30)), 3)
    for at in range(len(data)):
        assert decode_slot(data[:at]) is None
        for mask in (0x01, 0xFF):
            changed = bytearray(data)
            changed[at] ^= mask
            assert decode_slot(bytes(changed)) is None
    assert decode_slot(bytes(SLOT_BYTES)) is None


def test_with_too_many_ranges_the_shortest_are_forgotten_and_none_invented():
    chance = random.Random(4)
    spans = []
    at = 10
    for _ in range(3 * RANGES_MAX):
        spans.append(range(at, at + chance.randint(1, 50)))
        at = spans[-1].stop + chance.randint(1, 50)
    data = encode_slot(state(7, *spans), 1)
    assert len(data) <= SLOT_BYTES
    _, read = decode_slot(data)
    assert len(read.done) == RANGES_MAX
    assert set(read.done) <= set(spans)
    assert min(map(len, read.done)) >= max(map(len, set(spans) - set(read.done)))


def test_a_range_too_long_for_the_format_is_shortened():
    _, read = decode_slot(encode_slot(state(7, range(10, 10 + (1 << 40))), 1))
    assert read.done[0].start == 10
    assert 0 < len(read.done[0]) < 1 << 40
    assert len(SeqSet(read.done)) == len(read.done[0])


def test_the_newest_of_the_two_slots_holds(disk, directory):
    cursor = Cursor(disk, directory)
    assert cursor.read() is None
    for watermark in range(1, 8):
        cursor.write(state(watermark))
        assert Cursor(disk, directory).read() == state(watermark)


@pytest.mark.parametrize("torn", [0, 1])
def test_with_one_slot_torn_the_one_before_holds(disk, directory, torn):
    cursor = Cursor(disk, directory)
    for watermark in (1, 2, 3):
        cursor.write(state(watermark))
    disk.file("spool", NAME).data[torn * SLOT_BYTES + 8] ^= 0xFF
    read = Cursor(disk, directory).read()
    assert read in {state(2), state(3)}
    # And it is the torn one that is written next, whichever it was.
    again = Cursor(disk, directory)
    again.read()
    again.write(state(4))
    assert Cursor(disk, directory).read() == state(4)


def test_with_both_slots_torn_there_is_none(disk, directory):
    Cursor(disk, directory).write(state(1))
    for slot in (0, 1):
        disk.file("spool", NAME).data[slot * SLOT_BYTES + 8] ^= 0xFF
    assert Cursor(disk, directory).read() is None


def test_once_made_it_is_written_on_a_full_disk(disk, directory):
    cursor = Cursor(disk, directory)
    cursor.write(state(1))
    disk.total = disk.used()
    spans = [range(n * 10, n * 10 + 5) for n in range(1, 300)]
    cursor.write(state(2, *spans))
    assert Cursor(disk, directory).read() == state(2, *spans)


def test_not_made_on_a_full_disk_it_leaves_nothing_behind_and_is_made_later(disk, directory):
    disk.total = SLOT_BYTES
    cursor = Cursor(disk, directory)
    with pytest.raises(OSError, match="space"):
        cursor.write(state(1))
    assert disk.names("spool") == []
    disk.total = 10 * SLOT_BYTES
    cursor.write(state(2))
    assert Cursor(disk, directory).read() == state(2)


def test_a_write_that_fails_leaves_the_state_before(disk, directory):
    cursor = Cursor(disk, directory)
    cursor.write(state(1))
    disk.fail("pwrite", errno.EIO, times=1)
    with pytest.raises(OSError, match="error"):
        cursor.write(state(2))
    assert Cursor(disk, directory).read() == state(1)
    cursor.write(state(3))
    assert Cursor(disk, directory).read() == state(3)


def test_the_secret_survives_a_power_loss_at_once(disk, directory):
    Cursor(disk, directory).write(state(1))
    for seed in range(20):
        disk.lose_power(random.Random(seed))
        read = Cursor(disk, disk.open_directory("spool")).read()
        assert read is not None
        assert read.secret == SECRET


def test_a_power_loss_never_leaves_more_than_was_written(disk, directory):
    for seed in range(50):
        directory = disk.open_directory("spool")
        cursor = Cursor(disk, directory)
        before = cursor.read()
        written = [before] if before else []
        for watermark in range(seed * 10, seed * 10 + 5):
            written.append(state(watermark, range(watermark + 5, watermark + 9)))
            cursor.write(written[-1])
        disk.lose_power(random.Random(seed))
        assert Cursor(disk, disk.open_directory("spool")).read() in written
