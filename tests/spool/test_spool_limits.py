"""The spool stays within its limits, and every record it gives up is named exactly once."""

from __future__ import annotations

import random

import pytest
from spool.memory_disk import MemoryDisk

from xrayd.spool.cursor import RANGES_MAX
from xrayd.spool.report import Degraded, EvictionReason, SpoolUnavailableError
from xrayd.spool.spool import Spool

NOW = 1_700_000_000.0
DAY = 86_400
KB = 1024


def open_spool(disk, **settings) -> Spool:
    return Spool.open("spool", disk=disk, **({"now": NOW, "file_bytes": 4 * KB} | settings))


def pending(spool) -> list[int]:
    seqs, seq = [], 0
    while records := spool.read(seq, 100, 1 << 20):
        seqs += [record.seq for record in records]
        seq = seqs[-1] + 1
    return seqs


def evicted(spool, reason) -> list[int]:
    evictions = spool.take_evictions()
    assert {eviction.reason for eviction in evictions} <= {reason}
    return [seq for eviction in evictions for span in eviction.seqs for seq in span]


def test_over_its_limit_the_oldest_file_makes_room():
    disk = MemoryDisk()
    spool = open_spool(disk, bytes_max=40 * KB)
    gone = []
    for _ in range(500):
        spool.append([b"x" * 400], NOW)
        assert disk.used() <= 40 * KB + 8192  # The cursor.
        gone += evicted(spool, EvictionReason.SPOOL_FULL)
    assert gone == list(range(1, len(gone) + 1))
    assert pending(spool) == list(range(len(gone) + 1, 501))
    assert len(pending(spool)) > 60
    assert spool.figures().degraded is None


def test_what_was_acknowledged_is_not_among_what_was_evicted():
    spool = open_spool(MemoryDisk(), bytes_max=40 * KB)
    acknowledged = set()
    gone = []
    chance = random.Random(3)
    for _ in range(300):
        seqs = spool.append([b"x" * 400], NOW)
        gone += evicted(spool, EvictionReason.SPOOL_FULL)
        if chance.random() < 0.5:
            acknowledged.add(seqs.start)
            assert spool.acknowledge(seqs) == 1
    assert not acknowledged & set(gone)
    left = pending(spool)
    assert sorted([*gone, *acknowledged, *left]) == list(range(1, 301))
    assert gone == sorted(gone)
    assert spool.acknowledge(gone) == 0


def test_a_batch_larger_than_a_file_is_taken_whole():
    disk = MemoryDisk()
    spool = open_spool(disk, bytes_max=40 * KB)
    for _ in range(5):
        spool.append([b"x" * 1000] * 20, NOW)
        assert disk.used() <= 40 * KB + 21 * KB + 8192
    assert len(pending(spool)) == 20
    assert spool.append([b"x" * 100_000], NOW)
    assert [len(record.document) for record in spool.read(0, 99, 10)] == [100_000]


def test_files_are_made_smaller_to_fit_the_limit_and_the_disk():
    for disk, bytes_max in ((MemoryDisk(), 1 << 20), (MemoryDisk(total=2 << 20), 512 << 20)):
        spool = open_spool(disk, bytes_max=bytes_max, file_bytes=8 << 20)
        for _ in range(600):
            spool.append([b"x" * 1000], NOW)
        assert spool.figures().files >= 3


def test_files_whose_last_record_is_too_old_are_removed_and_no_others():
    spool = open_spool(MemoryDisk(), age_max_s=DAY)
    for hour in range(30):
        spool.append([b"x"], NOW + hour * 3600)
    spool.sync(NOW + 23 * 3600)
    assert evicted(spool, EvictionReason.EXPIRED) == []
    for hour in range(24, 60):
        spool.sync(NOW + hour * 3600 + 1)
        left = pending(spool)
        # A file spans a sixteenth of the limit, 1.5 hours: so much later some go.
        assert left == [] or hour - 24 - 2 <= left[0] - 1 <= hour - 24 + 1
    assert evicted(spool, EvictionReason.EXPIRED) == list(range(1, 31))
    assert spool.figures().files == 0
    assert spool.append([b"y"], NOW + 61 * 3600) == range(31, 32)


