"""Refused documents are kept with their reasons, within bounds, for anyone allowed to read."""

from __future__ import annotations

import errno
import os

import pytest
from spool.memory_disk import MemoryDisk

from xrayd.errors import ConfigError
from xrayd.spool.dead import DeadLetter, DeadLetters, read_dead_letters

NOW = 1_700_000_000.0


def letter(n: int, size: int = 10) -> DeadLetter:
    document = b'{"n":%d}' % n + b"\xff\0" * size
    return DeadLetter(NOW + n, "unprocessed", "InvalidSegment", "say ü", f"1-{n:08x}-0", document)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "spool").mkdir(mode=0o700)
    return tmp_path / "spool"


def test_what_was_added_is_read_with_its_reasons_also_by_others_and_later(path):
    letters = DeadLetters.open(path)
    assert list(letters) == []
    for n in range(5):
        assert letters.add(letter(n))
    expected = [(n + 1, letter(n)) for n in range(5)]
    assert list(letters) == expected
    assert list(read_dead_letters(path)) == expected
    letters.close()
    letters = DeadLetters.open(path)
    assert letters.add(letter(5))
    assert list(letters) == [*expected, (6, letter(5))]
    assert len(os.listdir(path / "dead")) == 1
    letters.close()


def test_a_spool_without_any_has_none(path):
    assert list(read_dead_letters(path)) == []


def test_the_oldest_make_room(path):
    letters = DeadLetters.open(path, bytes_max=20_000)
    for n in range(500):
        assert letters.add(letter(n, size=100))
        size = sum(entry.stat().st_size for entry in (path / "dead").iterdir())
        assert size == letters.bytes_on_disk <= 20_000
    kept = list(letters)
    assert kept == [(n + 1, letter(n, size=100)) for n in range(500 - len(kept), 500)]
    assert len(kept) > 40
    letters.close()


def test_a_letter_larger_than_a_file_is_not_kept(path):
    letters = DeadLetters.open(path, bytes_max=20_000)
    assert not letters.add(letter(1, size=2000))
    assert letters.add(letter(2))
    assert [number for number, _ in letters] == [1]
    letters.close()


def test_a_document_of_64_kb_fits():
    letters = DeadLetters(disk := MemoryDisk(), _directory(disk), 10 << 20)
    for n in range(300):
        assert letters.add(letter(n, size=32_000))
    assert letters.bytes_on_disk <= 10 << 20


def _directory(disk) -> int:
    disk.make_directory("dead")
    return disk.open_directory("dead")


@pytest.mark.parametrize("torn", [0, 10, 60])
@pytest.mark.parametrize("method", ["write", "open", "unlink"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failing_disk_costs_only_what_was_added_meanwhile(method, number, torn):
    letters = DeadLetters(disk := MemoryDisk(), _directory(disk), 4000)
    added = [n for n in range(8) if letters.add(letter(n))]
    disk.fail(method, number, torn=torn)
    added += [n for n in range(100, 140) if letters.add(letter(n))]
    disk.mend()
    added += [n for n in range(200, 204) if letters.add(letter(n))]
    assert added[-4:] == [200, 201, 202, 203]
    kept = [found for _, found in letters]
    assert kept == [letter(n) for n in added][-len(kept) :]
    numbers = [number for number, _ in letters]
    assert numbers == sorted(set(numbers))
    disk.kill()
    assert len(list(DeadLetters(disk, _directory(disk), 4000))) == len(kept)


def test_a_file_cut_or_damaged_anywhere_costs_the_letters_that_are_hit():
    disk = MemoryDisk()
    letters = DeadLetters(disk, _directory(disk), 10 << 20)
    for n in range(4):
        letters.add(letter(n))
    [name] = disk.names("dead")
    data = bytes(disk.file("dead", name).data)
    everything = list(letters)
    disk.kill()
    for at in range(len(data)):
        file = disk.file("dead", name)
        file.data[:] = data
        file.data[at] ^= 0x40
        found = list(DeadLetters(disk, _directory(disk), 10 << 20))
        assert found == [] if at < 36 else len(found) == 3
        assert all(item in everything for item in found)
        file.data[:] = data[:at]
        letters = DeadLetters(disk, _directory(disk), 10 << 20)
        found = list(letters)
        assert found == everything[: len(found)]
        assert letters.add(letter(9))
        assert [item for _, item in letters] == [*(item for _, item in found), letter(9)]
        disk.kill()
        for other in disk.names("dead"):
            if other != name:
                disk.unlink(_directory(disk), other)


def test_the_directory_must_be_private(path):
    (path / "dead").mkdir()
    (path / "dead").chmod(0o777)
    with pytest.raises(ConfigError, match="chmod 700"):
        DeadLetters.open(path)
