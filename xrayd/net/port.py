"""The UDP port as the kernel sees it: one or more sockets, and which of them gets what.

How the kernel chooses: among sockets of one address a connected one gets all that its peer sends;
among equals that share the port (SO_REUSEPORT) a program of ours decides. Source: udp4_lib_lookup
in linux/net/ipv4/udp.c, socket(7).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# linux/include/uapi/asm-generic/socket.h; the socket module does not name them.
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_SO_ATTACH_REUSEPORT_CBPF = 51
# Places in what SO_MEMINFO tells (linux/sock_diag.h).
_MEMINFO_QUEUED, _MEMINFO_BUFFER, _MEMINFO_DROPS, _MEMINFO_COUNT = 0, 1, 8, 9
# A receive buffer of so many bytes needs no help; more sockets than this would not be worth their
# memory in a small container.
_BUFFER_ENOUGH = 1024 * 1024
_SOCKETS_MAX = 16
# Senders that get a socket of their own at a time. The first has the buffer of the whole port, so
# that a burst finds as much room as it would have found there; each other has half the buffer of
# the one before, so that all together take at most twice the kernel's memory of the port.
_APART_MAX = 8

Address = Any
"""A sender as `socket.recvfrom` names it: host and port first."""


class _MemInfo(NamedTuple):
    queued: int
    """Bytes of kernel memory that waiting datagrams take."""
    buffer: int
    """How many they may take."""
    drops: int
    """Datagrams dropped so far because they did not fit."""


class UdpPort:
    """The sockets of a UDP port.

    Args:
        sock: bound and non-blocking; it stays the caller's.
        wanted: bytes of receive buffer to ask for.
    """

    def __init__(self, sock: socket.socket, wanted: int) -> None:
        self.each = ask_receive_buffer(sock, wanted)
        self._siblings = add_siblings(sock, self.each, wanted)
        self.socks = [sock, *self._siblings]
        self._apart: dict[Address, tuple[int, socket.socket]] = {}
        self._closed_drops = 0

    @property
    def granted(self) -> int:
        """Receive buffer of the port in bytes, in the measure of `ask_receive_buffer`."""
        return self.each * len(self.socks)

    @property
    def apart(self) -> int:
        """How many senders have a socket of their own."""
        return len(self._apart)

    def is_filling(self) -> bool:
        """Whether half of the receive buffer is taken: whoever reads it does not keep up."""
        infos = [_meminfo(sock) for sock in self.socks]
        return 2 * sum(info.queued for info in infos) >= sum(info.buffer for info in infos) > 0

    def set_apart(self, sender: Address) -> socket.socket | None:
        """Give a sender a socket, and so a receive buffer, of its own; None where it has one.

        All that it sends from now on arrives there. What it sent before is still in the port's
        other sockets, and is to be read first. None too where all are taken, or the system cannot.
        """
        if sender in self._apart or len(self._apart) == _APART_MAX or sys.platform != "linux":
            return None
        taken = {place for place, _ in self._apart.values()}
        place = min(set(range(_APART_MAX)) - taken)
        try:
            sock = self._connect(sender, self.granted >> place)
        except OSError:
            return None
        self._apart[sender] = place, sock
        return sock

    def rejoin(self, sender: Address) -> None:
        """What a sender that was set apart sends from now on arrives with all the rest again.

        What its socket holds stays there, to be read before `close_apart`.
        """
        _, sock = self._apart[sender]
        # To be connected to anybody else does; to ourselves, who never send, no datagram can come.
        sock.connect(sock.getsockname())

    def close_apart(self, sender: Address) -> None:
        """Close a sender's own socket."""
        _, sock = self._apart.pop(sender)
        self._closed_drops += _meminfo(sock).drops
        sock.close()

    def drops(self) -> int:
        """Datagrams the kernel dropped at this port because a receive buffer was full."""
        apart = [sock for _, sock in self._apart.values()]
        return self._closed_drops + sum(_meminfo(sock).drops for sock in [*self.socks, *apart])

    def close(self) -> None:
        """Close all but the caller's socket."""
        for sender in [*self._apart]:
            self.close_apart(sender)
        for sock in self._siblings:
            sock.close()

    def _connect(self, sender: Address, size: int) -> socket.socket:
        sock = _like(self.socks[0])
        try:
            ask_receive_buffer(sock, size)
            # Every socket of an address must allow another while that is bound; not any longer, for
            # the other could be anybody's. Unlike SO_REUSEPORT this also works beside a socket that
            # another user bound, such as systemd.
            with _shared([*self.socks, *(each for _, each in self._apart.values()), sock]):
                sock.bind(self.socks[0].getsockname())
            sock.connect(sender)
        except OSError:
            sock.close()
            raise
        return sock


