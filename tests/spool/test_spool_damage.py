"""Damaged files: what is hit is lost and counted, everything else is found, nothing is made up."""

from __future__ import annotations

import errno
import random
import struct
from zlib import crc32

import pytest
from spool.memory_disk import SECTOR, MemoryDisk

from xrayd.spool.quarantine import COPIES_BYTES_MAX
from xrayd.spool.record import (
    HEADER_BYTES,
    MAGIC,
    RECORD_BYTES,
    VERSION,
    Key,
    decode_header,
    encode_records,
)
from xrayd.spool.report import EvictionReason
from xrayd.spool.spool import Spool

NOW = 1_700_000_000.0
FIRST = "0000000000000001.seg"


def open_spool(disk, **settings) -> Spool:
    return Spool.open("spool", disk=disk, **({"now": NOW} | settings))


def content(spool) -> dict[int, bytes]:
    found, seq = {}, 0
    while records := spool.read(seq, 3, 1 << 20):
        found |= {record.seq: record.document for record in records}
        seq = records[-1].seq + 1
    return found


def corrupt_seqs(spool) -> set[int]:
    evictions = spool.take_evictions()
    assert {eviction.reason for eviction in evictions} <= {EvictionReason.CORRUPT}
    seqs = [seq for eviction in evictions for span in eviction.seqs for seq in span]
    assert len(seqs) == len(set(seqs)) == spool.figures().corrupt_records
    return set(seqs)


def copies(disk) -> dict[str, bytes]:
    if "quarantine" not in disk.names("spool"):
        return {}
    names = disk.names("spool//quarantine")
    return {name: bytes(disk.file("spool//quarantine", name).data) for name in names}


DOCUMENTS = {seq: b"<%d>" % seq * (7 * seq % 11) for seq in range(1, 9)}


def written(*, closed: bool) -> tuple[MemoryDisk, bytes]:
    """A disk with one file, left by a process that ended well or was killed."""
    disk = MemoryDisk()
    spool = open_spool(disk)
    for document in DOCUMENTS.values():
        spool.append([document], NOW)
    if closed:
        spool.close(NOW)
    disk.kill()
    return disk, bytes(disk.file("spool", FIRST).data)


def hit_by(at: int) -> int | None:
    """The record that has this byte of the file."""
    stop = HEADER_BYTES
    for seq, document in DOCUMENTS.items():
        start, stop = stop, stop + RECORD_BYTES + len(document)
        if start <= at < stop:
            return seq
    return None


@pytest.mark.parametrize("closed", [False, True])
def test_a_flipped_byte_anywhere_costs_the_record_it_is_in_and_no_other(closed):
    _, data = written(closed=closed)
    trailer = range(len(data) - 28, len(data) - 4) if closed else range(0)
    for at in range(len(data)):
        disk, _ = written(closed=closed)
        disk.file("spool", FIRST).data[at] ^= 0x5A
        spool = open_spool(disk)
        expected = dict(DOCUMENTS)
        expected.pop(hit_by(at), None)
        assert content(spool) == expected
        lost = corrupt_seqs(spool)
        assert spool.recovered == len(expected) + len(lost)
        if hit_by(at) == 8 and not closed:
            # The end of a file that was not closed looks the same if the write was cut short.
            assert not lost
        else:
            assert lost == set(DOCUMENTS) - set(expected)
        assert len(copies(disk)) == (hit_by(at) is not None or at in trailer)


@pytest.mark.parametrize("closed", [False, True])
def test_cut_anywhere_the_longest_whole_beginning_is_found(closed):
    """6,159 of 6,159: that is every offset of a file."""
    _, data = written(closed=closed)
    for cut in range(len(data)):
        disk, _ = written(closed=closed)
        del disk.file("spool", FIRST).data[cut:]
        spool = open_spool(disk)
        hit = hit_by(cut) or 9
        expected = {seq: d for seq, d in DOCUMENTS.items() if seq < hit}
        if cut < HEADER_BYTES:
            expected = {}
        assert content(spool) == expected
        assert spool.recovered == len(expected)
        assert not corrupt_seqs(spool)
        after = spool.append([b"after"], NOW)
        assert content(spool) == expected | {after.start: b"after"}


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"{", None])
def test_a_torn_end_is_cut_off_and_what_is_cut_off_is_kept(fill):
    chance = random.Random(str(fill))
    for cut in range(HEADER_BYTES, 300, 7):
        disk, _ = written(closed=False)
        file = disk.file("spool", FIRST)
        rest = len(file.data) - cut
        file.data[cut:] = fill * rest if fill else chance.randbytes(rest)
        torn = bytes(file.data)
        spool = open_spool(disk)
        expected = {seq: d for seq, d in DOCUMENTS.items() if seq < (hit_by(cut) or 9)}
        assert content(spool) == expected
        kept = b"".join(copies(disk).values())
        assert torn.endswith(kept)
        assert len(kept) >= rest or fill == b"\0"