def test_records_that_expired_while_it_was_stopped_are_recovered_first_and_then_counted():
    disk = MemoryDisk()
    spool = open_spool(disk)
    spool.append([b"x"] * 5, NOW)
    spool.acknowledge([2])
    spool.close(NOW)
    spool = open_spool(disk, now=NOW + 2 * DAY)
    assert spool.recovered == 4
    spool.sync(NOW + 2 * DAY)
    assert evicted(spool, EvictionReason.EXPIRED) == [1, 3, 4, 5]
    assert spool.figures().pending_records == 0


@pytest.mark.parametrize("ours", [False, True])
def test_under_the_floor_of_free_space_only_its_own_data_gives_way(ours):
    disk = MemoryDisk(total=1000 * KB)
    spool = open_spool(disk, free_bytes_min=100 * KB)
    for n in range(600 if ours else 100):
        spool.append([b"x" * 1000], NOW + n)
    held = len(pending(spool))
    assert not spool.take_evictions()
    disk.others = disk.total - (disk.used() - disk.others) - 60 * KB
    if ours:
        for n in range(20):
            spool.append([b"x" * 1000], NOW + 1000 + n)
        gone = evicted(spool, EvictionReason.DISK_LOW)
        assert 40 <= len(gone) <= 70
        assert disk.total - disk.used() >= 90 * KB
        assert spool.figures().degraded is None
    else:
        with pytest.raises(SpoolUnavailableError) as refused:
            spool.append([b"x" * 1000], NOW + 1000)
        assert refused.value.reason is Degraded.DISK_LOW
        assert spool.figures().degraded is Degraded.DISK_LOW
        spool.sync(NOW + 1002)
        assert spool.figures().degraded is Degraded.DISK_LOW
        assert not spool.take_evictions()
        assert len(pending(spool)) == held
        disk.others = 0
        spool.sync(NOW + 1004)
        assert spool.figures().degraded is None


def test_the_ledger_is_exact_through_everything():
    """recovered + appended = acknowledged + evicted + pending, in every life of the process."""
    chance = random.Random(11)
    disk = MemoryDisk(total=100 * KB)
    now = NOW
    seen = set()
    for life in range(40):
        spool = open_spool(disk, now=now, bytes_max=60 * KB, free_bytes_min=20 * KB)
        appended = acknowledged = gone = 0
        for _ in range(chance.randint(1, 60)):
            now += chance.choice([0.1, 1, 400])
            try:
                documents = [b"x" * chance.randint(0, 900)] * chance.randint(1, 30)
                appended += len(spool.append(documents, now))
            except SpoolUnavailableError:
                seen.add("refused")
            start = chance.randint(0, spool.figures().next_seq)
            records = spool.read(start, 20, 1 << 20)
            acknowledged += spool.acknowledge(r.seq for r in records if chance.random() < 0.8)
            spool.sync(now)
            for eviction in spool.take_evictions():
                seen.add(eviction.reason)
                gone += eviction.records
            if chance.random() < 0.02:
                now += DAY + 1
            disk.others = chance.choice([disk.others, 0, 30 * KB, 75 * KB])
            held = spool.figures().pending_records
            assert spool.recovered + appended == acknowledged + gone + held
        files = [name for name in disk.names("spool") if name.endswith(".seg")]
        if files and life % 3 == 0:
            data = disk.file("spool", chance.choice(files)).data
            data[chance.randrange(len(data))] ^= 0xFF
        elif life % 3 == 1:
            spool.close(now)
        disk.kill()
    assert seen == {*EvictionReason, "refused"}