@contextlib.contextmanager
def _shared(socks: Sequence[socket.socket]) -> Iterator[None]:
    try:
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield
    finally:
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def ask_receive_buffer(sock: socket.socket, wanted: int) -> int:
    """Ask for a receive buffer of `wanted` bytes; return what was granted, in the same measure.

    Forced past net.core.rmem_max where the process may (CAP_NET_ADMIN). The kernel doubles the
    number it is given and reports the double.
    """
    # What systemd granted when it bound the socket may be more than we could get.
    if wanted and sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 < wanted:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
        except OSError:
            _ask_for_less(sock, wanted)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def _ask_for_less(sock: socket.socket, wanted: int) -> None:
    # Linux cuts what is too much; macOS refuses it.
    while wanted:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        except OSError:
            wanted //= 2
        else:
            return


def add_siblings(sock: socket.socket, granted: int, wanted: int) -> list[socket.socket]:
    """Bind more sockets to a bound UDP socket's address, where its receive buffer is small.

    The kernel gives each datagram to one of them at random, so that all their buffers together
    take a train: an unprivileged process cannot have a larger one (net.core.rmem_max), and 212,992
    bytes are full of 92 documents of 1 KB before a waiting process was even woken. Sizes are in
    bytes, `granted` and `wanted` for one socket as in `ask_receive_buffer`. Empty where that is
    enough already, or the kernel knows no such thing (Linux does).

    The first socket was bound alone, so that a port that is taken is still noticed.
    """
    if granted >= _BUFFER_ENOUGH or sys.platform != "linux":
        return []
    count = min(_SOCKETS_MAX, -(-wanted // granted)) if wanted else _SOCKETS_MAX
    siblings: list[socket.socket] = []
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(count - 1):
            sibling = _like(sock)
            siblings.append(sibling)
            sibling.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            ask_receive_buffer(sibling, wanted)
            sibling.bind(sock.getsockname())
        if siblings:
            _spread(sock, count)
    except OSError:
        for sibling in siblings:
            sibling.close()
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        return []
    return siblings


def _spread(sock: socket.socket, count: int) -> None:
    """Have the kernel choose among `count` sockets of a port at random, for each datagram.

    Without a choice of ours it is the sender's port that decides, and a process sends from one.
    Source: linux/filter.h: load a random word, modulo, return it.
    """
    steps = ((0x20, 0xFFFF_F000 + 56), (0x94, count), (0x16, 0))
    program = array("B", b"".join(struct.pack("HBBI", code, 0, 0, k) for code, k in steps))
    address, _ = program.buffer_info()
    described = struct.pack("HP", len(steps), address)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, described)


def _like(sock: socket.socket) -> socket.socket:
    """A new socket that can be bound to the same address."""
    another = socket.socket(sock.family, sock.type)
    if sock.family == socket.AF_INET6:
        only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        another.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    another.setblocking(False)
    return another


def _meminfo(sock: socket.socket) -> _MemInfo:
    """What the kernel's buffer of a socket holds; zeros where it does not tell (Linux does)."""
    size = 4 * _MEMINFO_COUNT
    try:
        words = memoryview(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, size)).cast("I")
        return _MemInfo(words[_MEMINFO_QUEUED], words[_MEMINFO_BUFFER], words[_MEMINFO_DROPS])
    except (OSError, IndexError):
        return _MemInfo(0, 0, 0)