def kilobytes(*, newest: bool) -> tuple[MemoryDisk, dict[int, bytes]]:
    """A disk with a file of 20 records of a kilobyte, and another one unless it is the newest."""
    chance = random.Random(5)
    documents = [chance.randbytes(1024 - RECORD_BYTES) for _ in range(20)]
    disk = MemoryDisk()
    spool = open_spool(disk, file_bytes=21 * 1024)
    spool.append(documents, NOW)
    if not newest:
        spool.append(documents, NOW)
    disk.kill()
    return disk, dict(enumerate(documents if newest else documents * 2, 1))


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("kind", ["garbage", "zeros", "unreadable"])
def test_a_bad_sector_anywhere_costs_few_records_also_where_it_holds_the_header(kind, newest):
    """At most three of a kilobyte; five if it cannot be read, because 4 KiB are read as one."""
    sectors = len(kilobytes(newest=newest)[0].file("spool", FIRST).data) // SECTOR + 1
    worst = 0
    for sector in range(sectors):
        disk, everything = kilobytes(newest=newest)
        data = disk.file("spool", FIRST).data
        start, stop = sector * SECTOR, min((sector + 1) * SECTOR, len(data))
        if kind == "unreadable":
            disk.add_bad_sector("spool", FIRST, sector)
        else:
            size = stop - start
            data[start:stop] = bytes(size) if kind == "zeros" else random.Random(1).randbytes(size)
        spool = open_spool(disk, file_bytes=21 * 1024)
        found = content(spool)
        assert found.items() <= everything.items()
        lost = corrupt_seqs(spool)
        assert spool.recovered == len(found) + len(lost)
        assert spool.figures().pending_records == len(found)
        worst = max(worst, len(everything) - len(found))
    assert 1 <= worst <= (5 if kind == "unreadable" else 3)


def test_a_header_is_not_needed_while_the_cursor_holds():
    disk, everything = kilobytes(newest=False)
    disk.file("spool", FIRST).data[:HEADER_BYTES] = bytes(HEADER_BYTES)
    spool = open_spool(disk)
    assert content(spool) == everything
    assert not corrupt_seqs(spool)


def test_the_cursor_is_not_needed_while_the_headers_hold():
    disk, everything = kilobytes(newest=False)
    disk.file("spool", "cursor").data[:] = bytes(8192)
    spool = open_spool(disk)
    assert content(spool) == everything
    assert spool.append([b"x"], NOW).start == len(everything) + 1


def test_a_file_without_either_is_moved_aside_whole_and_its_numbers_are_not_used_again():
    disk, everything = kilobytes(newest=False)
    newest = disk.names("spool")[1]
    data = bytes(disk.file("spool", newest).data)
    disk.file("spool", "cursor").data[:] = bytes(8192)
    disk.file("spool", newest).data[:4] = b"oops"
    spool = open_spool(disk)
    assert content(spool) == {seq: d for seq, d in everything.items() if seq <= 20}
    assert copies(disk) == {newest: b"oops" + data[4:]}
    assert spool.figures().quarantined == 1
    assert spool.append([b"x"], NOW).start > 40


@pytest.mark.parametrize("newest", [False, True])
def test_a_file_of_another_version_is_moved_aside_whole(newest):
    disk, everything = kilobytes(newest=newest)
    data = disk.file("spool", FIRST).data
    salt = decode_header(bytes(data[:HEADER_BYTES])).key.salt
    head = struct.pack("<4sIQQ8s", MAGIC, VERSION + 1, 1, 0, salt)
    data[:HEADER_BYTES] = head + struct.pack("<I", crc32(head))
    whole = bytes(data)
    spool = open_spool(disk)
    assert content(spool) == {seq: d for seq, d in everything.items() if seq > 20}
    assert copies(disk) == {FIRST: whole}
    assert spool.append([b"x"], NOW).start > max(everything)


def test_files_moved_aside_never_replace_one_another():
    disk, _ = kilobytes(newest=True)
    for n in range(3):
        folder = disk.open_directory("spool")
        fd = disk.open(folder, "00000000000000ff.seg", 0o2102)
        disk.write(fd, b"nonsense %d" % n)
        disk.kill()
        open_spool(disk)
        disk.kill()
    assert sorted(copies(disk).values()) == [b"nonsense 0", b"nonsense 1", b"nonsense 2"]


def test_a_quarantine_that_cannot_be_made_stops_nothing():
    disk, everything = kilobytes(newest=False)
    disk.file("spool", FIRST).data[2000] ^= 1
    disk.fail("make_directory", errno.ENOSPC)
    spool = open_spool(disk)
    assert len(content(spool)) == len(everything) - 1
    assert len(corrupt_seqs(spool)) == 1
    assert spool.figures().quarantined == 0


