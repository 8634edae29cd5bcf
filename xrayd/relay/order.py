"""Keeps a segment's own documents in their order: in progress first, complete behind it.

A complete document replaces the one in progress (AWS X-Ray Developer Guide, "in_progress"), so one
that is tried again must not arrive after it. While a document in progress is on its way, or on
disk only, those of the same id that follow wait. After a restart nobody knows yet which ids the
disk has: a document that may follow one of them is in doubt, and waits until it is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

import msgspec

from xrayd.relay.segment import Head, read_head

# Ids watched at once. Beyond it order is no longer kept, which X-Ray forgives.
_IDS_MAX = 50_000
# What an id costs, and what a document that waits costs beside its bytes, as measured.
_ID_COST = 360
_WAITING_COST = 142


class Place(Enum):
    """What is to happen to a document."""

    GO = "it may be sent"
    WAIT = "it waits, and is kept here"
    NO_ROOM = "it ought to wait, but too much waits already"


class Waiting(msgspec.Struct, gc=False):
    """A document that waits for another of its id.

    `number` is that of its arrival, or its sequence number in the spool where it `is_backlog`;
    `born` is when it arrived, in monotonic seconds.
    """

    document: bytes
    number: int
    is_unfinished: bool
    is_backlog: bool = False
    born: float = 0.0


class Line(msgspec.Struct):
    """The documents of one id that wait, and those in progress that are waited for.

    Of the latter one may be on its way, `on_disk` are on disk only, and where it `is_in_doubt` the
    disk may have others.
    """

    is_on_its_way: bool = False
    is_in_doubt: bool = False
    on_disk: int = 0
    behind: list[Waiting] = msgspec.field(default_factory=list)

    @property
    def waits_for_disk(self) -> bool:
        """Whether what arrived may not go before something the disk has, or may have."""
        return self.on_disk > 0 or self.is_in_doubt


class Order:
    """Documents in progress that have no outcome yet, and who waits for them.

    `ids` has those documents' ids.

    Args:
        bytes_max: of memory for all this; what there is no room for does not wait.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.ids: dict[str, Line] = {}
        self.documents = 0
        self.bytes_held = 0

    def place(self, segment_id: str, entry: Waiting, *, is_in_doubt: bool = False) -> Place:
        """Find out what is to happen to a document that arrives.

        It `is_in_doubt` where the disk may have one in progress that nobody has seen yet.
        """
        line = self.ids.get(segment_id)
        if line is None and not is_in_doubt:
            self._begin(segment_id, entry)
            return Place.GO
        size = len(entry.document) + _WAITING_COST + (_ID_COST if line is None else 0)
        if self.bytes_held + size > self._bytes_max:
            return Place.NO_ROOM
        if line is None:
            line = self._add(segment_id, Line(is_in_doubt=True))
        self._keep(line, entry, len(line.behind))
        return Place.WAIT

    def let_go(self, document: bytes) -> Iterator[Waiting]:
        """A document has left; yield those that waited for it and may go now."""
        head = read_head(document)
        line = self.ids.get(head.id) if head is not None and head.in_progress else None
        if head is not None and line is not None:
            line.is_on_its_way = False
            yield from self._advance(head.id, line)

    def go_to_disk(self, documents: Iterable[bytes]) -> None:
        """Only the disk has these from now on; who waits for them goes on waiting."""
        for document in documents if self.ids else ():
            head = read_head(document)
            line = self.ids.get(head.id) if head is not None and head.in_progress else None
            if line is not None:
                line.on_disk += 1
                line.is_on_its_way = False

    def come_back(self, head: Head, entry: Waiting) -> Sequence[Waiting]:
        """A document was read from the disk; return which ones may go: it, others too, or none."""
        line = self.ids.get(head.id)
        if line is None:
            self._begin(head.id, entry)
            return [entry]
        if entry.is_unfinished:
            line.on_disk = max(0, line.on_disk - 1)
        # Before all that arrived while it was on disk.
        self._keep(line, entry, sum(other.is_backlog for other in line.behind))
        return self._advance_all([(head.id, line)])

    def forget_disk(self) -> Sequence[Waiting]:
        """The disk has nothing left to give; return those that waited for what it had."""
        waiting = [(key, line) for key, line in self.ids.items() if line.on_disk]
        for _, line in waiting:
            line.on_disk = 0
        return self._advance_all(waiting)

    def end_doubt(self) -> Sequence[Waiting]:
        """All that the disk had has been seen; return those that waited for no more than that."""
        waiting = [(key, line) for key, line in self.ids.items() if line.is_in_doubt]
        for _, line in waiting:
            line.is_in_doubt = False
        return self._advance_all(waiting)

    def clear(self) -> Sequence[Waiting]:
        """Forget everything; return all that waited."""
        entries = [entry for line in self.ids.values() for entry in line.behind]
        self.ids.clear()
        self.documents = self.bytes_held = 0
        return entries

    def _begin(self, segment_id: str, entry: Waiting) -> None:
        has_room = len(self.ids) < _IDS_MAX and self.bytes_held + _ID_COST <= self._bytes_max
        if entry.is_unfinished and has_room:
            self._add(segment_id, Line(is_on_its_way=True))

    def _add(self, segment_id: str, line: Line) -> Line:
        self.ids[segment_id] = line
        self.bytes_held += _ID_COST
        return line

    def _keep(self, line: Line, entry: Waiting, position: int) -> None:
        line.behind.insert(position, entry)
        self.documents += 1
        self.bytes_held += len(entry.document) + _WAITING_COST

    def _advance_all(self, lines: Iterable[tuple[str, Line]]) -> list[Waiting]:
        """Who may go, of the lines of which none is on its way."""
        return [
            entry
            for segment_id, line in lines
            if not line.is_on_its_way
            for entry in self._advance(segment_id, line)
        ]

    def _advance(self, segment_id: str, line: Line) -> Iterator[Waiting]:
        """Yield who may go, up to the next one in progress or what is still on disk."""
        while line.behind and (not line.waits_for_disk or line.behind[0].is_backlog):
            entry = line.behind.pop(0)
            self.documents -= 1
            self.bytes_held -= len(entry.document) + _WAITING_COST
            line.is_on_its_way = entry.is_unfinished
            yield entry
            if line.is_on_its_way:
                return
        if not line.behind and not line.on_disk and self.ids.pop(segment_id, None) is not None:
            self.bytes_held -= _ID_COST
