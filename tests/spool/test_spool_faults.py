"""A disk that is full, fails or vanishes stops neither what comes in nor what goes out."""

from __future__ import annotations

import errno
import os
import random
import shutil

import pytest
from spool.memory_disk import MemoryDisk

from xrayd.spool.disk import Disk
from xrayd.spool.report import Degraded, EvictionReason, SpoolUnavailableError
from xrayd.spool.spool import Spool

NOW = 1_700_000_000.0
KB = 1024


def open_spool(disk, **settings) -> Spool:
    return Spool.open("spool", disk=disk, **({"now": NOW, "file_bytes": 4 * KB} | settings))


def document(n: int, size: int = 400) -> bytes:
    return (b"<%d>" % n).ljust(size, b".")


def fill(spool, numbers, now=NOW) -> dict[int, bytes]:
    return {spool.append([document(n)], now).start: document(n) for n in numbers}


def content(spool) -> dict[int, bytes]:
    found, seq = {}, 0
    while records := spool.read(seq, 50, 1 << 20):
        found |= {record.seq: record.document for record in records}
        seq = records[-1].seq + 1
    return found


def bytes_in(disk) -> int:
    names = [name for name in disk.names("spool") if name.endswith(".seg")]
    return sum(len(disk.file("spool", name).data) for name in names)


def lose_power_and_reopen(disk, seed=0, **settings) -> Spool:
    disk.lose_power(random.Random(seed))
    disk.mend()
    return open_spool(disk, **settings)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.ENODEV])
@pytest.mark.parametrize("method", ["write", "open", "rename", "fstat"])
def test_documents_that_cannot_be_written_are_refused_all_or_none(method, number):
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(20))
    disk.fail(method, number, torn=500)
    refused = None
    for n in range(20, 40):
        try:
            stored[spool.append([document(n), document(-n)], NOW).start] = document(n)
            stored[max(stored) + 1] = document(-n)
        except SpoolUnavailableError as error:
            refused = error
    assert refused is not None
    assert spool.figures().degraded is refused.reason
    assert len(spool.read(0, 100, 1 << 20)) == (0 if method in {"open", "fstat"} else len(stored))
    disk.mend()
    assert content(spool) == stored
    assert spool.take_evictions() == []
    spool.sync(NOW + 1.1)
    spool.sync(NOW + 2.2)
    assert spool.figures().degraded is None
    stored |= fill(spool, range(40, 50), NOW + 2.3)
    assert content(spool) == stored
    disk.kill()
    assert content(open_spool(disk)) == stored


def test_a_failing_disk_is_tried_once_a_second():
    disk = MemoryDisk()
    spool = open_spool(disk)
    fill(spool, range(3))
    disk.fail("write", errno.EIO)
    with pytest.raises(SpoolUnavailableError):
        spool.append([b"x"], NOW)
    tried = disk.writes
    for tick in range(50):
        with pytest.raises(SpoolUnavailableError):
            spool.append([b"x"], NOW + tick * 0.01)
        spool.sync(NOW + tick * 0.01)
    assert disk.writes == tried
    for tick in range(50):
        spool.sync(NOW + 1 + tick * 0.1)
    assert 3 <= disk.writes - tried <= 12


def test_a_clock_set_back_does_not_keep_a_mended_disk_waiting():
    disk = MemoryDisk()
    spool = open_spool(disk)
    disk.fail("write", errno.EIO, times=1)
    with pytest.raises(SpoolUnavailableError):
        spool.append([b"x"], NOW)
    with pytest.raises(SpoolUnavailableError):
        spool.append([b"x"], NOW + 0.5)
    assert spool.append([b"x"], NOW - 3600)


def test_a_single_failed_write_costs_nothing_and_is_seen():
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(3))
    disk.fail("write", errno.EIO, times=1, torn=200)
    stored |= fill(spool, range(3, 6))
    assert spool.figures().degraded is Degraded.IO_ERROR
    assert spool.figures().faults == 1
    assert content(spool) == stored
    spool.sync(NOW + 1.5)
    assert spool.figures().degraded is None
    assert content(lose_power_and_reopen(disk)) == stored


