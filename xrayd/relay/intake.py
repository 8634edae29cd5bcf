"""What happens to a document on arrival: counted, named, put into the buffer or refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from xrayd.errors import DatagramError
from xrayd.relay.buffer import BATCH_OVERHEAD, DOCUMENT_OVERHEAD, Buffer
from xrayd.relay.datagram import find_noise, split
from xrayd.relay.ledger import Ledger
from xrayd.relay.segment import Head, Kind, kind_of, read_head

Hold = Callable[[bytes, Head | None, float], None]
"""Takes an accepted document, with what could be read of it, at a monotonic time."""

Sift = Callable[[Sequence[Head | None]], Hold]
"""Shown what could be read of the documents that came together; gives what takes them, one by one
and in that order.
"""

_TOGETHER_MAX = 1_000
"""Documents that are sifted together, at most: what is read of them is all in memory."""


class Intake:
    """The relay's front door.

    Args:
        ledger: where everything is counted.
        buffer: asked whether there is room.
        hold: takes the documents.
        on_refusal: told a reason and the datagrams refused for it, for a log line.
        read: reads a document.
        sift: takes the documents instead of `hold`, if there is one.
    """

    def __init__(
        self,
        ledger: Ledger,
        buffer: Buffer,
        hold: Hold,
        on_refusal: Callable[[str, Sequence[bytes]], None],
        *,
        read: Callable[[bytes], Head | None] = read_head,
        sift: Sift | None = None,
    ) -> None:
        self._ledger = ledger
        self._buffer = buffer
        self._hold = hold
        self._on_refusal = on_refusal
        self._read = read
        self._sift = sift

    def take_datagrams(
        self, documents: Sequence[bytes], others: Sequence[bytes], now: float
    ) -> None:
        """Take what the receiver read at `now` (monotonic seconds).

        `documents` come from datagrams whose header was one that SDKs write; `others` are whole
        datagrams.
        """
        self._ledger.received_udp += len(documents) + len(others)
        self._take(documents, now)
        if others:
            self._take(self._split(others), now)

    def take_posted(self, documents: Sequence[bytes], too_large: int, now: float) -> bool:
        """Take documents posted over TCP, all of them, or none where they do not fit.

        `too_large` more came with them that were refused for their size.
        """
        size = sum(len(document) + DOCUMENT_OVERHEAD for document in documents)
        if not self._buffer.has_room(size + BATCH_OVERHEAD):
            return False
        self._ledger.received_tcp += len(documents) + too_large
        if too_large:
            self._ledger.rejected["too_large"] += too_large
        self._take(documents, now)
        return True

    def _split(self, datagrams: Sequence[bytes]) -> list[bytes]:
        """The documents of datagrams; what has none is refused."""
        documents = []
        refused: defaultdict[str, list[bytes]] = defaultdict(list)
        for datagram in datagrams:
            reason: str | None = find_noise(datagram)
            if reason is None:
                try:
                    documents.append(split(datagram))
                    continue
                except DatagramError as error:
                    reason = error.reason
            refused[reason].append(datagram)
        for reason, of_a_kind in refused.items():
            self._ledger.rejected[reason] += len(of_a_kind)
            self._on_refusal(reason, of_a_kind)
        return documents

    def _take(self, documents: Sequence[bytes], now: float) -> None:
        for first in range(0, len(documents), _TOGETHER_MAX):
            together = documents[first : first + _TOGETHER_MAX]
            heads: Iterable[Head | None] = map(self._read, together)
            hold = self._hold
            if self._sift is not None:
                heads = list(heads)
                hold = self._sift(heads)
            segments = 0
            for document, head in zip(together, heads, strict=True):
                if head is not None and head.type == "":
                    segments += 1  # nearly all of them; counting each in its place took 0.2 µs
                else:
                    self._ledger.kinds[kind_of(document, head)] += 1
                hold(document, head, now)
            if segments:
                self._ledger.kinds[Kind.SEGMENT] += segments
