"""A process with a spool that is meant to be killed; notes outside the spool what it does there.

What it is about to do and what it has done are noted separately, as one line each: a kill between
the two proves nothing either way.

    A numbers    about to append these documents      a seqs   appended with these numbers
    K numbers    about to acknowledge these           k        acknowledged
    E seqs       found these evicted
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import time

from xrayd.spool.disk import Disk
from xrayd.spool.report import SpoolUnavailableError
from xrayd.spool.spool import Spool


class FlakyDisk(Disk):
    """Its syncs fail now and then."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def fdatasync(self, fd: int) -> None:
        if self._chance.random() < 0.2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fdatasync(fd)


def document_of(number: int) -> bytes:
    chance = random.Random(number)
    return b"<%d>" % number + chance.randbytes(chance.choice([0, 10, 300, 900]))


def number_of(document: bytes) -> int:
    number = int(document[1 : document.index(b">")])
    assert document_of(number) == document
    return number


class Worker:
    """One life of the process."""

    def __init__(self, path: str, notes_path: str, seed: int, *, mode: str, crash_at: str) -> None:
        self.notes = os.open(notes_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.chance = random.Random(seed)
        self.mode = mode
        self.point, _, times = crash_at.partition(":")
        self.times_left = int(times or 1)
        self.now = time.time()
        self.number = seed * 1_000_000
        self.position = 0
        self.spool = Spool.open(
            path,
            now=self.now,
            file_bytes=8 * 1024,
            bytes_max=(64 if mode == "small" else 1 << 20) * 1024,
            free_bytes_min=0,
            disk=FlakyDisk(self.chance) if mode == "flaky" else Disk(),
            crash_point=self.crash_point,
        )
        print("open", flush=True)

    def crash_point(self, point: str) -> None:
        if point == self.point:
            self.times_left -= 1
            if self.times_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def note(self, kind: str, numbers) -> None:
        os.write(self.notes, f"{kind} {' '.join(map(str, numbers))}\n".encode())

    def append(self) -> None:
        numbers = range(self.number, self.number + self.chance.randint(1, 20))
        self.number = numbers.stop
        self.note("A", numbers)
        try:
            seqs = self.spool.append([document_of(n) for n in numbers], self.now)
            self.note("a", seqs)
        except SpoolUnavailableError:
            assert self.mode == "flaky"
            self.now += 1  # It tries again once a second.
        evicted = [s for e in self.spool.take_evictions() for span in e.seqs for s in span]
        if evicted:
            self.note("E", evicted)

    def deliver(self) -> None:
        self.position = 0 if self.chance.random() < 0.2 else self.position
        records = self.spool.read(self.position, self.chance.randint(1, 60), 100_000)
        if records:
            self.position = records[-1].seq + 1
            kept = [record for record in records if self.chance.random() < 0.97]
            self.note("K", [number_of(record.document) for record in kept])
            self.spool.acknowledge(record.seq for record in kept)
            self.note("k", [])

    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.append()
            if self.chance.random() < 0.3:
                self.spool.sync(self.now)
            if self.chance.random() < (0.1 if self.mode == "small" else 0.6):
                self.deliver()
        self.spool.close(self.now)


if __name__ == "__main__":
    path, notes, seed, mode, crash_at, steps = sys.argv[1:]
    Worker(path, notes, int(seed), mode=mode, crash_at=crash_at).work(int(steps))