@pytest.mark.parametrize("truncate_fails", [False, True])
@pytest.mark.parametrize("torn", [0, 10, 100, 100_000])
def test_what_a_failed_write_leaves_behind_is_never_read(torn, truncate_fails):
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(3))
    disk.fail("write", errno.EIO, times=1, torn=torn)
    if truncate_fails:
        disk.fail("truncate", errno.EIO)
    stored |= fill(spool, range(3, 6))
    assert content(spool) == stored
    disk.kill()
    assert content(open_spool(disk)) == stored


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("synced_before", [False, True])
def test_a_failed_sync_loses_nothing_and_that_file_is_never_trusted_again(synced_before, seed):
    """After it, the kernel takes for written what is not; another sync would prove nothing."""
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(3))
    if synced_before:
        spool.sync(NOW)
    stored |= fill(spool, range(3, 6))
    disk.fail("fdatasync", errno.EIO, times=1)
    spool.sync(NOW + 0.1)
    assert spool.figures().degraded is Degraded.IO_ERROR
    assert spool.figures().files == (2 if synced_before else 1)
    assert spool.figures().bytes_on_disk == bytes_in(disk)
    stored |= fill(spool, range(6, 9))
    assert content(spool) == stored
    spool.sync(NOW + 0.2)
    spool = lose_power_and_reopen(disk, seed)
    assert content(spool) == stored
    assert spool.recovered == len(stored)


def test_a_failed_sync_when_a_file_is_full_loses_nothing():
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(9))
    files = spool.figures().files
    disk.fail("fdatasync", errno.EIO, times=1)
    for n in range(9, 40):
        stored |= fill(spool, [n])
        if spool.figures().files > files:
            break
    assert spool.figures().faults == 1
    spool.sync(NOW + 1)
    assert content(lose_power_and_reopen(disk)) == stored


def test_records_that_are_in_two_files_after_a_failed_sync_are_read_once():
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(5))
    spool.sync(NOW)
    stored |= fill(spool, range(5, 9))
    disk.fail("fdatasync", errno.EIO, times=1)
    disk.fail("truncate", errno.EIO)  # So that the first file keeps what the second has too.
    for n in range(9, 14):
        stored |= fill(spool, [n])
    assert spool.figures().faults == 1
    assert content(spool) == stored
    disk.kill()
    spool = open_spool(disk)
    assert content(spool) == stored
    assert spool.recovered == len(stored)


def test_killed_before_the_name_of_the_new_file_is_durable_nothing_is_lost_to_a_power_loss():
    class KilledError(Exception):
        pass

    def crash_point(point: str) -> None:
        if point == "roll-renamed" and disk.syncs > 3:
            raise KilledError

    for seed in range(10):
        disk = MemoryDisk()
        spool = open_spool(disk, crash_point=crash_point)
        stored = fill(spool, range(6))
        disk.fail("fdatasync", errno.EIO, times=1)
        disk.syncs = 10
        with pytest.raises(KilledError):
            spool.sync(NOW)
        disk.kill()
        assert content(open_spool(disk)) == stored
        assert content(lose_power_and_reopen(disk, seed)) == stored


def test_what_could_not_be_synced_is_kept_in_memory_until_a_disk_takes_it():
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(5))
    disk.fail("fdatasync", errno.EIO, times=5)
    for tick in range(50):
        spool.sync(NOW + tick * 0.2)
        assert content(spool) == stored
    assert spool.figures().degraded is None
    assert content(lose_power_and_reopen(disk)) == stored


def test_what_was_acknowledged_meanwhile_stays_so_in_the_file_that_takes_its_place():
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(6))
    disk.fail("fdatasync", errno.EIO, times=3)
    spool.sync(NOW)
    assert spool.acknowledge([2, 3, 6]) == 3
    for seq in (2, 3, 6):
        del stored[seq]
    spool.sync(NOW + 1.1)
    assert spool.figures().degraded is Degraded.IO_ERROR
    spool.sync(NOW + 3)
    assert spool.figures().degraded is None
    assert content(spool) == stored
    disk.kill()
    assert content(open_spool(disk)) == stored


def test_with_batch_sync_nothing_is_accepted_that_a_power_loss_could_take():
    for seed in range(20):
        disk = MemoryDisk()
        spool = open_spool(disk, sync="batch")
        stored = fill(spool, range(3))
        disk.fail("fdatasync", errno.EIO, times=seed % 4, after=seed % 3)
        for n in range(3, 9):
            try:
                stored |= fill(spool, [n], NOW + n * 2)
            except SpoolUnavailableError:
                assert seed % 4 > 1
        assert content(spool) == stored
        again = content(lose_power_and_reopen(disk, seed, sync="batch"))
        assert stored.items() <= again.items()


