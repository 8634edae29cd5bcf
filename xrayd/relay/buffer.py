"""Documents wait here for a request: bounded by real bytes, oldest given up first.

Those of senders who flood stand in a line of their own, sent behind all others and given up before
them.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

# What a document costs beside its bytes: the bytes object's header, the allocator's rounding and
# the batch's pointer to it. A 20-byte document was measured at about 90 bytes this way.
DOCUMENT_OVERHEAD = 72
# The same for a batch: the struct, its list, its place in the queue.
BATCH_OVERHEAD = 400
# A limit of PutTraceSegments (AWS X-Ray endpoints and quotas).
DOCUMENTS_MAX = 50
# Bytes of documents in one request. AWS documents no limit of the whole body; this keeps eight
# requests in flight, each held as documents, text and body, within a few MiB.
BATCH_BYTES_MAX = 512 * 1024
# A refused size makes batches no smaller than this: it is one document of 64 KB, which X-Ray takes.
# Else refusals that had nothing to do with size would leave a document a request for good.
_BATCH_BYTES_LEAST = 64 * 1024


class Batch(msgspec.Struct, gc=False, eq=False):
    """Documents of one PutTraceSegments request.

    `born` is when the oldest arrived and `not_before` when it may be tried (again), both in
    monotonic seconds, `sent_at` when it last was; `size` is what it costs in memory, in bytes.
    `attempts` are requests; `refusals` those answered with unprocessed documents, `doubts` those
    with an unreadable 200. With a spool, `numbers` stand beside the documents: arrival numbers, or
    sequence numbers of the spool where the batch `is_backlog`. `has_unfinished` says that one is in
    progress.
    """

    documents: list[bytes]
    size: int
    born: float
    not_before: float = 0.0
    sent_at: float = 0.0
    numbers: array[int] = msgspec.field(default_factory=lambda: array("Q"))
    is_backlog: bool = False
    has_unfinished: bool = False
    attempts: int = 0
    refusals: int = 0
    doubts: int = 0


class _Line:
    """Batches in the order of their arrival: full ones, and the one that is being filled."""

    __slots__ = ("full", "open")

    def __init__(self) -> None:
        self.full: deque[Batch] = deque()
        self.open: Batch | None = None

    def take(self, now: float, linger_s: float) -> Batch | None:
        """The next batch that is full or has waited for `linger_s`."""
        if self.full:
            return self.full.popleft()
        if self.open is not None and now >= self.open.born + linger_s:
            batch, self.open = self.open, None
            return batch
        return None

    def due_in(self, now: float, linger_s: float) -> float:
        """Seconds until `take` has something; infinite where nothing waits."""
        if self.full:
            return 0.0
        return self.open.born + linger_s - now if self.open is not None else math.inf

    def expire(self, deadline: float) -> list[Batch]:
        """Take out what is older than a deadline."""
        expired = []
        while self.full and self.full[0].born < deadline:
            expired.append(self.full.popleft())
        if self.open is not None and self.open.born < deadline:
            expired.append(self.open)
            self.open = None
        return expired


# Documents of one batch arrived within this part of the age limit, for they expire together.
_AGES = 16
# Nearly every document is taken without giving one up.
_NOTHING: Sequence[Batch] = ()


def halves(positions: Sequence[int]) -> list[list[int]]:
    """Two halves of a list, the first the larger; an empty one is left out."""
    middle = (len(positions) + 1) // 2
    return [list(part) for part in (positions[:middle], positions[middle:]) if part]


class Buffer:
    """Queue of batches under one budget of bytes, in-flight ones included.

    Args:
        bytes_max: the budget.
        linger_s: how long a batch may wait to be filled.
        age_max_s: how long a document may be held at all.
    """

    def __init__(self, bytes_max: int, linger_s: float = 1.0, age_max_s: float = 86_400) -> None:
        self._bytes_max = bytes_max
        self._batch_bytes_usual = max(1, min(BATCH_BYTES_MAX, bytes_max // 8))
        self._batch_bytes_max = self._batch_bytes_usual
        self._linger_s = linger_s
        self._age_max_s = age_max_s
        self._span_s = age_max_s / _AGES
        self._usual = _Line()
        self._flood = _Line()
        self._backlog: deque[Batch] = deque()
        self._retries: list[tuple[float, int, Batch]] = []
        self._pushes = 0
        self.on_settled: Callable[[Batch, Sequence[int]], None] | None = None
        self._aside = 0
        self.bytes_held = 0
        self.queued = 0
        self.in_flight = 0

    @property
    def bytes_max(self) -> int:
        """The budget in bytes."""
        return self._bytes_max

    @property
    def batch_bytes_max(self) -> int:
        """Bytes a batch may cost."""
        return self._batch_bytes_max

    @property
    def backlog_batches(self) -> int:
        """Batches of backlog that wait to be sent."""
        return len(self._backlog)

    def append(
        self,
        document: bytes,
        now: float,
        number: int = 0,
        *,
        is_unfinished: bool = False,
        is_flood: bool = False,
    ) -> Sequence[Batch]:
        """Take a document; return what had to be given up for it, oldest first.

        Where nothing can be given up, for everything is in flight, the document itself is.
        `number` is its arrival number where there is a spool. `is_flood` says that its sender is
        one who floods: for it nothing is given up that others sent.
        """
        size = len(document) + DOCUMENT_OVERHEAD
        given_up: Sequence[Batch] = _NOTHING
        if self.bytes_held + size + BATCH_OVERHEAD > self._bytes_max:
            given_up = self._make_room(size + BATCH_OVERHEAD, is_flood=is_flood)
            if self.bytes_held + size + BATCH_OVERHEAD > self._bytes_max:
                itself = Batch([document], size, now, has_unfinished=is_unfinished)
                if number:
                    itself.numbers.append(number)
                return [*given_up, itself]
        line = self._flood if is_flood else self._usual
        batch = line.open
        if batch is not None and (
            batch.size + size > self._batch_bytes_max or now - batch.born > self._span_s
        ):
            line.full.append(batch)
            batch = None
        if batch is None:
            batch = line.open = Batch([], BATCH_OVERHEAD, now)
            self.bytes_held += BATCH_OVERHEAD
        batch.documents.append(document)
        if number:
            batch.numbers.append(number)
        if is_unfinished:
            batch.has_unfinished = True
        batch.size += size
        self.bytes_held += size
        self.queued += 1
        if len(batch.documents) == DOCUMENTS_MAX:
            line.full.append(batch)
            line.open = None
        return given_up

    def is_of_an_age(self, one: float, other: float) -> bool:
        """Whether what arrived at these times may expire together."""
        return abs(one - other) <= self._span_s

    def add_old(
        self, documents: list[bytes], numbers: Sequence[int], born: float, *, has_unfinished: bool
    ) -> None:
        """Queue documents that have waited elsewhere as one batch, to be sent before all others."""
        batch = self._batch(documents, numbers, born, has_unfinished=has_unfinished)
        self._push(batch, 0.0)

    def add_backlog(
        self, documents: list[bytes], seqs: Sequence[int], born: float, *, has_unfinished: bool
    ) -> None:
        """Queue documents read back from the spool as one batch of their own."""
        batch = self._batch(documents, seqs, born, has_unfinished=has_unfinished)
        batch.is_backlog = True
        self._backlog.append(batch)
        self.queued += len(documents)

    def set_aside(self, size: int) -> Sequence[Batch]:
        """So many bytes of the budget are in use elsewhere now; return what is given up for it."""
        self.bytes_held += size - self._aside
        self._aside = size
        return self._make_room(0)

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes fit without giving anything up."""
        return self.bytes_held + size + DOCUMENT_OVERHEAD + BATCH_OVERHEAD <= self._bytes_max

    def take(self, now: float, *, linger: bool = True) -> Batch | None:
        """Hand out the batch to send next, or None where none is due.

        Tried ones first, for they are the oldest; then full ones; then the open one where it has
        waited long enough, or at once without `linger`; then those of senders who flood.
        """
        return self._hand_out(self._next(now, linger=linger), now)

    def take_backlog(self, now: float) -> Batch | None:
        """Hand out the next batch of backlog, or None where none is read back."""
        return self._hand_out(self._backlog.popleft() if self._backlog else None, now)

    def limit_batches(self, size: int) -> None:
        """Make no batch of more than `size` bytes any more, within reason."""
        self._batch_bytes_max = min(self._batch_bytes_max, max(_BATCH_BYTES_LEAST, size))

    def lift_limit(self) -> None:
        """Make batches of the usual size again."""
        self._batch_bytes_max = self._batch_bytes_usual

    def due_in(self, now: float) -> float | None:
        """Seconds until `take` has something, 0 for now, None where nothing waits."""
        due = min(line.due_in(now, self._linger_s) for line in (self._usual, self._flood))
        if self._retries:
            due = min(due, self._retries[0][0] - now)
        return max(0.0, due) if due < math.inf else None

    def put_back(self, batch: Batch, not_before: float) -> None:
        """Return a batch in flight to the head of the queue, to be tried from `not_before` on."""
        self._push(batch, not_before)
        self.in_flight -= len(batch.documents)

    def settle(self, batch: Batch) -> None:
        """Forget a batch in flight whose documents all have their outcome."""
        self.divide(batch, [], 0.0)

    def divide(self, batch: Batch, keep: Sequence[Sequence[int]], not_before: float) -> None:
        """Replace a batch in flight by smaller ones, given as positions; the rest is settled."""
        self.bytes_held -= batch.size
        self.in_flight -= len(batch.documents)
        for positions in keep:
            documents = [batch.documents[position] for position in positions]
            part = Batch(
                documents,
                _size_of(documents),
                batch.born,
                numbers=array("Q", [batch.numbers[p] for p in positions] if batch.numbers else []),
                is_backlog=batch.is_backlog,
                has_unfinished=batch.has_unfinished,
                attempts=batch.attempts,
                refusals=batch.refusals,
                doubts=batch.doubts,
            )
            self.bytes_held += part.size
            self.in_flight += len(documents)
            self.put_back(part, not_before)
        if self.on_settled is not None:
            kept = {position for positions in keep for position in positions}
            self.on_settled(batch, [p for p in range(len(batch.documents)) if p not in kept])

    def expire(self, now: float) -> list[Batch]:
        """Give up what has been held too long."""
        deadline = now - self._age_max_s
        expired = self._usual.expire(deadline) + self._flood.expire(deadline)
        for batch in [batch for batch in self._backlog if batch.born < deadline]:
            self._backlog.remove(batch)
            expired.append(batch)
        stale = [entry for entry in self._retries if entry[2].born < deadline]
        for entry in stale:
            self._retries.remove(entry)
            expired.append(entry[2])
        if stale:
            heapq.heapify(self._retries)
        return self._forget(expired)

    def clear(self) -> list[Batch]:
        """Give up everything queued."""
        dropped = []
        while (batch := self._oldest()) is not None:
            dropped.append(batch)
        return self._forget(dropped)

    def _batch(
        self, documents: list[bytes], numbers: Sequence[int], born: float, *, has_unfinished: bool
    ) -> Batch:
        size = _size_of(documents)
        self.bytes_held += size
        return Batch(
            documents, size, born, numbers=array("Q", numbers), has_unfinished=has_unfinished
        )

    def _push(self, batch: Batch, not_before: float) -> None:
        batch.not_before = not_before
        self._pushes += 1
        heapq.heappush(self._retries, (not_before, self._pushes, batch))
        self.queued += len(batch.documents)

    def _hand_out(self, batch: Batch | None, now: float) -> Batch | None:
        if batch is None:
            return None
        self.queued -= len(batch.documents)
        self.in_flight += len(batch.documents)
        if batch.size > self._batch_bytes_max and len(batch.documents) > 1:
            # Filled before `limit_batches` learned what the service takes.
            self.divide(batch, halves(range(len(batch.documents))), now)
            return self.take(now)
        return batch

    def _next(self, now: float, *, linger: bool) -> Batch | None:
        if self._retries and (self._retries[0][0] <= now or not linger):
            return heapq.heappop(self._retries)[2]
        linger_s = self._linger_s if linger else -math.inf
        return self._usual.take(now, linger_s) or self._flood.take(now, linger_s)

    def _make_room(self, size: int, *, is_flood: bool = False) -> list[Batch]:
        given_up: list[Batch] = []
        while self.bytes_held + size > self._bytes_max and (
            batch := self._oldest(is_flood=is_flood)
        ):
            given_up += self._forget([batch])
        return given_up

    def _oldest(self, *, is_flood: bool = False) -> Batch | None:
        """Remove and return the queued batch to give up first: the one held longest.

        None where that is not for the sake of a sender who floods.
        """
        if self._backlog:
            return self._backlog.pop()  # on disk all the same; the last read is needed last
        batch = self._flood.take(0.0, -math.inf)
        if batch is not None or is_flood:
            return batch
        full = self._usual.full
        if self._retries:
            entry = min(self._retries, key=lambda entry: entry[2].born)
            if not full or entry[2].born <= full[0].born:
                self._retries.remove(entry)
                heapq.heapify(self._retries)
                return entry[2]
        return self._usual.take(0.0, -math.inf)

    def _forget(self, batches: list[Batch]) -> list[Batch]:
        for batch in batches:
            self.bytes_held -= batch.size
            self.queued -= len(batch.documents)
        return batches


def _size_of(documents: Sequence[bytes]) -> int:
    return BATCH_OVERHEAD + sum(len(document) + DOCUMENT_OVERHEAD for document in documents)
