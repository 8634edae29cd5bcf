"""The UDP port's sockets, and that a sender who floods it is read behind all others."""

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from xrayd.net.port import UdpPort
from xrayd.net.sockets import bind
from xrayd.net.udp import UdpReceiver

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux says how full a socket is and what it dropped"
)

PATIENCE_S = 20.0
ENOUGH = 4 * 1024 * 1024
"""Of receive buffer for more than twice what one drain reads."""


def open_port(address: str = "127.0.0.1:0", wanted: int = 1024 * 1024) -> UdpPort:
    return UdpPort(bind(address, socket.SOCK_DGRAM, "-b"), wanted)


def close_port(port: UdpPort) -> None:
    port.close()
    port.socks[0].close()


def sender_to(port: UdpPort) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", port.socks[0].getsockname()[1]))
    return sock


def read_all(*socks: socket.socket) -> list[bytes]:
    read = []
    for sock in socks:
        try:
            while True:
                read.append(sock.recv(65_536))
        except BlockingIOError:
            pass
    return read


def name_of(port: UdpPort, sock: socket.socket) -> object:
    """A sender as the port knows it."""
    sock.send(b"who am I")
    for each in port.socks:
        try:
            return each.recvfrom(100)[1]
        except BlockingIOError:
            pass
    raise AssertionError("the datagram did not arrive")


@pytest.mark.parametrize("wanted", [1024 * 1024, 0], ids=["one socket", "sixteen"])
@pytest.mark.parametrize("address", ["127.0.0.1:0", "0.0.0.0:0", ":0"])
def test_a_sender_set_apart_has_a_socket_of_its_own_until_it_rejoins(
    address: str, wanted: int
) -> None:
    port = open_port(address, wanted)
    noisy, quiet = sender_to(port), sender_to(port)
    name = name_of(port, noisy)
    noisy.send(b"before")
    own = port.set_apart(name)
    assert own is not None
    assert port.set_apart(name) is None
    assert port.apart == 1
    noisy.send(b"apart")
    quiet.send(b"quiet")
    assert sorted(read_all(*port.socks)) == [b"before", b"quiet"]
    assert read_all(own) == [b"apart"]

    noisy.send(b"still apart")
    port.rejoin(name)
    noisy.send(b"again")
    assert read_all(own) == [b"still apart"]
    assert read_all(*port.socks) == [b"again"]
    port.close_apart(name)
    assert port.apart == 0
    for sock in (noisy, quiet):
        sock.close()
    close_port(port)


def test_what_is_dropped_apart_stays_counted_when_it_is_closed() -> None:
    port = open_port()
    noisy = sender_to(port)
    name = name_of(port, noisy)
    own = port.set_apart(name)
    assert own is not None
    sent = 0
    while port.drops() < 10:
        noisy.send(b"x" * 8000)
        sent += 1
    assert not port.is_filling()
    drops = port.drops()
    assert len(read_all(own)) == sent - drops
    port.rejoin(name)
    port.close_apart(name)
    assert port.drops() == drops
    noisy.close()
    close_port(port)


def test_nobody_else_can_bind_the_port_once_a_sender_is_set_apart() -> None:
    port = open_port()
    noisy = sender_to(port)
    assert port.set_apart(name_of(port, noisy)) is not None
    thief = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with pytest.raises(OSError, match="in use"):
        thief.bind(port.socks[0].getsockname())
    for sock in (noisy, thief):
        sock.close()
    close_port(port)


