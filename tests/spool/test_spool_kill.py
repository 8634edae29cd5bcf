"""kill -9 at any instant loses nothing appended and repeats nothing acknowledged."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from spool.kill_worker import number_of

from xrayd.spool.spool import Spool

WORKER = Path(__file__).with_name("kill_worker.py")
RUNNING = [
    "roll-created",
    "header-written",
    "roll-renamed",
    "directory-synced",
    "appended",
    "synced",
    "trailer-written",
    "sealed",
    "acked",
    "unlinked",
    "cursor-written",
]
RECOVERING = ["recovered", "tail-copied", "empty-unlinked", "cursor-written", "unlinked"]


def start(tmp_path, seed=1, mode="plain", crash_at="", steps=400) -> subprocess.Popen:
    arguments = [tmp_path / "spool", tmp_path / "notes", seed, mode, crash_at, steps]
    return subprocess.Popen(
        [sys.executable, str(WORKER), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(tmp_path, **arguments) -> bool:
    """Run a worker to its end; returns whether it was killed."""
    worker = start(tmp_path, **arguments)
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode in {0, -signal.SIGKILL}, errors.decode()
    return worker.returncode != 0


class Notes:
    """What the workers say they did."""

    def __init__(self, tmp_path) -> None:
        self.intended: set[int] = set()
        self.appended: dict[int, int] = {}
        self.acknowledging: set[int] = set()
        self.acknowledged: set[int] = set()
        self.evicted: set[int] = set()
        about_to: list[int] = []
        lines = (tmp_path / "notes").read_text().splitlines()
        for line in lines:
            numbers = list(map(int, line[2:].split()))
            match line[0]:
                case "A":
                    about_to = numbers
                    self.intended.update(numbers)
                case "a":
                    self.appended.update(zip(about_to, numbers, strict=True))
                case "K":
                    about_to = numbers
                    self.acknowledging.update(numbers)
                case "k":
                    self.acknowledged.update(about_to)
                case "E":
                    gone = set(numbers)
                    self.evicted |= {n for n, seq in self.appended.items() if seq in gone}

    @property
    def due(self) -> set[int]:
        return set(self.appended) - self.acknowledging - self.evicted


def check(tmp_path, *, may_repeat: bool = False, may_be_evicted: bool = False) -> int:
    """Compare the spool with the notes; returns how many records it holds."""
    notes = Notes(tmp_path)
    spool = Spool.open(tmp_path / "spool", now=time.time())
    found, seq = [], 0
    while records := spool.read(seq, 100, 1 << 20):
        found += records
        seq = records[-1].seq + 1
    assert spool.take_evictions() == []
    assert spool.recovered == len(found)
    spool.close(time.time())
    numbers = [number_of(record.document) for record in found]
    assert len(numbers) == len(set(numbers))
    for number, record in zip(numbers, found, strict=True):
        assert notes.appended.get(number, record.seq) == record.seq
    assert set(numbers) <= notes.intended
    missing = notes.due - set(numbers)
    if may_be_evicted:
        oldest = sorted(notes.due, key=notes.appended.__getitem__)
        assert missing == set(oldest[: len(missing)])
    else:
        assert not missing
    if not may_repeat:
        assert not notes.acknowledged & set(numbers)
    return len(numbers)


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("point", RUNNING)
def test_killed_at_a_named_point_nothing_is_lost_or_repeated(tmp_path, point, times):
    assert run(tmp_path, crash_at=f"{point}:{times}")
    check(tmp_path)


@pytest.mark.parametrize("point", RUNNING)
def test_killed_at_a_named_point_and_again_while_recovering_nothing_is_lost(tmp_path, point):
    assert run(tmp_path, crash_at=f"{point}:3")
    for again in RECOVERING:
        run(tmp_path, seed=2, crash_at=again, steps=0)
        check(tmp_path)


def test_each_point_of_recovery_can_be_died_at(tmp_path):
    """The test above would show nothing if recovery never came by these points."""
    reached = set()
    for number, point in enumerate(RECOVERING):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert run(folder, crash_at="appended:30")
        segments = sorted((folder / "spool").glob("*.seg"))
        if point == "tail-copied":
            with segments[-1].open("ab") as file:
                file.write(b"half a record")
        if point == "empty-unlinked":
            (folder / "spool" / f"{1 << 40:016x}.seg").write_bytes(b"")
        if point == "unlinked":
            # As if the removal of an acknowledged file had not been durable.
            copy = segments[0].read_bytes()
            assert not run(folder, seed=2)
            assert not segments[0].exists()
            segments[0].write_bytes(copy)
        if run(folder, seed=3, crash_at=point, steps=0):
            reached.add(point)
        check(folder)
    assert reached == set(RECOVERING)


@pytest.mark.parametrize("point", ["unlinked", "evicted", "roll-created", "appended"])
def test_killed_while_evicting_only_the_oldest_are_gone(tmp_path, point):
    assert run(tmp_path, mode="small", crash_at=f"{point}:{90 if point == 'appended' else 12}")
    assert check(tmp_path, may_be_evicted=True) > 20
    run(tmp_path, mode="small", seed=2, crash_at="evicted")
    check(tmp_path, may_be_evicted=True)


@pytest.mark.parametrize(
    "point", ["roll-created", "header-written", "roll-renamed", "appended", "sealed", "acked"]
)
def test_killed_on_a_disk_whose_syncs_fail_nothing_is_lost(tmp_path, point):
    for seed in (1, 2, 3):
        assert run(tmp_path, seed=seed, mode="flaky", crash_at=f"{point}:{seed * 3}")
        check(tmp_path)


def kill_at_random(tmp_path, times: int) -> None:
    chance = random.Random()
    longest = 0
    for seed in range(1, times + 1):
        worker = start(tmp_path, seed=seed, steps=1_000_000)
        assert worker.stdout.readline() == b"open\n", worker.stderr.read().decode()
        time.sleep(chance.uniform(0, 0.05))
        worker.kill()
        worker.communicate()
        assert worker.returncode == -signal.SIGKILL
        longest = max(longest, check(tmp_path))
    notes = Notes(tmp_path)
    assert longest > 0
    assert len(notes.acknowledged) > 10 * times
    assert len(notes.appended) > 10 * times


def test_killed_at_random_instants_nothing_is_lost_or_repeated(tmp_path):
    kill_at_random(tmp_path, 25)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_killed_a_thousand_times_nothing_is_lost_or_repeated(tmp_path):
    kill_at_random(tmp_path, 1000)