def test_copies_of_damaged_regions_are_bounded():
    disk = MemoryDisk()
    spool = open_spool(disk, file_bytes=4 << 20)
    for _ in range(24):
        spool.append([b"x" * 999_000], NOW)
    for name in disk.names("spool"):
        if name.endswith(".seg"):
            data = disk.file("spool", name).data
            data[HEADER_BYTES + 99 :: 1000] = b"y" * len(data[HEADER_BYTES + 99 :: 1000])
    assert content(spool) == {}
    assert len(corrupt_seqs(spool)) == 24
    kept = sum(map(len, copies(disk).values()))
    assert COPIES_BYTES_MAX * 0.8 < kept <= COPIES_BYTES_MAX
    disk.kill()
    assert open_spool(disk).figures().quarantined == len(copies(disk)) > 0


def test_damage_is_reported_once_also_across_restarts():
    disk, everything = kilobytes(newest=False)
    disk.file("spool", FIRST).data[2000] ^= 1
    for attempt in range(3):
        spool = open_spool(disk)
        for _ in range(2):
            assert len(content(spool)) == len(everything) - 1
        assert len(corrupt_seqs(spool)) == (attempt == 0)
        disk.kill()


def test_damage_to_what_was_acknowledged_is_no_loss():
    disk, everything = kilobytes(newest=False)
    spool = open_spool(disk)
    spool.acknowledge([2, 3])
    disk.file("spool", FIRST).data[2000] ^= 1
    assert len(content(spool)) == len(everything) - 2
    assert not corrupt_seqs(spool)


def test_a_file_lost_to_damage_as_a_whole_is_removed_and_reading_goes_on():
    disk, everything = kilobytes(newest=False)
    spool = open_spool(disk)
    data = disk.file("spool", FIRST).data
    data[HEADER_BYTES:] = b"?" * len(data[HEADER_BYTES:])
    assert content(spool) == {seq: d for seq, d in everything.items() if seq > 20}
    assert corrupt_seqs(spool) == set(range(1, 21))
    assert FIRST not in disk.names("spool")


@pytest.mark.parametrize("knows_secret", [False, True])
def test_a_record_forged_inside_a_document_is_never_emitted(knows_secret):
    """What is public, and what a sender could guess, is not enough; another file's key is not."""
    disk = MemoryDisk()
    open_spool(disk).close(NOW)
    secret = bytes(disk.file("spool", "cursor").data[32:48])
    assert any(secret)
    key = Key.derive(secret, 999) if knows_secret else Key.of(bytes(8))
    forged = b"".join(encode_records([b"forged"], seq, NOW, key) for seq in range(1, 30))
    spool = open_spool(disk)
    spool.append([forged] * 5, NOW)
    disk.kill()
    for start in range(HEADER_BYTES, HEADER_BYTES + 4000, 13):
        disk.file("spool", FIRST).data[start] ^= 0xFF
        spool = open_spool(disk)
        assert set(content(spool).values()) <= {forged}
        disk.kill()


def test_opening_reads_one_file_however_many_there_are():
    disk = MemoryDisk()
    spool = open_spool(disk, file_bytes=64 * 1024)
    for _ in range(300):
        spool.append([b"x" * 10_000], NOW)
    assert spool.figures().files > 40
    disk.kill()
    disk.bytes_read = 0
    spool = open_spool(disk)
    assert spool.recovered == 300
    assert disk.bytes_read < 3 * 64 * 1024


def test_reading_in_small_steps_reads_each_byte_few_times():
    disk = MemoryDisk()
    spool = open_spool(disk)
    for _ in range(40):
        spool.append([b"x" * 1000] * 50, NOW)
    disk.bytes_read = 0
    seq = 0
    while records := spool.read(seq, 50, 1 << 20):
        seq = records[-1].seq + 1
    assert seq == 2001
    assert disk.bytes_read < 4 * 2_056_000


@pytest.mark.parametrize(
    "seed", [n if n < 8 else pytest.param(n, marks=pytest.mark.slow) for n in range(160)]
)
def test_a_power_loss_costs_at_most_what_was_not_synced(seed):
    chance = random.Random(seed)
    for _ in range(25):
        disk = MemoryDisk()
        spool = open_spool(disk, file_bytes=4096)
        appended, synced = {}, 0
        for _ in range(chance.randint(1, 30)):
            documents = [chance.randbytes(chance.randint(0, 600)) for _ in range(3)]
            seqs = spool.append(documents, NOW)
            appended |= dict(zip(seqs, documents, strict=True))
            if chance.random() < 0.3:
                spool.sync(NOW)
                synced = seqs.stop - 1
        disk.lose_power(chance)
        spool = open_spool(disk, file_bytes=4096)
        found = content(spool)
        assert found.items() <= appended.items()
        assert set(range(1, synced + 1)) <= set(found)
        assert spool.recovered == len(found) + len(corrupt_seqs(spool))
        assert spool.append([b"x"], NOW).start > max(found, default=0)
