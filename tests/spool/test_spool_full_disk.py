"""A real file system that is really full."""

from __future__ import annotations

import subprocess

import pytest
from fakes.mounts import fill, tmpfs

from xrayd.spool.report import Degraded, EvictionReason, SpoolUnavailableError
from xrayd.spool.spool import Spool

NOW = 1_700_000_000.0
DOCUMENTS = [b"x" * 1000] * 50

pytestmark = pytest.mark.root


@pytest.fixture
def mount(tmp_path):
    with tmpfs(tmp_path / "mount", 16) as path:
        yield path


def drain(spool) -> int:
    count, seq = 0, 0
    while records := spool.read(seq, 50, 1 << 20):
        seq = records[-1].seq + 1
        count += spool.acknowledge(range(records[0].seq, seq))
    return count


@pytest.mark.parametrize("floor", [0, None])
def test_filled_by_its_own_data_it_evicts_exactly_and_drains_whole(mount, floor):
    spool = Spool.open(mount / "spool", now=NOW, free_bytes_min=floor)
    appended = 0
    for n in range(600):
        appended += len(spool.append(DOCUMENTS, NOW + n / 100))
        spool.sync(NOW + n / 100)
    evictions = spool.take_evictions()
    assert {eviction.reason for eviction in evictions} == {EvictionReason.DISK_LOW}
    gone = sum(eviction.records for eviction in evictions)
    assert drain(spool) == appended - gone > 10_000
    assert spool.figures().pending_records == 0
    spool.close(NOW + 10)


@pytest.mark.parametrize("floor", [0, None])
def test_filled_by_others_it_refuses_and_still_drains_80_batches_of_80(mount, floor):
    spool = Spool.open(mount / "spool", now=NOW, free_bytes_min=floor)
    for _ in range(80):
        spool.append(DOCUMENTS, NOW)
    fill(mount)
    with pytest.raises(SpoolUnavailableError) as refused:
        spool.append(DOCUMENTS * 100, NOW + 1)
    assert refused.value.reason in {Degraded.DISK_FULL, Degraded.DISK_LOW}
    assert drain(spool) >= 80 * 50
    (mount / "filler").unlink()
    spool.sync(NOW + 4)
    assert spool.figures().degraded is None
    assert len(spool.append(DOCUMENTS, NOW + 5)) == 50
    assert spool.take_evictions() == []
    spool.close(NOW + 5)
    again = Spool.open(mount / "spool", now=NOW + 5)
    assert again.recovered == 50
    again.close(NOW + 5)


def test_started_on_a_full_disk_it_drains_and_comes_back(mount):
    spool = Spool.open(mount / "spool", now=NOW)
    spool.append(DOCUMENTS, NOW)
    spool.close(NOW)
    (mount / "spool" / "cursor").unlink()
    fill(mount)
    spool = Spool.open(mount / "spool", now=NOW)
    assert spool.recovered == 50
    assert spool.acknowledge(range(1, 11)) == 10
    assert drain(spool) == 40
    (mount / "filler").unlink()
    spool.sync(NOW + 2)
    spool.sync(NOW + 4)
    assert spool.figures().degraded is None
    assert spool.append([b"x"], NOW + 5) == range(51, 52)
    spool.close(NOW + 5)


def test_started_on_a_read_only_file_system_it_drains_and_comes_back(mount):
    spool = Spool.open(mount / "spool", now=NOW)
    spool.append(DOCUMENTS, NOW)
    spool.close(NOW)
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
    spool = Spool.open(mount / "spool", now=NOW)
    assert spool.recovered == 50
    with pytest.raises(SpoolUnavailableError) as refused:
        spool.append([b"x"], NOW + 1)
    assert refused.value.reason is Degraded.READ_ONLY
    assert drain(spool) == 50
    subprocess.run(["mount", "-o", "remount,rw", str(mount)], check=True)
    spool.sync(NOW + 3)
    spool.sync(NOW + 5)
    assert spool.figures().degraded is None
    assert spool.append([b"x"], NOW + 5) == range(51, 52)
    assert drain(spool) == 1
    spool.close(NOW + 5)
