"""Keeps a segment's own documents in their order: in progress first, complete behind it.

A complete document replaces the one in progress (AWS X-Ray Developer Guide, "in_progress"), so one
that is tried again must not arrive after it. While a document in progress is on its way, those
of the same id that follow wait.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from xrayd.relay.segment import read_head

# Ids watched at once. Beyond it order is no longer kept, which X-Ray forgives.
_IDS_MAX = 50_000


class Waiting(msgspec.Struct, gc=False):
    """A document that waits for another of its id, and its arrival number."""

    document: bytes
    number: int
    is_unfinished: bool


class Order:
    """Documents in progress that have no outcome yet, and who waits for them.

    `ids` has those documents' ids, each with who waits for it.

    Args:
        bytes_max: of documents that wait; more than that do not.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.ids: dict[str, list[Waiting]] = {}
        self.documents = 0
        self.bytes_held = 0

    def must_wait(self, segment_id: str, entry: Waiting) -> bool:
        """Whether a document has to wait; it is kept here if so."""
        behind = self.ids.get(segment_id)
        if behind is None:
            if entry.is_unfinished and len(self.ids) < _IDS_MAX:
                self.ids[segment_id] = []
            return False
        if self.bytes_held + len(entry.document) > self._bytes_max:
            return False
        behind.append(entry)
        self.documents += 1
        self.bytes_held += len(entry.document)
        return True

    def let_go(self, document: bytes) -> Iterator[Waiting]:
        """A document has left; yield those that waited for it and may go now."""
        head = read_head(document)
        if head is None or not head.in_progress:
            return
        behind = self.ids.pop(head.id, None)
        while behind:
            entry = behind.pop(0)
            self.documents -= 1
            self.bytes_held -= len(entry.document)
            if entry.is_unfinished:
                self.ids[head.id] = behind
                yield entry
                return
            yield entry