def test_the_spools_own_data_filling_the_disk_makes_room_for_new_by_what_is_oldest():
    disk = MemoryDisk(total=100 * KB)
    spool = open_spool(disk, file_bytes=8 * KB)
    for n in range(600):
        fill(spool, [n])
        assert disk.used() <= 100 * KB
    evictions = spool.take_evictions()
    assert {eviction.reason for eviction in evictions} == {EvictionReason.DISK_LOW}
    gone = [seq for eviction in evictions for span in eviction.seqs for seq in span]
    assert gone == list(range(1, len(gone) + 1))
    assert list(content(spool)) == list(range(len(gone) + 1, 601))
    assert spool.figures().degraded is None
    assert sum(eviction.records for eviction in evictions) == len(gone)


def test_the_spools_own_data_filling_a_disk_without_a_floor_is_no_fault_either():
    disk = MemoryDisk(total=100 * KB)
    spool = open_spool(disk, file_bytes=8 * KB, free_bytes_min=0)
    stored = {}
    for n in range(600):
        stored |= fill(spool, [n])
    gone = [s for e in spool.take_evictions() for span in e.seqs for s in span]
    assert gone == sorted(stored)[: len(gone)]
    assert content(spool) == {s: d for s, d in stored.items() if s not in set(gone)}


@pytest.mark.parametrize("floor", [0, None])
def test_a_disk_filled_by_others_keeps_the_backlog_and_lets_it_drain(floor):
    disk = MemoryDisk(total=400 * KB)
    spool = open_spool(disk, free_bytes_min=floor)
    stored = {}
    for n in range(80):
        stored |= fill(spool, [n])
    disk.others = disk.total - disk.used() + disk.others
    with pytest.raises(SpoolUnavailableError) as refused:
        spool.append([document(80)] * 10, NOW + 1)
    assert refused.value.reason in {Degraded.DISK_FULL, Degraded.DISK_LOW}
    assert spool.take_evictions() == []
    assert content(spool) == stored
    for seq in list(stored):
        assert spool.acknowledge([seq]) == 1
        spool.sync(NOW + 2)
    assert spool.figures().pending_records == 0
    assert spool.figures().files <= 1
    disk.kill()
    assert open_spool(disk).recovered == 0


def test_refused_on_a_full_disk_it_takes_documents_again_once_there_is_room():
    disk = MemoryDisk(total=400 * KB)
    spool = open_spool(disk)
    fill(spool, range(10))
    disk.others = disk.total - disk.used()
    with pytest.raises(SpoolUnavailableError):
        fill(spool, range(10, 40), NOW + 1)
    disk.others = 0
    assert fill(spool, [50], NOW + 3)
    assert spool.figures().degraded is None


def test_a_cursor_that_never_found_room_does_not_stop_draining():
    disk = MemoryDisk(total=100 * KB)
    disk.others = 95 * KB
    spool = open_spool(disk, free_bytes_min=0)
    assert "cursor" not in disk.names("spool")
    fill(spool, range(8))
    disk.others = disk.total
    assert spool.acknowledge(range(1, 9)) == 8
    spool.sync(NOW)
    assert spool.figures().degraded is Degraded.DISK_FULL
    disk.others = 0
    assert spool.acknowledge(spool.append([document(9)], NOW + 3)) == 1
    assert "cursor" in disk.names("spool")
    disk.kill()
    assert open_spool(disk).recovered == 0


def test_a_full_file_on_a_full_disk_is_gone_on_with_when_there_is_room():
    """The next file must be there before anything relies on it."""
    disk = MemoryDisk(total=400 * KB)
    spool = open_spool(disk, free_bytes_min=0)
    stored = fill(spool, range(9))
    disk.others = disk.total - disk.used()
    for n in range(9, 30):
        with pytest.raises(SpoolUnavailableError):
            fill(spool, [n], NOW + n * 1.1)
        spool.sync(NOW + n * 1.1)
    disk.others = 0
    stored |= fill(spool, range(30, 60), NOW + 100)
    assert content(spool) == stored
    disk.kill()
    assert content(open_spool(disk)) == stored


