"""Who has each document: memory, the disk, or both; and what that means when one lets go.

Memory is the buffer. With a spool, every document is also written to disk behind the loop's back;
what memory lets go of for lack of room is then backlog instead of lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from xrayd.relay.buffer import DOCUMENTS_MAX, Batch, Buffer
from xrayd.relay.ledger import Ledger, Spill
from xrayd.relay.order import Order, Place, Waiting
from xrayd.relay.segment import Head, read_head, read_start
from xrayd.spool.handover import Handover
from xrayd.spool.report import Figures, Record
from xrayd.spool.worker import Backlog, Event, Lost, Shown, SpoolWorker, Stored

# Batches read back ahead of their sending.
_BACKLOG_AHEAD = 4
# One part in so many is kept from senders who flood, for the others.
_OTHERS_SHARE = 16


class Found(NamedTuple):
    """What a spool held at start.

    `came_before` is when this process took over, in epoch seconds.
    """

    documents: int
    next_seq: int
    came_before: float


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
        self._order = Order(buffer.bytes_max // 4)
        self._worker: SpoolWorker | None = None
        self._handover: Handover | None = None
        self._unseen: Found | None = None
        self._released: list[Batch] = []
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

    def room_for_floods(self) -> int:
        """Bytes that senders who flood may fill now, without anything being given up for them."""
        if self.figures is not None and self._disk_takes_all:
            held, most = self.figures.bytes_on_disk, self.figures.bytes_max
        else:
            held, most = self._buffer.bytes_held, self._buffer.bytes_max
        return most - most // _OTHERS_SHARE - held

    def attach(self, worker: SpoolWorker, found: Found, on_backlog: Callable[[], None]) -> None:
        """Write to a spool from now on, in which something was found.

        `on_backlog` is called when some of it was read back.
        """
        self._worker = worker
        self._handover = Handover(worker, self._buffer.bytes_max)
        if found.documents:
            self._unseen = found
        self._on_backlog = on_backlog
        self.spooled = self._ledger.recovered = found.documents
        worker.start()

    def take(
        self, document: bytes, head: Head | None, now: float, *, is_flood: bool = False
    ) -> None:
        """Take a document that was accepted; `commit` must follow.

        `is_flood` says that its sender is one who floods.
        """
        number = 0
        if self._handover is not None and not self._is_cleared:
            number = self._handover.number(document)
        is_unfinished = False
        ids = self._order.ids
        if head is not None and (head.in_progress or (ids and head.id in ids) or self._unseen):
            is_unfinished = head.in_progress
            place = self._place(head.id, Waiting(document, number, is_unfinished, born=now))
            if place is not Place.GO:
                return
        for batch in self._buffer.append(
            document, now, number, is_unfinished=is_unfinished, is_flood=is_flood
        ):
            self._let_go(batch, Spill.MEMORY_FULL)

    def commit(self) -> None:
        """Hand what was taken to the disk."""
        if self._handover is None:
            return
        self._handover.hand_over()
        for batch in self._released:
            self._release(batch)
        self._released.clear()

    def expire(self, now: float) -> None:
        """Give up what is too old."""
        while expired := self._buffer.expire(now):  # and then who waited for it, and is old too
            for batch in expired:
                self._ledger.expired += len(batch.documents)
                self._acknowledge(batch, batch.numbers)
                self._follow(batch, range(len(batch.documents)))

    def clear(self) -> None:
        """Memory ends: what is queued goes to the disk alone, or is counted as spilled.

        Nothing is read back from then on.
        """
        self._is_cleared = True
        if self._handover is not None:
            self._handover.hand_over_rest()
        while self._buffer.queued:
            for batch in self._buffer.clear():
                self._let_go(batch, Spill.SHUTDOWN)
        for entry in self._order.clear():
            self._let_go(_batch_of(entry), Spill.SHUTDOWN)
        self._count_order()
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
                assert self._handover is not None
                self._handover.note(event)
            case Backlog() if self._is_cleared:
                self._reads -= 1
            case Backlog():
                self._reads -= 1
                if event.records:
                    self._take_back(event.records)
                    if self._unseen and event.records[-1].seq >= self._unseen.next_seq:
                        self._end_doubt()
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
                if event.figures.degraded is None and self._handover is not None:
                    self._handover.catch_up()
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
        return is_well and self._handover is not None and not self._handover.is_behind

    def _place(self, segment_id: str, entry: Waiting) -> Place:
        """Keep a document apart that must wait for others of its id; GO where it need not."""
        is_in_doubt = False
        if self._unseen is not None and segment_id:
            # Only what began before the restart can have a predecessor that came before it.
            begun_at = read_start(entry.document)
            is_in_doubt = begun_at is not None and begun_at < self._unseen.came_before
        place = self._order.place(segment_id, entry, is_in_doubt=is_in_doubt)
        if place is Place.NO_ROOM:
            if not self._disk_takes_all:
                return Place.GO
            self._let_go(_batch_of(entry), Spill.MEMORY_FULL)
        self._count_order()
        return place

    def _end_doubt(self) -> None:
        """All that was found in the spool at start is known by now."""
        if self._unseen is not None:
            self._unseen = None
            self._send_on(self._order.end_doubt())

    def _count_order(self) -> None:
        for batch in self._buffer.set_aside(self._order.bytes_held):
            self._let_go(batch, Spill.MEMORY_FULL)

    def _take_back(self, records: Sequence[Record]) -> None:
        """Queue documents read from the disk, those apart that wait for others of their id."""
        self.spooled -= len(records)
        go: list[Waiting] = []
        now, epoch_s = self._loop.time(), time.time()
        for record in records:
            head = read_head(record.document)
            is_unfinished = head is not None and head.in_progress
            born = now - max(0.0, epoch_s - record.received_at)
            entry = Waiting(record.document, record.seq, is_unfinished, is_backlog=True, born=born)
            if head is None or not (is_unfinished or head.id in self._order.ids):
                go.append(entry)
            else:
                go += self._order.come_back(head, entry)
        self._send_on(go)

    def _go_on(self) -> None:
        """What came back, or is lost, lets others go."""
        if self._is_dry or not self.spooled:
            self._end_doubt()
            self._send_on(self._order.forget_disk())
        self._on_backlog()

    def _send_on(self, entries: Iterable[Waiting]) -> None:
        """Queue documents that have waited long enough, on disk or for others of their id."""
        entries = list(entries)
        self._count_order()
        now = self._loop.time()
        old: list[Waiting] = []
        for entry in entries:
            if entry.is_backlog or not self._buffer.is_of_an_age(entry.born, now):
                old.append(entry)
                continue
            for spilled in self._buffer.append(
                entry.document, now, entry.number, is_unfinished=entry.is_unfinished
            ):
                self._let_go(spilled, Spill.MEMORY_FULL)
        for batch in self._batches(old):
            add = self._buffer.add_backlog if batch[0].is_backlog else self._buffer.add_old
            add(
                [entry.document for entry in batch],
                [entry.number for entry in batch if entry.number],
                batch[0].born,
                has_unfinished=any(entry.is_unfinished for entry in batch),
            )

    def _batches(self, entries: Iterable[Waiting]) -> Iterator[list[Waiting]]:
        """Put together what may be sent together and may expire together."""
        batch: list[Waiting] = []
        for entry in entries:
            if batch and not (
                len(batch) < DOCUMENTS_MAX
                and entry.is_backlog == batch[0].is_backlog
                and self._buffer.is_of_an_age(entry.born, batch[0].born)
            ):
                yield batch
                batch = []
            batch.append(entry)
        if batch:
            yield batch

    def _let_go(self, batch: Batch, reason: Spill) -> None:
        """Memory gives a batch up: to the disk where that has it, else it is lost."""
        if batch.numbers:
            self.spooled += len(batch.documents)
            self._released.append(batch)
            self._order.go_to_disk(batch.documents)
            if not batch.is_backlog and self._handover is not None:
                self._handover.forget(batch.numbers)
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
            assert self._handover is not None
            self._handover.settle(numbers)

    def _follow(self, batch: Batch, positions: Sequence[int]) -> None:
        """Those that waited for documents in progress may go now."""
        if not batch.has_unfinished:
            return
        followers = (self._order.let_go(batch.documents[position]) for position in positions)
        self._send_on(chain.from_iterable(followers))


def _batch_of(entry: Waiting) -> Batch:
    batch = Batch([entry.document], 0, 0.0, is_backlog=entry.is_backlog)
    if entry.number:
        batch.numbers.append(entry.number)
    return batch
