"""Who has each document: memory, the disk, or both; and what that means when one lets go.

Memory is the buffer. With a spool, every document is also written to disk behind the loop's back;
what memory lets go of for lack of room is then backlog instead of lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from xrayd.relay.buffer import DOCUMENTS_MAX, Batch, Buffer
from xrayd.relay.ledger import Ledger, Spill
from xrayd.relay.order import Order, Place, Waiting
from xrayd.relay.segment import Head, read_head
from xrayd.spool.report import Figures, Record
from xrayd.spool.worker import Backlog, Event, Lost, Shown, SpoolWorker, Stored

# Documents that the disk has yet to take, in bytes; beyond it they stay in memory only.
_UNSTORED_MAX = 8 * 1024 * 1024
# Batches read back ahead of their sending.
_BACKLOG_AHEAD = 4


class Custody:
    """Takes documents in, and learns of every one that leaves.

    Args:
        buffer: memory.
        ledger: where losses are counted.
        on_spill: told how many documents were given up for lack of memory.
    """

    def __init__(self, buffer: Buffer, ledger: Ledger, on_spill: Callable[[int], None]) -> None:
        self._buffer = buffer
        self._ledger = ledger
        self._on_spill = on_spill
        self._loop = asyncio.get_running_loop()
        self._order = Order(buffer.bytes_max // 8)
        self._worker: SpoolWorker | None = None
        self._next_number = 1
        self._first_arrived = 1
        self._arrived: list[bytes] = []
        self._released: list[Batch] = []
        self._unstored = 0
        self._reads = 0
        self._is_dry = False
        self._is_cleared = False
        self._on_backlog: Callable[[], None] = lambda: None
        self.figures: Figures | None = None
        self.spooled = 0
        buffer.on_settled = self._settled

    @property
    def waiting(self) -> int:
        """Documents that wait in memory for another of their id."""
        return self._order.documents

    def attach(self, worker: SpoolWorker, recovered: int, on_backlog: Callable[[], None]) -> None:
        """Write to a spool from now on, in which `recovered` documents were found.

        `on_backlog` is called when some of them were read back.
        """
        self._worker = worker
        self._on_backlog = on_backlog
        self.spooled = self._ledger.recovered = recovered
        worker.start()

    def take(self, document: bytes, head: Head | None, now: float) -> None:
        """Take a document that was accepted; `commit` must follow."""
        number = self._number(document) if self._worker is not None else 0
        is_unfinished = False
        ids = self._order.ids
        if head is not None and (head.in_progress or (ids and head.id in ids)):
            is_unfinished = head.in_progress
            entry = Waiting(document, number, is_unfinished)
            place = self._order.place(head.id, entry)
            if place is Place.WAIT:
                return
            if place is Place.NO_ROOM and self._disk_takes_all:
                self._let_go(_batch_of(entry), Spill.MEMORY_FULL)
                return
        for batch in self._buffer.append(document, now, number, is_unfinished=is_unfinished):
            self._let_go(batch, Spill.MEMORY_FULL)

    def commit(self) -> None:
        """Hand what was taken to the disk."""
        if self._worker is None:
            return
        self._store_arrived()
        for batch in self._released:
            self._release(batch)
        self._released.clear()

    def expire(self, now: float) -> None:
        """Give up what is too old."""
        for batch in self._buffer.expire(now):
            self._ledger.expired += len(batch.documents)
            self._acknowledge(batch, batch.numbers)
            self._follow(batch, range(len(batch.documents)))

    def clear(self) -> None:
        """Memory ends: what is queued goes to the disk alone, or is counted as spilled.

        Nothing is read back from then on.
        """
        self._is_cleared = True
        while self._buffer.queued:
            for batch in self._buffer.clear():
                self._let_go(batch, Spill.SHUTDOWN)
        for entry in self._order.clear():
            self._let_go(_batch_of(entry), Spill.SHUTDOWN)
        self.commit()

    def read_ahead(self) -> None:
        """See to it that some backlog is in memory, ready to be sent."""
        if self._worker is None or not self.spooled or self._is_dry or self._is_cleared:
            return
        size = self._buffer.batch_bytes_max
        while self._buffer.backlog_batches + self._reads < _BACKLOG_AHEAD and self._buffer.has_room(
            size * (self._reads + 2)
        ):
            self._reads += 1
            self._worker.read_backlog(DOCUMENTS_MAX, size)

    def handle(self, event: Event) -> None:
        """Take an event of the spool's thread; called on the event loop."""
        match event:
            case Stored():
                self._unstored -= event.size
            case Backlog() if self._is_cleared:
                self._reads -= 1
            case Backlog():
                self._reads -= 1
                if event.records:
                    self._take_back(event.records)
                else:
                    self._is_dry = True  # until the figures say otherwise
                self._go_on()
            case Lost():
                for reason, count in event.counts.items():
                    self.spooled -= count
                    if reason == "expired":
                        self._ledger.expired += count
                    else:
                        self._ledger.spilled[reason] += count
                self._go_on()
            case Shown():
                self.figures = event.figures
                self._is_dry = False
                self.read_ahead()

    async def close(self, seconds: float) -> bool:
        """Wait until the disk has everything, and close it; False where it takes too long."""
        if self._worker is None:
            return True
        self.commit()
        done = asyncio.Event()

        def tell_done() -> None:
            self._loop.call_soon_threadsafe(done.set)

        self._worker.call(tell_done)
        try:
            async with asyncio.timeout(seconds / 2):
                await done.wait()
        except TimeoutError:
            return False
        is_closed = await asyncio.to_thread(self._worker.stop, seconds / 2)
        await asyncio.sleep(0)  # its last events
        return is_closed

    @property
    def _disk_takes_all(self) -> bool:
        is_well = self.figures is not None and self.figures.degraded is None
        return is_well and self._unstored < _UNSTORED_MAX

    def _take_back(self, records: Sequence[Record]) -> None:
        """Queue documents read from the disk, those apart that wait for others of their id."""
        self.spooled -= len(records)
        go: list[Waiting] = []
        for record in records:
            head = read_head(record.document)
            is_unfinished = head is not None and head.in_progress
            entry = Waiting(record.document, record.seq, is_unfinished, is_backlog=True)
            if head is None or not (is_unfinished or head.id in self._order.ids):
                go.append(entry)
            else:
                go += self._order.come_back(head, entry)
        age = max(0.0, time.time() - records[0].received_at)
        backlog = [entry for entry in go if entry.is_backlog]
        self._add_backlog(backlog, self._loop.time() - age)
        self._send_on([entry for entry in go if not entry.is_backlog])

    def _go_on(self) -> None:
        """What came back, or is lost, lets others go."""
        if self._is_dry or not self.spooled:
            self._send_on(self._order.forget_disk())
        self._on_backlog()

    def _add_backlog(self, entries: Sequence[Waiting], born: float) -> None:
        if entries:
            self._buffer.add_backlog(
                [entry.document for entry in entries],
                [entry.number for entry in entries],
                born,
                has_unfinished=any(entry.is_unfinished for entry in entries),
            )

    def _send_on(self, entries: Iterable[Waiting]) -> None:
        """Queue documents that have waited long enough for others of their id."""
        for entry in entries:
            if entry.is_backlog:
                self._add_backlog([entry], self._loop.time())
                continue
            for spilled in self._buffer.append(
                entry.document, self._loop.time(), entry.number, is_unfinished=entry.is_unfinished
            ):
                self._let_go(spilled, Spill.MEMORY_FULL)

    def _number(self, document: bytes) -> int:
        """Give a document its arrival number, and to the disk, unless that is far behind."""
        number = self._next_number
        self._next_number += 1
        if self._unstored < _UNSTORED_MAX:
            self._arrived.append(document)
            self._unstored += len(document)
        else:
            self._store_arrived()
            self._first_arrived = number + 1
        return number

    def _store_arrived(self) -> None:
        if self._arrived and self._worker is not None:
            self._worker.append(self._first_arrived, self._arrived)
            self._first_arrived += len(self._arrived)
            self._arrived = []

    def _let_go(self, batch: Batch, reason: Spill) -> None:
        """Memory gives a batch up: to the disk where that has it, else it is lost."""
        if batch.numbers:
            self.spooled += len(batch.documents)
            self._released.append(batch)
            self._order.go_to_disk(batch.documents)
            return
        self._ledger.spilled[reason] += len(batch.documents)
        if reason is Spill.MEMORY_FULL:
            self._on_spill(len(batch.documents))
        self._follow(batch, range(len(batch.documents)))

    def _release(self, batch: Batch) -> None:
        assert self._worker is not None
        if batch.is_backlog:
            self._worker.release_backlog(batch.numbers)
        else:
            self._worker.release(batch.numbers)
        self._is_dry = False

    def _settled(self, batch: Batch, positions: Sequence[int]) -> None:
        """Documents have their outcome."""
        if batch.numbers:
            self._acknowledge(batch, [batch.numbers[position] for position in positions])
        self._follow(batch, positions)

    def _acknowledge(self, batch: Batch, numbers: Sequence[int]) -> None:
        if self._worker is None or not numbers:
            return
        if batch.is_backlog:
            self._worker.acknowledge_backlog(numbers)
        else:
            self._worker.acknowledge(numbers)

    def _follow(self, batch: Batch, positions: Sequence[int]) -> None:
        """Those that waited for documents in progress may go now."""
        if not batch.has_unfinished:
            return
        for position in positions:
            self._send_on(self._order.let_go(batch.documents[position]))


def _batch_of(entry: Waiting) -> Batch:
    batch = Batch([entry.document], 0, 0.0, is_backlog=entry.is_backlog)
    if entry.number:
        batch.numbers.append(entry.number)
    return batch
