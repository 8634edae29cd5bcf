"""Documents wait here for a request: bounded by real bytes, oldest given up first."""

from __future__ import annotations

import heapq
from collections import deque

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


class Batch(msgspec.Struct, gc=False, eq=False):
    """Documents of one PutTraceSegments request.

    `born` is when the oldest arrived and `not_before` when it may be tried (again), both in
    monotonic seconds; `size` is what it costs in memory, in bytes. `attempts` are requests;
    `refusals` those answered with unprocessed documents, `doubts` those with an unreadable 200.
    """

    documents: list[bytes]
    size: int
    born: float
    not_before: float = 0.0
    attempts: int = 0
    refusals: int = 0
    doubts: int = 0


def halves(documents: list[bytes]) -> list[list[bytes]]:
    """Two halves of a list, the first the larger; an empty one is left out."""
    middle = (len(documents) + 1) // 2
    return [part for part in (documents[:middle], documents[middle:]) if part]


class Buffer:
    """Queue of batches under one budget of bytes, in-flight ones included.

    Args:
        bytes_max: the budget.
        linger_s: how long a batch may wait to be filled.
        age_max_s: how long a document may be held at all.
    """

    def __init__(self, bytes_max: int, linger_s: float = 1.0, age_max_s: float = 86_400) -> None:
        self._bytes_max = bytes_max
        self._batch_bytes_max = max(1, min(BATCH_BYTES_MAX, bytes_max // 8))
        self._linger_s = linger_s
        self._age_max_s = age_max_s
        self._open: Batch | None = None
        self._full: deque[Batch] = deque()
        self._retries: list[tuple[float, int, Batch]] = []
        self._pushes = 0
        self.bytes_held = 0
        self.queued = 0
        self.in_flight = 0

    @property
    def bytes_max(self) -> int:
        """The budget in bytes."""
        return self._bytes_max

    def append(self, document: bytes, now: float) -> int:
        """Take a document; return how many were given up for it, oldest first.

        Where everything is in flight and nothing can be given up, the document itself is.
        """
        size = len(document) + DOCUMENT_OVERHEAD
        spilled = 0
        if self.bytes_held + size + BATCH_OVERHEAD > self._bytes_max:
            spilled = self._make_room(size + BATCH_OVERHEAD)
            if self.bytes_held + size + BATCH_OVERHEAD > self._bytes_max:
                return spilled + 1
        batch = self._open
        if batch is not None and batch.size + size > self._batch_bytes_max:
            self._full.append(batch)
            batch = None
        if batch is None:
            batch = self._open = Batch([], BATCH_OVERHEAD, now)
            self.bytes_held += BATCH_OVERHEAD
        batch.documents.append(document)
        batch.size += size
        self.bytes_held += size
        self.queued += 1
        if len(batch.documents) == DOCUMENTS_MAX:
            self._full.append(batch)
            self._open = None
        return spilled

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes of one document fit without giving anything up."""
        return self.bytes_held + size + DOCUMENT_OVERHEAD + BATCH_OVERHEAD <= self._bytes_max

    def take(self, now: float, *, linger: bool = True) -> Batch | None:
        """Hand out the batch to send next, or None where none is due.

        Tried ones first, for they are the oldest; then full ones; then the open one where it has
        waited long enough, or at once without `linger`.
        """
        batch = self._next(now, linger=linger)
        if batch is None:
            return None
        self.queued -= len(batch.documents)
        self.in_flight += len(batch.documents)
        if batch.size > self._batch_bytes_max and len(batch.documents) > 1:
            # Filled before `limit_batches` learned what the service takes.
            self.divide(batch, halves(batch.documents), now)
            return self.take(now, linger=linger)
        return batch

    def limit_batches(self, size: int) -> None:
        """Make no batch of more than `size` bytes any more, where documents allow it."""
        self._batch_bytes_max = max(1, min(self._batch_bytes_max, size))

    def due_in(self, now: float) -> float | None:
        """Seconds until `take` has something, 0 for now, None where nothing waits."""
        if self._full:
            return 0.0
        due = [entry[0] for entry in self._retries[:1]]
        if self._open is not None:
            due.append(self._open.born + self._linger_s)
        return max(0.0, min(due) - now) if due else None

    def put_back(self, batch: Batch, not_before: float) -> None:
        """Return a batch in flight to the head of the queue, to be tried from `not_before` on."""
        batch.not_before = not_before
        self._pushes += 1
        heapq.heappush(self._retries, (not_before, self._pushes, batch))
        self.queued += len(batch.documents)
        self.in_flight -= len(batch.documents)

    def settle(self, batch: Batch) -> None:
        """Forget a batch in flight whose documents all have their outcome."""
        self.bytes_held -= batch.size
        self.in_flight -= len(batch.documents)

    def divide(self, batch: Batch, keep: list[list[bytes]], not_before: float) -> None:
        """Replace a batch in flight by smaller ones; documents in none of them are settled."""
        self.settle(batch)
        for documents in keep:
            size = BATCH_OVERHEAD + sum(len(d) + DOCUMENT_OVERHEAD for d in documents)
            part = Batch(
                documents, size, batch.born, not_before,
                batch.attempts, batch.refusals, batch.doubts,
            )  # fmt: skip
            self.bytes_held += size
            self.in_flight += len(documents)
            self.put_back(part, not_before)

    def expire(self, now: float) -> int:
        """Give up what has been held too long; return how many documents that were."""
        expired = 0
        deadline = now - self._age_max_s
        while self._full and self._full[0].born < deadline:
            expired += self._drop(self._full.popleft())
        stale = [entry for entry in self._retries if entry[2].born < deadline]
        for entry in stale:
            self._retries.remove(entry)
            expired += self._drop(entry[2])
        if stale:
            heapq.heapify(self._retries)
        return expired

    def clear(self) -> int:
        """Give up everything queued; return how many documents that were."""
        dropped = 0
        while (batch := self._oldest()) is not None:
            dropped += self._drop(batch)
        return dropped

    def _next(self, now: float, *, linger: bool) -> Batch | None:
        if self._retries and (self._retries[0][0] <= now or not linger):
            return heapq.heappop(self._retries)[2]
        if self._full:
            return self._full.popleft()
        if self._open is not None and (not linger or now >= self._open.born + self._linger_s):
            batch, self._open = self._open, None
            return batch
        return None

    def _make_room(self, size: int) -> int:
        spilled = 0
        while self.bytes_held + size > self._bytes_max and (batch := self._oldest()) is not None:
            spilled += self._drop(batch)
        return spilled

    def _oldest(self) -> Batch | None:
        """Remove and return the queued batch that is held longest."""
        if self._retries:
            entry = min(self._retries, key=lambda entry: entry[2].born)
            if not self._full or entry[2].born <= self._full[0].born:
                self._retries.remove(entry)
                heapq.heapify(self._retries)
                return entry[2]
        if self._full:
            return self._full.popleft()
        batch, self._open = self._open, None
        return batch

    def _drop(self, batch: Batch) -> int:
        self.bytes_held -= batch.size
        self.queued -= len(batch.documents)
        return len(batch.documents)