def test_no_more_senders_are_set_apart_than_the_kernel_should_have_memory_for() -> None:
    port = open_port()
    senders = [sender_to(port) for _ in range(12)]
    own = [port.set_apart(name_of(port, sender)) for sender in senders]
    opened = [sock for sock in own if sock is not None]
    assert len(opened) == port.apart == 8
    buffers = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for sock in opened]
    assert buffers[0] <= port.socks[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert buffers == sorted(buffers, reverse=True)
    assert len(set(buffers)) > 1
    for sender in senders:
        sender.close()
    close_port(port)


class Scene:
    """A receiver of a port that one sender has filled before the first datagram is read.

    Datagrams are a letter, by sender, and a rising number.
    """

    def __init__(self) -> None:
        self.port = open_port(wanted=ENOUGH)
        if self.port.each < ENOUGH:
            pytest.skip(f"the kernel grants a receive buffer of {self.port.each} bytes only")
        self.noisy, self.quiet = sender_to(self.port), sender_to(self.port)
        self.sent = {b"n": 0, b"q": 0}
        self.seen: dict[bytes, list[int]] = {b"n": [], b"q": []}
        self.room = 1 << 30
        self.floods: list[object] = []
        self.largest_of_flood = 0
        self.each_time: Callable[[], None] = lambda: None
        self.receiver = UdpReceiver(
            self.port,
            self.take,
            is_crowded=lambda: False,
            room=lambda: self.room,
            on_flood=self.floods.append,
        )

    def send(self, who: bytes, count: int) -> None:
        sock = self.noisy if who == b"n" else self.quiet
        for _ in range(count):
            sock.send(b"%s %d" % (who, self.sent[who]))
            self.sent[who] += 1

    def fill(self) -> None:
        while not self.port.drops():
            self.send(b"n", 100)

    def take(self, documents: list[bytes], others: list[bytes], *, is_flood: bool) -> None:
        assert documents == []
        for datagram in others:
            who, number = datagram.split()
            self.seen[who].append(int(number))
            assert who == b"n" or not is_flood
        if is_flood:
            self.largest_of_flood = max(self.largest_of_flood, len(others))
        self.each_time()

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)

    @property
    def received(self) -> int:
        return sum(map(len, self.seen.values()))

    def settle(self) -> None:
        """Everything sent is received or dropped, and the quiet one lost nothing."""
        self.receiver.stop()
        while self.receiver.drain():
            pass
        assert self.received + self.port.drops() == sum(self.sent.values())
        assert self.seen[b"q"] == [*range(self.sent[b"q"])]
        assert self.seen[b"n"] == sorted(self.seen[b"n"])

    def close(self) -> None:
        for sock in (self.noisy, self.quiet):
            sock.close()
        close_port(self.port)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_a_flood_costs_nobody_else_a_datagram_and_keeps_its_order(runner: asyncio.Runner) -> None:
    """A port's worth of it before each drain, which is more than a drain reads."""

    async def scenario() -> None:
        scene = Scene()
        scene.fill()
        turns = 0

        def go_on() -> None:
            nonlocal turns
            turns += 1
            if turns <= 100:
                scene.send(b"q", 1)
                scene.send(b"n", 3000)

        scene.each_time = go_on
        scene.receiver.start()
        await scene.until(lambda: turns > 100)
        assert scene.floods == [scene.noisy.getsockname()]
        assert scene.port.drops() > 0
        # It calms down, and is one of many again: nothing of what it still sends is lost.
        drops = scene.port.drops()
        await scene.until(lambda: scene.port.apart == 0)
        scene.send(b"n", 50)
        await scene.until(lambda: scene.seen[b"n"][-1] == scene.sent[b"n"] - 1)
        assert scene.port.drops() == drops
        scene.settle()
        scene.close()

    runner.run(scenario())


def test_a_flood_is_read_slowly_where_there_is_no_room_for_it(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.fill()
        scene.room = 0
        scene.receiver.start()
        await scene.until(lambda: scene.port.apart == 1)
        # What it sent before it was known is read with all the rest.
        await scene.until(lambda: scene.received + scene.port.drops() == scene.sent[b"n"])
        scene.largest_of_flood = 0
        scene.send(b"n", 3000)
        scene.send(b"q", 20)
        await scene.until(lambda: scene.received + scene.port.drops() == sum(scene.sent.values()))
        assert 0 < scene.largest_of_flood < 600
        scene.send(b"n", 3000)
        scene.room = 1 << 30
        await scene.until(lambda: scene.seen[b"n"][-1] == scene.sent[b"n"] - 1)
        assert scene.largest_of_flood == 3000
        assert scene.floods == [scene.noisy.getsockname()]
        scene.settle()
        scene.close()

    runner.run(scenario())


def test_what_is_set_apart_is_read_to_the_end_when_reading_ends(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.fill()
        scene.room = 0
        scene.receiver.start()
        await scene.until(lambda: scene.port.apart == 1)
        scene.send(b"n", 3000)
        scene.send(b"q", 10)
        scene.settle()
        scene.close()

    runner.run(scenario())


def test_many_senders_at_once_are_no_flood_of_one(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        scene = Scene()
        crowd = [sender_to(scene.port) for _ in range(20)]
        while not scene.port.drops():
            for sender in crowd:
                sender.send(b"q 0")
        scene.receiver.start()
        await scene.until(lambda: not scene.port.is_filling())
        assert scene.port.apart == 0
        scene.receiver.stop()
        for sender in crowd:
            sender.close()
        scene.close()

    runner.run(scenario())
