"""Takes datagrams from the kernel: many per wake-up, as fast as a loop in Python can."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from xrayd.net.port import Address, UdpPort
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
# sockets (`port.add_siblings`).
_PAUSE_S = 0.020
_PAUSE_BUFFER = 16 * 1024 * 1024
_PAUSE_BUFFER_MIN = 1024 * 1024

# Where a MiB came within so short a time, and that is more than can be read or held, it is noted
# who sends the next bytes, so many of them, and who sends a part in so many is set apart ...
_FLOOD_S = 0.1
_NOTED = 128 * 1024
_SHARE = 8
# ... read this often while it lasts, which is until it could be read to the end for a second.
_APART_PAUSE_S = 0.002
_CALM_S = 1.0


@dataclass
class _Apart:
    """A sender's own socket, and when it was last seen with more than could be read."""

    sock: socket.socket
    busy_at: float


def pause_for(granted: int) -> float:
    """Seconds the receiver may rest between drains with a granted receive buffer of bytes."""
    if granted < _PAUSE_BUFFER_MIN:
        return 0.0
    return _PAUSE_S * min(1.0, granted / _PAUSE_BUFFER)


class Deliver(Protocol):
    """Takes what a drain brought."""

    def __call__(self, documents: list[bytes], others: list[bytes], *, is_flood: bool) -> None:
        """As in `UdpReceiver`."""


