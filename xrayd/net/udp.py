"""Takes datagrams from the kernel: many per wake-up, as fast as a loop in Python can."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from xrayd.relay.datagram import COMPACT_HEADER, SPACED_HEADER

# One drain ends here so that senders get their turn and memory stays bounded; what is left stays
# in the kernel's buffer for the next.
_BYTES_MAX = 1024 * 1024
# So much where memory is filling: what is taken faster than it is sent only drives out what was
# taken before, at the cost of both.
_BYTES_MAX_CROWDED = 128 * 1024
# What a datagram counts beside its bytes, so that tiny ones are a few thousand at most.
_DATAGRAM_COST = 256
# Largest UDP payload is 65,507 bytes over IPv4 and 65,527 over IPv6.
_DATAGRAM_MAX = 65_536

# A pause between drains lets many datagrams share one wake-up, which is half of what a datagram
# costs at everyday rates. It must end before the kernel's buffer can fill: the 32 MiB that 16 MiB
# asked for become hold 14,000 datagrams of 1 KB, 20 ms at 700,000/s; the usual 212,992 bytes hold
# 92, which a sender writes in a fraction of a millisecond, so there only no pause will do, and more
# sockets (`sockets.add_siblings`).
_PAUSE_S = 0.020
_PAUSE_BUFFER = 16 * 1024 * 1024
_PAUSE_BUFFER_MIN = 1024 * 1024


def pause_for(granted: int) -> float:
    """Seconds the receiver may rest between drains with a granted receive buffer of bytes."""
    if granted < _PAUSE_BUFFER_MIN:
        return 0.0
    return _PAUSE_S * min(1.0, granted / _PAUSE_BUFFER)


class UdpReceiver:
    """Reads bound, non-blocking sockets until they are empty, rests, and reads again.

    Args:
        socks: the sockets of one port, which stay the caller's; several only without a pause.
        deliver: called with what each drain brought: the bodies of datagrams whose header is one
            that SDKs write, and the other datagrams whole.
        pause_s: rest between drains while datagrams keep coming; 0 for none.
        is_crowded: whether memory is filling, so that sending should get more turns.
    """

    def __init__(
        self,
        socks: Sequence[socket.socket],
        deliver: Callable[[list[bytes], list[bytes]], None],
        pause_s: float,
        is_crowded: Callable[[], bool],
    ) -> None:
        self._socks = socks
        self._deliver = deliver
        self._pause_s = pause_s
        self._is_crowded = is_crowded
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(_DATAGRAM_MAX)
        self._next: asyncio.Handle | None = None
        self.last_at = self._loop.time()

    def start(self) -> None:
        """Begin to read; what the kernel already holds is read at once."""
        for sock in self._socks:
            self._loop.add_reader(sock, self._wake, sock)

    def stop(self) -> None:
        """Stop reading. What the kernel holds stays there for `drain`."""
        for sock in self._socks:
            self._loop.remove_reader(sock)
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def drain(self) -> bool:
        """Deliver what the kernel holds, up to a bound; return whether there may be more."""
        more = False
        for sock in self._socks:
            more |= self._drain(sock)
        return more

    def _drain(self, sock: socket.socket) -> bool:
        documents, others, more = self._read(sock)
        if documents or others:
            self.last_at = self._loop.time()
            self._deliver(documents, others)
        return more

    def _wake(self, sock: socket.socket) -> None:
        if self._pause_s:
            self._loop.remove_reader(sock)
            self._cycle(sock)
        else:
            self._drain(sock)

    def _cycle(self, sock: socket.socket) -> None:
        before = self.last_at
        if self._drain(sock):
            self._next = self._loop.call_soon(self._cycle, sock)
        elif self.last_at != before:
            self._next = self._loop.call_later(self._pause_s, self._cycle, sock)
        else:
            self._next = None
            self._loop.add_reader(sock, self._wake, sock)

    def _read(self, sock: socket.socket) -> tuple[list[bytes], list[bytes], bool]:
        """Bodies behind usual headers, other datagrams, and whether there may be more.

        The usual headers are taken off while a datagram still lies in the buffer: one copy of a
        document instead of two.
        """
        documents: list[bytes] = []
        others: list[bytes] = []
        append = documents.append
        receive = sock.recv_into
        buffer = self._buffer
        begins = buffer.startswith
        view = memoryview(buffer)
        compact, spaced = len(COMPACT_HEADER), len(SPACED_HEADER)
        room = _BYTES_MAX_CROWDED if self._is_crowded() else _BYTES_MAX
        while room >= 0:
            try:
                size = receive(buffer)
            except OSError:
                # Empty; or ICMP errors and the like, which concern nobody here: nothing is ever
                # sent from here.
                return documents, others, False
            # Longer than its header, so that nothing of an earlier datagram is looked at.
            if size > compact and begins(COMPACT_HEADER):
                append(bytes(view[compact:size]))
            elif size > spaced and begins(SPACED_HEADER):
                append(bytes(view[spaced:size]))
            else:
                others.append(bytes(view[:size]))
            room -= size + _DATAGRAM_COST
        return documents, others, True
