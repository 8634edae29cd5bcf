"""Takes datagrams from the kernel: many per wake-up, as fast as a loop in Python can."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from xrayd.relay.datagram import COMPACT_HEADER, SPACED_HEADER

# One drain ends here so that senders get their turn and memory stays bounded; what is left stays
# in the kernel's buffer for the next.
_BYTES_MAX = 1024 * 1024
# What a datagram counts beside its bytes, so that tiny ones are a few thousand at most.
_DATAGRAM_COST = 256
# So many datagrams in one drain are a burst; it is over when the socket was found empty so often.
_BURST_MIN = 8
_BURST_MISSES = 60
# Largest UDP payload is 65,507 bytes over IPv4 and 65,527 over IPv6.
_DATAGRAM_MAX = 65_536

# A pause between drains lets many datagrams share one wake-up, which is half of what a datagram
# costs at everyday rates. It must end before the kernel's buffer can fill: the 32 MiB that 16 MiB
# asked for become hold 14,000 datagrams of 1 KB, 20 ms at 700,000/s; the usual 212,992 bytes hold
# 92, which a sender writes in a fraction of a millisecond, so there only no pause will do.
_PAUSE_S = 0.020
_PAUSE_BUFFER = 16 * 1024 * 1024
_PAUSE_BUFFER_MIN = 1024 * 1024


def pause_for(granted: int) -> float:
    """Seconds the receiver may rest between drains with a granted receive buffer of bytes."""
    if granted < _PAUSE_BUFFER_MIN:
        return 0.0
    return _PAUSE_S * min(1.0, granted / _PAUSE_BUFFER)


class UdpReceiver:
    """Reads a bound, non-blocking socket until it is empty, rests, and reads again.

    Args:
        sock: the socket, which stays the caller's.
        deliver: called with what each drain brought: the bodies of datagrams whose header is one
            that SDKs write, and the other datagrams whole.
        pause_s: rest between drains while datagrams keep coming; 0 for none.
    """

    def __init__(
        self,
        sock: socket.socket,
        deliver: Callable[[list[bytes], list[bytes]], None],
        pause_s: float,
    ) -> None:
        self._sock = sock
        self._deliver = deliver
        self._pause_s = pause_s
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(_DATAGRAM_MAX)
        self._next: asyncio.Handle | None = None
        self.last_at = self._loop.time()

    def start(self) -> None:
        """Begin to read; what the kernel already holds is read at once."""
        self._loop.add_reader(self._sock, self._wake)

    def stop(self) -> None:
        """Stop reading. What the kernel holds stays there for `drain`."""
        self._loop.remove_reader(self._sock)
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def drain(self) -> bool:
        """Deliver what the kernel holds, up to a bound; return whether there may be more."""
        documents, others, more = self._read()
        if documents or others:
            self.last_at = self._loop.time()
            self._deliver(documents, others)
        return more

    def _wake(self) -> None:
        if self._pause_s:
            self._loop.remove_reader(self._sock)
            self._cycle()
        else:
            self.drain()

    def _cycle(self) -> None:
        before = self.last_at
        if self.drain():
            self._next = self._loop.call_soon(self._cycle)
        elif self.last_at != before:
            self._next = self._loop.call_later(self._pause_s, self._cycle)
        else:
            self._next = None
            self._loop.add_reader(self._sock, self._wake)

    def _read(self) -> tuple[list[bytes], list[bytes], bool]:
        """Bodies behind usual headers, other datagrams, and whether there may be more.

        The usual headers are taken off while a datagram still lies in the buffer: one copy of a
        document instead of two.
        """
        documents: list[bytes] = []
        others: list[bytes] = []
        append = documents.append
        receive = self._sock.recv_into
        buffer = self._buffer
        begins = buffer.startswith
        view = memoryview(buffer)
        compact, spaced = len(COMPACT_HEADER), len(SPACED_HEADER)
        room = _BYTES_MAX
        misses = 0
        while room >= 0:
            try:
                size = receive(buffer)
            except BlockingIOError:
                misses += 1
                # A small buffer overflows while we look at what came out of it, so while a burst
                # lasts nothing is looked at.
                if self._pause_s or len(documents) < _BURST_MIN or misses > _BURST_MISSES:
                    return documents, others, False
                continue
            except OSError:
                # ICMP errors and the like concern nobody here: nothing is ever sent from here.
                return documents, others, False
            misses = 0
            # Longer than its header, so that nothing of an earlier datagram is looked at.
            if size > compact and begins(COMPACT_HEADER):
                append(bytes(view[compact:size]))
            elif size > spaced and begins(SPACED_HEADER):
                append(bytes(view[spaced:size]))
            else:
                others.append(bytes(view[:size]))
            room -= size + _DATAGRAM_COST
        return documents, others, True