class UdpReceiver:
    """Reads a port's sockets until they are empty, rests, and reads again.

    A sender that floods the port is set apart (`UdpPort.set_apart`) and read behind all others, so
    that what it sends costs nobody else a datagram in the kernel's buffer.

    Args:
        port: the sockets.
        deliver: called with what each drain brought: the bodies of datagrams whose header is one
            that SDKs write, the other datagrams whole, and whether a sender who floods sent them.
        is_crowded: whether memory is filling, so that sending should get more turns.
        room: bytes that may be taken of senders who flood without giving up what is held; where
            there are none, these are read slowly.
        on_flood: told a sender that is set apart.
    """

    def __init__(
        self,
        port: UdpPort,
        deliver: Deliver,
        *,
        is_crowded: Callable[[], bool],
        room: Callable[[], int],
        on_flood: Callable[[Address], None],
    ) -> None:
        self._port = port
        self._deliver = deliver
        self._pause_s = pause_for(port.each)
        self._is_crowded = is_crowded
        self._room = room
        self._on_flood = on_flood
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(_DATAGRAM_MAX)
        self._next: asyncio.Handle | None = None
        self._next_apart: asyncio.Handle | None = None
        self._counted, self._counted_from = 0, 0.0
        self._senders: Counter[Address] | None = None  # while it is noted who sends how much
        self._apart: dict[Address, _Apart] = {}
        self.last_at = self._loop.time()

    def start(self) -> None:
        """Begin to read; what the kernel already holds is read at once."""
        for sock in self._port.socks:
            self._loop.add_reader(sock, self._wake, sock)

    def stop(self) -> None:
        """Stop reading. What the kernel holds stays there for `drain`."""
        for sock in self._port.socks:
            self._loop.remove_reader(sock)
        for handle in filter(None, (self._next, self._next_apart)):
            handle.cancel()
        self._next = self._next_apart = None

    def drain(self) -> bool:
        """Deliver what the kernel holds, up to a bound; return whether there may be more."""
        more = False
        for sock in self._port.socks:
            more |= self._drain(sock, _BYTES_MAX) > _BYTES_MAX
        for apart in self._apart.values():
            more |= self._drain(apart.sock, _BYTES_MAX, is_flood=True) > _BYTES_MAX
        return more

    def _wake(self, sock: socket.socket) -> None:
        if self._pause_s:
            self._loop.remove_reader(sock)
            self._cycle(sock)
        else:
            self._drain_shared(sock)

    def _cycle(self, sock: socket.socket) -> None:
        before = self.last_at
        if self._drain_shared(sock):
            self._next = self._loop.call_soon(self._cycle, sock)
        elif self.last_at != before:
            self._next = self._loop.call_later(self._pause_s, self._cycle, sock)
        else:
            self._next = None
            self._loop.add_reader(sock, self._wake, sock)

    def _drain_port(self) -> bool:
        """Drain all that is not set apart; whether there may be more."""
        more = False
        for sock in self._port.socks:
            more |= self._drain_shared(sock)
        return more

    def _drain_shared(self, sock: socket.socket) -> bool:
        """Drain a socket that all senders share, and look out for floods."""
        size_max = _BYTES_MAX_CROWDED if self._is_crowded() else _BYTES_MAX
        size = self._drain(sock, size_max)
        if self.last_at - self._counted_from > _FLOOD_S:
            self._counted_from, self._counted = self.last_at, 0
        self._counted += size
        is_much = self._counted > _BYTES_MAX
        if self._senders is not None and self._senders.total() >= _NOTED:
            self._set_apart()
        elif not is_much or not (self._port.is_filling() or self._room() < _BYTES_MAX):
            self._senders = None
        elif self._senders is None:
            self._senders = Counter()
        return size > size_max

    def _set_apart(self) -> None:
        """Give those who sent much of what was noted sockets of their own."""
        senders, self._senders = self._senders or Counter(), None
        for sender, sent in senders.items():
            if sent * _SHARE >= senders.total() and (sock := self._port.set_apart(sender)):
                self._apart[sender] = _Apart(sock, self._loop.time())
                self._on_flood(sender)
        if self._apart and self._next_apart is None:
            self._next_apart = self._loop.call_soon(self._read_apart)

    def _read_apart(self) -> None:
        """Read what is set apart, behind all the rest: its senders' earlier datagrams are there."""
        others_wait = self._drain_port()
        more = others_wait
        now = self._loop.time()
        room = self._room()
        size_max = min(_BYTES_MAX, room) if room > 0 else _BYTES_MAX_CROWDED
        size_max //= max(1, len(self._apart))
        for sender, apart in tuple(self._apart.items()):
            if others_wait:
                apart.busy_at = now
            elif self._drain(apart.sock, size_max, is_flood=True) > size_max:
                apart.busy_at = now
                more = room > 0
            elif now - apart.busy_at > _CALM_S:
                self._rejoin(sender, apart.sock)
        if more:
            self._next_apart = self._loop.call_soon(self._read_apart)
        elif self._apart:
            pause_s = _APART_PAUSE_S if room > 0 else _PAUSE_S
            self._next_apart = self._loop.call_later(pause_s, self._read_apart)
        else:
            self._next_apart = None

    def _rejoin(self, sender: Address, sock: socket.socket) -> None:
        self._port.rejoin(sender)
        while self._drain(sock, _BYTES_MAX, is_flood=True):
            pass
        self._port.close_apart(sender)
        del self._apart[sender]

    def _drain(self, sock: socket.socket, size_max: int, *, is_flood: bool = False) -> int:
        """Deliver what a socket holds; how much that was, more than `size_max` if not all of it."""
        documents, others, size = self._read(sock, size_max)
        if size:
            self.last_at = self._loop.time()
            self._deliver(documents, others, is_flood=is_flood)
        return size

    def _read(self, sock: socket.socket, size_max: int) -> tuple[list[bytes], list[bytes], int]:
        """Bodies behind usual headers, other datagrams, and the size of all, as in `_drain`.

        The usual headers are taken off while a datagram still lies in the buffer: one copy of a
        document instead of two.
        """
        documents: list[bytes] = []
        others: list[bytes] = []
        append = documents.append
        receive = sock.recv_into if self._senders is None else partial(self._receive_noting, sock)
        buffer = self._buffer
        begins = buffer.startswith
        view = memoryview(buffer)
        compact, spaced = len(COMPACT_HEADER), len(SPACED_HEADER)
        total = 0
        while total <= size_max:
            try:
                size = receive(buffer)
            except OSError:
                # Empty; or ICMP errors and the like, which concern nobody here: nothing is ever
                # sent from here.
                break
            # Longer than its header, so that nothing of an earlier datagram is looked at.
            if size > compact and begins(COMPACT_HEADER):
                append(bytes(view[compact:size]))
            elif size > spaced and begins(SPACED_HEADER):
                append(bytes(view[spaced:size]))
            else:
                others.append(bytes(view[:size]))
            total += size + _DATAGRAM_COST
        return documents, others, total

    def _receive_noting(self, sock: socket.socket, buffer: bytearray) -> int:
        size, sender = sock.recvfrom_into(buffer)
        assert self._senders is not None
        self._senders[sender] += size + _DATAGRAM_COST
        return size
