"""Whatever happens to it, the spool holds what a plain list would hold."""

from __future__ import annotations

import errno
import random
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from spool.memory_disk import MemoryDisk

from xrayd.spool.report import EvictionReason, SpoolUnavailableError
from xrayd.spool.spool import Spool

PATH = "spool"
AGE_MAX_S = 1000.0
BYTES_MAX = 16 * 1024
FILE_BYTES = 1024


class Killed(BaseException):
    """The process ends here."""


class SpoolMachine(RuleBasedStateMachine):
    """A process with a spool on a disk, and what must and may be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk()
        self.now = 1_000_000.0
        self.points_to_live: int | None = None
        self.offered: dict[bytes, int | None] = {}
        """Every document ever, and its number if it was accepted."""
        self.stored: dict[int, bytes] = {}
        """What must be there."""
        self.synced: set[int] = set()
        """Of these, what must be there after a power loss as well."""
        self.unsure: set[int] = set()
        """Of these, which were found by a process whose disk failed."""
        self.doubtful: set[bytes] = set()
        """What may be there: what a call that never returned was about."""
        self.may_be_evicted = False
        self.ever_faulty = False
        self.spool: Spool | None = None

    # The process

    def crash_point(self, point: str) -> None:
        if self.points_to_live is None:
            return
        self.points_to_live -= 1
        if self.points_to_live < 0:
            self.points_to_live = None
            raise Killed(point)

    @initialize(
        policy=st.sampled_from(["interval", "batch", "off"]),
        has_faults=st.booleans(),
        has_damage=st.booleans(),
    )
    def start(self, policy, has_faults, has_damage) -> None:
        self.policy = policy
        self.has_faults = has_faults
        self.has_damage = has_damage
        self.open()
        assert self.spool.recovered == 0

    def open(self) -> None:
        while True:
            try:
                self.spool = Spool.open(
                    PATH,
                    now=self.now,
                    bytes_max=BYTES_MAX,
                    file_bytes=FILE_BYTES,
                    age_max_s=AGE_MAX_S,
                    sync=self.policy,
                    disk=self.disk,
                    crash_point=self.crash_point,
                )
            except Killed:
                self.disk.kill()
            else:
                self.points_to_live = None
                return

    def killed(self, *, lost_power: bool = False, flipped: bool = False) -> None:
        """The process starts again. Compare what it finds with what should be there."""
        self.open()
        records = self.read_all()
        found = {record.seq: record.document for record in records}
        lost = self.take_evictions(EvictionReason.CORRUPT)
        assert self.spool.recovered == len(found) + len(lost)

        missing = set(self.stored) - set(found)
        if lost_power:
            missing &= self.synced
        if flipped:
            assert len(missing) <= 1
        elif self.may_be_evicted:
            assert sorted(missing) == sorted(self.stored)[: len(missing)]
        else:
            assert not missing

        may_be_there = set(self.stored.values()) | self.doubtful
        if lost_power or self.ever_faulty:
            may_be_there = set(self.offered)
        documents = [record.document for record in records]
        assert len(documents) == len(set(documents))
        for seq, document in found.items():
            assert document in may_be_there
            assert self.offered[document] in {seq, None}
            self.offered[document] = seq

        # The newest file is synced when it is found, unless that fails.
        self.unsure = set(found) - self.synced if self.ever_faulty else set()
        self.synced = set(found) - self.unsure
        self.stored = found
        self.doubtful = set()
        self.may_be_evicted = False

    def die(self) -> None:
        self.forget(self.take_evictions())
        self.disk.kill()
        self.killed()

    # What it does

    def documents(self, sizes: list[int]) -> list[bytes]:
        documents = [b"<%d>" % (len(self.offered) + i) + b"x" * n for i, n in enumerate(sizes)]
        self.offered.update(dict.fromkeys(documents))
        return documents

    def read_all(self, documents_max: int = 7, bytes_max: int = 500) -> list:
        records, seq = [], 0
        while batch := self.spool.read(seq, documents_max, bytes_max):
            assert len(batch) <= documents_max
            assert len(batch) == 1 or sum(len(r.document) for r in batch) <= bytes_max
            records += batch
            seq = batch[-1].seq + 1
        seqs = [record.seq for record in records]
        assert seqs == sorted(set(seqs))
        return records

    def take_evictions(self, *reasons: EvictionReason) -> set[int]:
        gone: set[int] = set()
        for eviction in self.spool.take_evictions():
            assert not reasons or eviction.reason in reasons
            seqs = {seq for span in eviction.seqs for seq in span}
            assert eviction.records == len(seqs) > 0
            assert not seqs & gone
            gone |= seqs
        return gone

    def forget(self, seqs: set[int]) -> None:
        for seq in seqs:
            del self.stored[seq]
        self.synced -= seqs

    @rule(sizes=st.lists(st.sampled_from([0, 1, 30, 200, 400]), min_size=1, max_size=8))
    def append(self, sizes) -> None:
        documents = self.documents(sizes)
        next_seq, faults = self.spool.figures().next_seq, self.spool.figures().faults
        try:
            seqs = self.spool.append(documents, self.now)
        except SpoolUnavailableError:
            assert self.spool.figures().degraded is not None
            assert self.ever_faulty
        except Killed:
            self.doubtful.update(documents)
            self.may_be_evicted = True
            self.die()
            return
        else:
            assert seqs == range(next_seq, next_seq + len(documents))
            self.stored.update(zip(seqs, documents, strict=True))
            self.offered.update(zip(documents, seqs, strict=True))
            if self.policy == "batch" and self.spool.figures().faults == faults:
                self.synced.update(seqs)
        self.forget(self.take_evictions(EvictionReason.SPOOL_FULL, EvictionReason.DISK_LOW))

    @rule(
        share=st.integers(0, 100),
        number=st.integers(1, 12),
        seed=st.none() | st.integers(0, 1000),
    )
    def acknowledge(self, share, number, seed) -> None:
        seqs = sorted(self.stored)
        if not seqs:
            return
        low = len(seqs) * share // 101
        chosen = seqs[low : low + number]
        if seed is not None:
            random.Random(seed).shuffle(chosen)
            chosen = [*chosen[: len(chosen) // 2 + 1], seqs[-1] + 1000, 0]
        due = {seq for seq in chosen if seq in self.stored}
        documents = {self.stored[seq] for seq in due}
        self.forget(due)
        try:
            assert self.spool.acknowledge(chosen) == len(due)
            assert self.spool.acknowledge(chosen) == 0
        except Killed:
            self.doubtful.update(documents)
            self.die()

    @rule()
    def sync(self) -> None:
        faults = self.spool.figures().faults
        try:
            self.spool.sync(self.now)
        except Killed:
            self.may_be_evicted = True
            self.die()
            return
        figures = self.spool.figures()
        if self.policy != "off" and figures.faults == faults and figures.degraded is None:
            self.synced = set(self.stored) - self.unsure
        self.forget(self.take_evictions(EvictionReason.EXPIRED, EvictionReason.SPOOL_FULL))

    @rule(
        documents_max=st.integers(1, 30),
        bytes_max=st.sampled_from([1, 100, 1000, 100_000]),
    )
    def read(self, documents_max, bytes_max) -> None:
        found = {r.seq: r.document for r in self.read_all(documents_max, bytes_max)}
        assert found == self.stored
        assert not self.spool.take_evictions()

    @rule(share=st.integers(0, 100))
    def read_from_anywhere(self, share) -> None:
        seqs = sorted(self.stored)
        if seqs:
            seq = seqs[0] - 1 + (seqs[-1] - seqs[0] + 3) * share // 101
            due = [s for s in seqs if s >= seq][:3]
            assert [record.seq for record in self.spool.read(seq, 3, 1 << 30)] == due

    # What happens to it

    @rule(seconds=st.sampled_from([0.05, 0.5, 2, 30, 400]))
    def wait(self, seconds) -> None:
        self.now += seconds

    @precondition(lambda self: not self.ever_faulty)
    @rule()
    def grow_old(self) -> None:
        self.now += AGE_MAX_S + 2
        self.points_to_live = None
        self.sync()
        assert not self.stored

    @rule(points=st.integers(0, 12))
    def die_soon(self, points) -> None:
        self.points_to_live = points

    @rule()
    def kill(self) -> None:
        self.die()

    @rule()
    def stop(self) -> None:
        with suppress(Killed):
            self.spool.close(self.now)
        self.die()

    @rule(seed=st.integers(0, 1 << 32))
    def lose_power(self, seed) -> None:
        self.forget(self.take_evictions())
        self.disk.lose_power(random.Random(seed))
        self.killed(lost_power=True)

    @precondition(lambda self: self.has_faults)
    @rule(
        method=st.sampled_from(
            ["write", "pwrite", "fdatasync", "fsync_directory", "unlink", "rename", "stat"]
        ),
        number=st.sampled_from([errno.EIO, errno.ENOSPC]),
        times=st.integers(1, 3),
        torn=st.sampled_from([0, 20, 100, 10_000]),
        truncate_fails=st.booleans(),
    )
    def disk_fails(self, method, number, times, torn, truncate_fails) -> None:
        self.ever_faulty = True
        self.disk.fail(method, number, times=times, torn=torn)
        if truncate_fails:
            self.disk.fail("truncate", errno.EIO, times=1, torn=torn)

    @precondition(lambda self: self.has_faults)
    @rule()
    def disk_is_read_only(self) -> None:
        self.ever_faulty = True
        self.disk.is_read_only = True

    @precondition(lambda self: self.ever_faulty)
    @rule()
    def disk_is_mended(self) -> None:
        self.disk.mend()
        self.now += 1.5
        self.sync()
        self.now += 1.5
        self.sync()
        assert self.spool.figures().degraded is None

    @precondition(lambda self: self.has_damage)
    @rule(share=st.integers(0, 1000), mask=st.integers(1, 255), place=st.integers(0, 10_000))
    def a_byte_flips(self, share, mask, place) -> None:
        names = [name for name in self.disk.names(PATH) if name.endswith(".seg")]
        contents = [inode for inode in (self.disk.file(PATH, n) for n in names) if inode.data]
        if not contents:
            return
        content = contents[len(contents) * share // 1001]
        content.data[len(content.data) * place // 10_001] ^= mask
        content.durable = bytes(content.data)
        self.forget(self.take_evictions())
        self.disk.kill()
        self.killed(flipped=True)

    # What always holds

    @precondition(lambda self: self.spool is not None)
    @invariant()
    def figures_are_right(self) -> None:
        figures = self.spool.figures()
        assert figures.pending_records == len(self.stored)
        if not self.ever_faulty:
            names = [name for name in self.disk.names(PATH) if name.endswith(".seg")]
            assert figures.files == len(names)
            sizes = [len(self.disk.file(PATH, name).data) for name in names]
            assert figures.bytes_on_disk == sum(sizes)
            assert figures.bytes_on_disk <= BYTES_MAX + 8 * 440


SpoolMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],  # Explaining traces every line: minutes.
    suppress_health_check=list(HealthCheck),
)
TestSpool = SpoolMachine.TestCase


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_for_longer():
    run_state_machine_as_test(
        SpoolMachine,
        settings=settings(TestSpool.settings, max_examples=2000, stateful_step_count=100),
    )