def test_a_read_only_disk_drains_from_what_it_has():
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(30))
    disk.is_read_only = True
    with pytest.raises(SpoolUnavailableError) as refused:
        fill(spool, range(30, 60))
    assert refused.value.reason is Degraded.READ_ONLY
    assert content(spool) == stored
    assert spool.acknowledge(range(1, 31)) == 30
    assert spool.acknowledge(range(1, 31)) == 0
    assert content(spool) == {}
    for tick in range(30):
        spool.sync(NOW + tick * 0.2)
    assert spool.figures().degraded is Degraded.READ_ONLY
    disk.mend()
    spool.sync(NOW + 10)
    spool.sync(NOW + 11)
    figures = spool.figures()
    assert (figures.degraded, figures.pending_records, figures.files) == (None, 0, 1)


@pytest.fixture
def real(tmp_path):
    path = tmp_path / "spool"
    return path, Spool.open(path, now=NOW, file_bytes=4 * KB)


def test_a_deleted_directory_is_made_again_and_what_was_in_it_is_counted(real):
    path, spool = real
    stored = fill(spool, range(30))
    spool.sync(NOW)
    stored |= fill(spool, range(30, 33))
    shutil.rmtree(path)
    spool.sync(NOW + 0.1)
    assert spool.figures().degraded is Degraded.GONE
    # What had not been synced was still in memory.
    assert content(spool) == {seq: stored[seq] for seq in (31, 32, 33)}
    lost = spool.take_evictions()
    assert {eviction.reason for eviction in lost} == {EvictionReason.CORRUPT}
    assert sum(eviction.records for eviction in lost) == 30
    assert spool.append([b"more"], NOW + 0.2) == range(34, 35)
    spool.sync(NOW + 2)
    assert spool.figures().degraded is None
    spool.close(NOW + 2)
    again = Spool.open(path, now=NOW)
    assert list(content(again)) == [31, 32, 33, 34]
    again.close(NOW)


@pytest.mark.parametrize("how", ["removed", "cut", "extended", "exchanged"])
def test_what_is_not_in_the_file_any_more_but_in_memory_is_not_given_up_by_reading(real, how):
    path, spool = real
    stored = fill(spool, range(5))
    spool.sync(NOW)
    stored |= fill(spool, range(5, 8))
    file = path / "0000000000000001.seg"
    data = file.read_bytes()
    match how:
        case "removed":
            file.unlink()
        case "cut":
            os.truncate(file, len(data) - 1000)
        case "extended":
            file.write_bytes(data + b"noise")
            stored |= fill(spool, range(8, 9))
        case "exchanged":
            file.rename(path / "aside")
            file.write_bytes(data)
    assert spool.read(0, 99, 1 << 20) == []
    assert spool.take_evictions() == []
    spool.sync(NOW + 0.1)
    left = content(spool)
    lost = {seq for e in spool.take_evictions() for span in e.seqs for seq in span}
    assert left == {seq: d for seq, d in stored.items() if seq not in lost}
    assert lost == ({1, 2, 3, 4, 5} if how in {"removed", "exchanged"} else set())
    spool.close(NOW + 1)


def test_a_deleted_directory_that_cannot_be_made_again_stops_nothing(real):
    path, spool = real
    fill(spool, range(3))
    shutil.rmtree(path)
    path.write_text("in the way")
    for tick in range(20):
        spool.sync(NOW + tick)
        with pytest.raises(SpoolUnavailableError) as refused:
            spool.append([b"x"], NOW + tick)
        assert refused.value.reason is Degraded.GONE
    spool.acknowledge([1])
    path.unlink()
    spool.sync(NOW + 30)
    assert spool.append([b"y"], NOW + 30) == range(4, 5)
    spool.close(NOW + 30)


def test_a_directory_remade_by_another_xrayd_is_left_to_it(real):
    path, spool = real
    fill(spool, range(3))
    shutil.rmtree(path)
    other = Spool.open(path, now=NOW)
    other.append([b"theirs"], NOW)
    spool.sync(NOW + 1)
    with pytest.raises(SpoolUnavailableError):
        spool.append([b"ours"], NOW + 1)
    assert [record.document for record in other.read(0, 9, 99)] == [b"theirs"]
    other.close(NOW)
    assert spool.append([b"ours"], NOW + 3)
    spool.close(NOW + 3)


