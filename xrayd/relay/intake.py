"""What happens to a document on arrival: counted, named, put into the buffer or refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from xrayd.errors import DatagramError
from xrayd.relay.buffer import BATCH_OVERHEAD, DOCUMENT_OVERHEAD, Buffer
from xrayd.relay.datagram import find_noise, split
from xrayd.relay.ledger import Ledger
from xrayd.relay.segment import Head, Kind, kind_of, read_head

Hold = Callable[[bytes, Head | None, float], None]
"""Takes an accepted document, with what could be read of it, at a monotonic time."""


class Intake:
    """The relay's front door.

    Args:
        ledger: where everything is counted.
        buffer: asked whether there is room.
        begin: gives what is to hold the documents that came at a monotonic time.
        on_refusal: told a reason and the datagrams refused for it, for a log line.
        read: reads a document.
    """

    def __init__(
        self,
        ledger: Ledger,
        buffer: Buffer,
        begin: Callable[[float], Hold],
        on_refusal: Callable[[str, Sequence[bytes]], None],
        read: Callable[[bytes], Head | None] = read_head,
    ) -> None:
        self._ledger = ledger
        self._buffer = buffer
        self._begin = begin
        self._on_refusal = on_refusal
        self._read = read

    def take_datagrams(
        self, documents: Sequence[bytes], others: Sequence[bytes], now: float
    ) -> None:
        """Take what the receiver read at `now` (monotonic seconds).

        `documents` come from datagrams whose header was one that SDKs write; `others` are whole
        datagrams.
        """
        self._ledger.received_udp += len(documents) + len(others)
        read, hold = self._read, self._begin(now)
        segments = 0
        for document in documents:
            head = read(document)
            if head is not None and head.type == "":
                segments += 1  # nearly all of them; counting each in its place took 0.2 µs
            else:
                self._ledger.kinds[kind_of(document, head)] += 1
            hold(document, head, now)
        if segments:
            self._ledger.kinds[Kind.SEGMENT] += segments
        if others:
            self._take_unusual(others, hold, now)

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
        hold = self._begin(now)
        for document in documents:
            self._take(document, hold, now)
        return True

    def _take_unusual(self, datagrams: Sequence[bytes], hold: Hold, now: float) -> None:
        take = self._take
        refused: defaultdict[str, list[bytes]] = defaultdict(list)
        for datagram in datagrams:
            reason: str | None = find_noise(datagram)
            if reason is None:
                try:
                    take(split(datagram), hold, now)
                    continue
                except DatagramError as error:
                    reason = error.reason
            refused[reason].append(datagram)
        for reason, of_a_kind in refused.items():
            self._ledger.rejected[reason] += len(of_a_kind)
            self._on_refusal(reason, of_a_kind)

    def _take(self, document: bytes, hold: Hold, now: float) -> None:
        head = self._read(document)
        self._ledger.kinds[kind_of(document, head)] += 1
        hold(document, head, now)
