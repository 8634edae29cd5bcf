"""What is on its way to the disk: numbered on arrival, handed over, and again where that failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xrayd.spool.worker import SpoolWorker, Stored

# Documents that the thread has yet to write, in bytes; what comes meanwhile is handed over later.
_UNSTORED_MAX = 8 * 1024 * 1024
# What is handed over at once of that which came too early, in bytes with something for each
# document: it is in memory twice while it is written, and one file has to hold it.
_LATE_MAX = 1024 * 1024
_LATE_COST = 256
# So many documents are remembered until they are on disk: one for every 800 bytes of memory, for
# the table costs a hundred bytes for each. While a disk fails, further ones stay in memory only.
_BYTES_PER_LACKING = 800


class Handover:
    """Hands documents to the spool's thread in the order of their arrival.

    While the disk takes nothing, or is far behind, documents wait here (memory has them all the
    same) and are handed over when it works again; so the spool's order stays that of arrival.

    Args:
        worker: the spool's thread.
        bytes_max: the budget of memory.
    """

    def __init__(self, worker: SpoolWorker, bytes_max: int) -> None:
        self._worker = worker
        self._next_number = 1
        self._first_arrived = self._last_handed = 0
        self._arrived: list[bytes] = []
        self._unstored = 0  # bytes that the thread has, and those that have arrived
        self._lacking: dict[int, bytes] = {}
        self._lacking_max = bytes_max // _BYTES_PER_LACKING
        self.is_behind = False

    def number(self, document: bytes) -> int:
        """Give a document its arrival number; `hand_over` must follow."""
        number = self._next_number
        self._next_number += 1
        if len(self._lacking) < self._lacking_max:
            self._lacking[number] = document
        if self.is_behind:
            return number
        if self._unstored >= _UNSTORED_MAX:
            self.hand_over()
            self.is_behind = True
            return number
        if not self._arrived:
            self._first_arrived = number
        self._arrived.append(document)
        self._unstored += len(document)
        return number

    def hand_over(self) -> None:
        """Let the thread write what has arrived since the last time."""
        if self._arrived:
            first = self._first_arrived
            numbers = range(first, first + len(self._arrived))
            self._last_handed = numbers[-1]
            self._worker.append(numbers, self._arrived)
            self._arrived = []

    def forget(self, numbers: Iterable[int]) -> None:
        """Memory has let go of documents: what the disk has of them now is all it will get."""
        for number in numbers:
            self._lacking.pop(number, None)

    def settle(self, numbers: Iterable[int]) -> None:
        """Documents have their outcome: the disk need not keep them, nor get them any more."""
        self.forget(numbers)
        # Of what the thread was never handed it need not hear, for while its disk hangs it does not
        # listen, and all it is told piles up.
        handed = [number for number in numbers if number <= self._last_handed]
        if handed:
            self._worker.acknowledge(handed)

    def note(self, event: Stored) -> None:
        """The thread has dealt with what it was handed."""
        self._unstored -= event.size
        if event.is_written:
            self.forget(event.numbers)
            if self.is_behind:
                self.catch_up()
        else:
            self.is_behind = True

    def catch_up(self) -> None:
        """Hand over some of what came while the disk took nothing, once the thread is idle."""
        if not self.is_behind or self._unstored:
            return
        part = next(self._parts(self._lacking), None)
        if part is not None:
            self._hand_over_late(part)
        else:
            self.is_behind = False

    def hand_over_rest(self) -> None:
        """Hand over all there is, for memory is about to end."""
        self.hand_over()
        if self.is_behind:
            for part in self._parts([n for n in self._lacking if n > self._last_handed]):
                self._hand_over_late(part)

    def _parts(self, numbers: Iterable[int]) -> Iterator[list[int]]:
        """Numbers of documents that are lacking, as many at a time as are handed over at once."""
        part: list[int] = []
        size = 0
        for number in numbers:
            size += len(self._lacking[number]) + _LATE_COST
            if part and size > _LATE_MAX:
                yield part
                part, size = [], len(self._lacking[number]) + _LATE_COST
            part.append(number)
        if part:
            yield part

    def _hand_over_late(self, numbers: list[int]) -> None:
        self._last_handed = numbers[-1]
        documents = [self._lacking[number] for number in numbers]
        self._unstored += sum(map(len, documents))
        self._worker.append(numbers, documents)