def test_figures_say_what_there_is():
    disk = MemoryDisk()
    spool = open_spool(disk)
    assert spool.figures().oldest_file_at is None
    for n in range(20):
        spool.append([b"x" * 372], NOW + n)  # 400 bytes each on disk.
    figures = spool.figures()
    assert figures.files == 2
    assert figures.bytes_on_disk == 20 * 400 + 2 * 36 + 28
    assert figures.pending_records == 20
    assert 7900 < figures.pending_bytes <= figures.bytes_on_disk
    assert figures.next_seq == 21
    assert figures.oldest_file_at == NOW + 9
    spool.acknowledge(range(1, 16))
    figures = spool.figures()
    assert figures.pending_records == 5
    assert 1900 < figures.pending_bytes < 2300
    assert figures.oldest_file_at == NOW + 19
    disk.kill()
    assert open_spool(disk).figures().pending_records == 5


def test_records_tell_when_they_were_appended():
    disk = MemoryDisk()
    spool = open_spool(disk)
    for n in range(3):
        spool.append([b"x"], NOW + n + 0.75)
    assert [record.received_at for record in spool.read(0, 9, 99)] == [NOW, NOW + 1, NOW + 2]


def test_out_of_order_a_finished_file_goes_at_once_whatever_is_older():
    spool = open_spool(MemoryDisk())
    for _ in range(30):
        spool.append([b"x" * 400], NOW)
    assert spool.figures().files == 4
    assert spool.acknowledge(range(10, 19)) == 9
    assert spool.figures().files == 3
    assert pending(spool) == [*range(1, 10), *range(19, 31)]


def test_live_traffic_acknowledged_far_ahead_of_a_backlog_is_not_repeated_after_a_kill():
    disk = MemoryDisk()
    spool = open_spool(disk, file_bytes=1 << 20)
    backlog = spool.append([b"old"] * 200, NOW)
    in_flight = []
    for n in range(2000):
        seqs = spool.append([b"live"] * 5, NOW)
        in_flight.append(seqs)
        if len(in_flight) > 8:
            spool.acknowledge(in_flight.pop(n % 8))
    disk.kill()
    left = pending(open_spool(disk))
    assert left == sorted([*backlog, *(seq for seqs in in_flight for seq in seqs)])


def test_with_more_gaps_than_the_cursor_holds_some_are_repeated_and_none_is_lost():
    disk = MemoryDisk()
    spool = open_spool(disk, file_bytes=1 << 20)
    spool.append([b"x"] * 4000, NOW)
    spool.acknowledge(range(1000, 2000))
    spool.acknowledge(range(2001, 4000, 2))
    left = pending(spool)
    disk.kill()
    again = pending(open_spool(disk))
    assert set(left) <= set(again)
    assert not set(range(1000, 2000)) & set(again)
    assert len(again) == len(left) + 1000 - (RANGES_MAX - 1)


def test_a_steady_stream_leaves_little_on_disk():
    disk = MemoryDisk()
    spool = open_spool(disk)
    for n in range(400):
        seqs = spool.append([b"x" * 300] * 3, NOW + n / 10)
        spool.sync(NOW + n / 10)
        spool.acknowledge(seqs)
        assert spool.figures().files <= 2
    assert disk.names("spool") == sorted(disk.names("spool"))
    spool.close(NOW + 100)
    assert disk.names("spool") == ["cursor", "lock"]


@pytest.mark.parametrize("share", [0, 3, 7])
def test_reading_goes_on_anywhere(share):
    spool = open_spool(MemoryDisk())
    documents = [b"<%d>" % n + b"x" * (n * 37 % 500) for n in range(200)]
    for document in documents:
        spool.append([document], NOW)
    chance = random.Random(share)
    for _ in range(300):
        seq = chance.randint(0, 205)
        records = spool.read(seq, chance.randint(1, 10), chance.choice([1, 500, 5000]))
        assert [r.seq for r in records] == list(range(max(seq, 1), max(seq, 1) + len(records)))
        assert bool(records) == (seq <= 200)
        assert [r.document for r in records] == [documents[r.seq - 1] for r in records]


def test_reading_at_the_end_sees_what_is_appended_next():
    spool = open_spool(MemoryDisk())
    seq = 0
    for n in range(60):
        assert spool.read(seq, 10, 99_999) == []
        spool.append([b"%d" % n * 100], NOW)
        records = spool.read(seq, 10, 99_999)
        assert [record.document for record in records] == [b"%d" % n * 100]
        seq = records[-1].seq + 1
