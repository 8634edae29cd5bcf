"""The thread that owns the spool; the event loop sends it commands and never waits for a disk.

Documents get a number from the loop when they arrive, so that nothing on the way to AWS waits for
the disk: the thread appends them behind the loop's back, and keeps which numbers became which
sequence numbers. What memory lets go of while it is on disk is the backlog, which the thread reads
back in order.
"""

from __future__ import annotations

import queue
import threading
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from xrayd.spool.dead import DeadLetter, DeadLetters
from xrayd.spool.report import Figures, Record, SpoolUnavailableError
from xrayd.spool.seqset import SeqSet, ranges_of
from xrayd.spool.spool import Spool

_SYNC_S = 0.1
_COMMANDS_AT_ONCE = 256
_DEFERRED_S = 5.0
_SHOW_S = 0.3
_BREAKS_MAX = 10_000
# While so much is queued for the thread, refused documents are not: its disk hangs.
_LETTERS_BEHIND_MAX = 500


class Stored(msgspec.Struct, frozen=True):
    """One `append` has been dealt with: `size` is the bytes of its documents.

    Where the disk could not take them, none of them `is_written`.
    """

    numbers: Sequence[int]
    size: int
    is_written: bool


class Backlog(msgspec.Struct, frozen=True):
    """Records read back, in order; none where there are none left to be had now."""

    records: list[Record]


class Lost(msgspec.Struct, frozen=True):
    """Documents that only the disk should have had, and has not: counts by reason."""

    counts: dict[str, int]


class Shown(msgspec.Struct, frozen=True):
    """The spool's figures, a few times a second."""

    figures: Figures


Event = Stored | Backlog | Lost | Shown