@pytest.mark.parametrize("size", [0, 10, 36, 500, 1000])
def test_a_file_cut_by_someone_else_costs_what_was_cut_off(real, size):
    path, spool = real
    stored = fill(spool, range(5))
    spool.sync(NOW)
    stored |= fill(spool, range(5, 8))
    os.truncate(path / "0000000000000001.seg", size)
    spool.sync(NOW + 0.1)
    assert spool.figures().degraded is Degraded.GONE
    stored |= fill(spool, range(8, 10))
    left = content(spool)
    lost = {seq for e in spool.take_evictions() for span in e.seqs for seq in span}
    whole = max(0, size - 36) // 428
    assert lost == set(range(whole + 1, 6))
    assert left == {seq: d for seq, d in stored.items() if seq not in lost}
    spool.close(NOW + 1)


def test_a_file_exchanged_for_another_is_neither_written_nor_read_nor_removed(real):
    path, spool = real
    stored = fill(spool, range(30))
    spool.sync(NOW)
    names = sorted(name for name in os.listdir(path) if name.endswith(".seg"))
    foreign = b"someone else's" * 100
    for name in (names[1], names[-1]):
        (path / name).rename(path / "aside")
        (path / name).write_bytes(foreign)
    spool.sync(NOW + 0.1)
    assert spool.figures().degraded is Degraded.GONE
    stored |= fill(spool, range(30, 33))
    left = content(spool)
    lost = {seq for e in spool.take_evictions() for span in e.seqs for seq in span}
    assert left == {seq: d for seq, d in stored.items() if seq not in lost}
    assert 9 <= len(lost) <= 18
    assert spool.figures().corrupt_records == len(lost)
    spool.acknowledge(left)
    kept = [entry.read_bytes() for entry in (path / "quarantine").iterdir()]
    assert kept == [foreign, foreign]
    spool.close(NOW + 1)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_files_that_cannot_be_opened_for_a_moment_lose_nothing(number):
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(30))
    disk.fail("open", number)
    assert spool.read(0, 50, 1 << 20) == []
    spool.sync(NOW)
    assert spool.figures().degraded is Degraded.IO_ERROR
    assert spool.take_evictions() == []
    disk.mend()
    assert content(spool) == stored


def test_closing_on_a_failing_disk_raises_nothing_and_loses_nothing():
    for method in ("write", "fdatasync", "pwrite", "unlink", "rename", "fsync_directory"):
        disk = MemoryDisk()
        spool = open_spool(disk)
        stored = fill(spool, range(30))
        spool.acknowledge(range(1, 12))
        disk.fail(method, errno.EIO)
        spool.close(NOW)
        disk.mend()
        again = content(open_spool(disk))
        assert {s: d for s, d in stored.items() if s > 11}.items() <= again.items()


def test_a_file_that_cannot_be_removed_is_not_read_again_and_is_removed_later():
    disk = MemoryDisk()
    spool = open_spool(disk)
    stored = fill(spool, range(30))
    files = spool.figures().files
    disk.fail("unlink", errno.EPERM)
    spool.acknowledge(range(1, 21))
    assert content(spool) == {s: d for s, d in stored.items() if s > 20}
    spool.sync(NOW)
    assert spool.figures().degraded is Degraded.READ_ONLY
    assert spool.figures().files == files
    disk.mend()
    spool.sync(NOW + 1.1)
    spool.sync(NOW + 2.2)
    assert spool.figures().degraded is None
    assert spool.figures().files == files - 2
    disk.kill()
    assert open_spool(disk).recovered == 10


class SlowestDisk(Disk):
    """Counts what a real disk is asked to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def write(self, fd, data):
        self.calls.append("write")
        return super().write(fd, data)

    def fdatasync(self, fd):
        self.calls.append("fdatasync")
        super().fdatasync(fd)


def test_a_batch_is_one_write_and_an_interval_one_sync(tmp_path):
    disk = SlowestDisk()
    spool = Spool.open(tmp_path / "spool", now=NOW, disk=disk)
    spool.append([b"x" * 1000] * 50, NOW)
    disk.calls.clear()
    for _ in range(20):
        spool.append([b"x" * 1000] * 50, NOW)
    assert disk.calls == ["write"] * 20
    spool.sync(NOW)
    spool.sync(NOW)
    assert disk.calls == ["write"] * 20 + ["fdatasync"]
    spool.close(NOW)