class SpoolWorker:
    """Drives a spool.

    Args:
        spool: open; the thread's alone from `start` on.
        dead: where refused documents are kept; None where that cannot be opened.
        tell: takes events, in the thread; it must not block.
    """

    def __init__(
        self, spool: Spool, dead: DeadLetters | None, tell: Callable[[Event], None]
    ) -> None:
        self._spool = spool
        self._dead = dead
        self._tell = tell
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        # Which numbers became which sequence numbers: (first number, past the last, first seq).
        self._written: list[tuple[int, int, int]] = []
        self._firsts: list[int] = []
        # What only the disk has, as ranges in order; those that could not be read come back later.
        self._backlog: deque[range] = deque()
        self._deferred: list[range] = []
        self._deferred_at = 0.0
        self._backlog_count = spool.recovered
        if spool.recovered:
            self._backlog.append(range(spool.figures().next_seq))
        # Evicted while memory had them too: no loss, unless memory lets go of them.
        self._evicted = SeqSet()
        self._shown_at = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    # Commands: called on the event loop, never waiting.

    def append(self, numbers: Sequence[int], documents: Sequence[bytes]) -> None:
        """Put documents on disk, with their arrival numbers, which rise; `Stored` tells of it."""
        self._commands.put(lambda: self._append(numbers, documents))

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """Documents that came over the wire and have their outcome."""
        self._commands.put(lambda: self._acknowledge(self._seqs_of(numbers)))

    def acknowledge_backlog(self, seqs: Iterable[int]) -> None:
        """Documents read back that have their outcome."""
        self._commands.put(lambda: self._acknowledge(seqs))

    def release(self, numbers: Sequence[int]) -> None:
        """Memory lets go of documents: they are backlog from now on, or `Lost`."""
        self._commands.put(lambda: self._release_numbers(numbers))

    def release_backlog(self, seqs: Iterable[int]) -> None:
        """Memory lets go of documents that were read back before they had their outcome."""
        self._commands.put(lambda: self._release(list(seqs)))

    def call(self, done: Callable[[], None]) -> None:
        """Call `done` in the thread when everything before it is dealt with."""
        self._commands.put(done)

    def read_backlog(self, documents_max: int, bytes_max: int) -> None:
        """Read the next of the backlog; a `Backlog` event brings it."""
        self._commands.put(lambda: self._read(documents_max, bytes_max))

    def keep_dead(self, letter: DeadLetter) -> None:
        """Keep a document the service refuses for good, unless the disk is far behind."""
        if self._commands.qsize() < _LETTERS_BEHIND_MAX:
            self._commands.put(lambda: self._bury(letter))

    def stop(self, seconds: float) -> bool:
        """Write what is queued and close the spool; False where the disk took longer."""
        self._commands.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # The thread

    def _run(self) -> None:
        next_sync = 0.0
        while True:
            now = time.monotonic()
            if now >= next_sync:
                next_sync = now + _SYNC_S
                self._spool.sync(time.time())
                self._report(now)
            for _ in range(_COMMANDS_AT_ONCE):
                try:
                    command = self._commands.get(timeout=max(0.0, next_sync - time.monotonic()))
                except queue.Empty:
                    break
                if command is None:
                    self._report(now)
                    self._spool.close(time.time())
                    if self._dead is not None:
                        self._dead.close()
                    return
                command()
                if time.monotonic() >= next_sync:
                    break

    def _append(self, numbers: Sequence[int], documents: Sequence[bytes]) -> None:
        try:
            seqs = self._spool.append(documents, time.time())
        except SpoolUnavailableError:
            seqs = range(0)
        seq = seqs.start
        for run in ranges_of(numbers) if seqs else ():
            self._note_written(run, seq)
            seq += len(run)
        self._tell(Stored(numbers, sum(map(len, documents)), is_written=bool(seqs)))

    def _note_written(self, numbers: range, seq: int) -> None:
        """Note that documents have sequence numbers from `seq` on."""
        begin, stop, first_seq = self._written[-1] if self._written else (0, 0, 0)
        if stop == numbers.start and first_seq + stop - begin == seq:
            self._written[-1] = (begin, numbers.stop, first_seq)
            return
        # Nearly always at the end: what failed to be written comes before what arrives next.
        at = bisect_right(self._firsts, numbers.start)
        self._firsts.insert(at, numbers.start)
        self._written.insert(at, (numbers.start, numbers.stop, seq))
        # Each break is an outage of the disk; only the latest can concern memory.
        del self._written[:-_BREAKS_MAX], self._firsts[:-_BREAKS_MAX]

    def _seqs_of(self, numbers: Iterable[int]) -> list[int]:
        """Sequence numbers of documents; those that never reached the disk are left out."""
        seqs = []
        for number in numbers:
            at = bisect_right(self._firsts, number) - 1
            if at >= 0 and number < self._written[at][1]:
                seqs.append(self._written[at][2] + number - self._written[at][0])
        return seqs

    def _acknowledge(self, seqs: Iterable[int]) -> None:
        self._spool.acknowledge(seqs)

    def _release_numbers(self, numbers: Sequence[int]) -> None:
        seqs = self._seqs_of(numbers)
        if len(seqs) < len(numbers):
            degraded = self._spool.figures().degraded
            self._tell(Lost({f"spool_{degraded or 'behind'}": len(numbers) - len(seqs)}))
        self._release(seqs)

    def _release(self, seqs: list[int]) -> None:
        gone = [seq for seq in seqs if seq in self._evicted]
        if gone:
            self._tell(Lost({"spool_full": len(gone)}))
            seqs = [seq for seq in seqs if seq not in self._evicted]
        self._backlog_count += len(seqs)
        self._add_to_backlog(SeqSet(range(seq, seq + 1) for seq in seqs))

    def _add_to_backlog(self, ranges: Iterable[range]) -> None:
        merged = sorted([*self._backlog, *ranges], key=lambda seqs: seqs.start)
        self._backlog = deque(_joined(merged))

    def _read(self, documents_max: int, bytes_max: int) -> None:
        while self._backlog:
            first = self._backlog[0]
            records = self._spool.read(first.start, documents_max, bytes_max)
            self._report_lost()  # what reading found damaged was still backlog
            records = [record for record in records if record.seq < first.stop]
            if not records:
                # Nothing is left of this range, or its file cannot be read just now.
                self._deferred.append(self._backlog.popleft())
                continue
            after = records[-1].seq + 1
            self._backlog[0] = range(after, first.stop)
            if after >= first.stop:
                self._backlog.popleft()
            self._backlog_count -= len(records)
            self._tell(Backlog(records))
            return
        if not self._backlog_count:
            self._deferred.clear()
        self._tell(Backlog([]))

    def _bury(self, letter: DeadLetter) -> None:
        if self._dead is not None:
            self._dead.add(letter)

    def _report(self, now: float) -> None:
        self._report_lost()
        if self._deferred and now - self._deferred_at >= _DEFERRED_S:
            self._deferred_at = now
            deferred, self._deferred = self._deferred, []
            self._add_to_backlog(deferred if self._backlog_count else [])
        if now - self._shown_at >= _SHOW_S:
            self._shown_at = now
            self._tell(Shown(self._spool.figures()))

    def _report_lost(self) -> None:
        """Tell what was evicted while only the disk had it; memory still delivers the rest."""
        counts: Counter[str] = Counter()
        for eviction in self._spool.take_evictions():
            lost = 0
            for seqs in eviction.seqs:
                held = [*self._backlog, *self._deferred]
                lost += sum(_overlap(seqs, part) for part in held)
                self._evicted.add(seqs.start, seqs.stop)
            if lost:
                counts[str(eviction.reason)] += lost
        if counts:
            self._backlog_count -= counts.total()
            self._tell(Lost(dict(counts)))


def _overlap(one: range, other: range) -> int:
    return max(0, min(one.stop, other.stop) - max(one.start, other.start))


def _joined(ranges: Iterable[range]) -> list[range]:
    """Sorted ranges, those that touch made one."""
    joined: list[range] = []
    for seqs in ranges:
        if joined and seqs.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, seqs.stop))
        else:
            joined.append(seqs)
    return joined
