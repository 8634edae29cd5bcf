"""A head that came before is not parsed again, and nobody can tell."""

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from xrayd.net.http_connection import Connection, Room
from xrayd.net.http_heads import KnownHeads
from xrayd.net.http_messages import Request, Response, Routes, text_response

POST = b"POST /targets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
MESSAGES = [
    POST + b"abc",
    POST + b"xyz",
    POST + b"ab",
    POST + b"abcd",
    POST,
    POST + b"abc" + POST + b"xyz",
    b"\r\n" + POST + b"abc",
    b"\r\n\r\n" + POST + b"abc",
    POST.replace(b"\r\n", b"\n") + b"abc",
    POST.replace(b"POST", b"HEAD") + b"abc",
    POST.replace(b"/1.1", b"/1.0") + b"abc",
    POST.replace(b"3", b"1") + b"\r\n\r\n",
    POST.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n") + b"abc",
    POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"abc",
    POST.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n") + b"abc",
    POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") + b"abc",
    POST.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n") + b"abc",
    POST.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    POST.replace(b"Content-Length: 3", b"Content-Length: 9") + b"abcdefghi",
    POST.replace(b"/targets", b"/refused") + b"abc",
    GET,
    GET + GET,
    GET.replace(b"GET", b"HEAD"),
    GET.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
    GET[:-2],
    b"abc",
    b"\r\n\r\n",
]


class Wire:
    """A transport that remembers what was done with it."""

    def __init__(self) -> None:
        self.done: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def is_closing(self) -> bool:
        return "close" in self.done or "abort" in self.done

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")


class Desk:
    """Routes that echo, and what they were asked."""

    def __init__(self) -> None:
        self.screened: list[str] = []
        self.handled: list[Request] = []
        self.routes = Routes(self.screen, self.handle)

    def screen(self, request: Request) -> Response | int:
        self.screened.append(request.peer)
        return text_response(403, "no") if request.target == "/refused" else 8

    def handle(self, request: Request) -> Response:
        self.handled.append(request)
        return Response(200, request.body)


class Forgetful(KnownHeads):
    def keep(self, head: bytes, request: Request) -> None:
        """Knows nothing, ever."""


def talk(known: KnownHeads, pieces: list[bytes], peer: str = "127.0.0.1") -> tuple[Wire, Desk]:
    """One connection that is sent the pieces as they are."""

    async def scene() -> tuple[Wire, Desk]:
        wire, desk = Wire(), Desk()
        connection = Connection(desk.routes, set(), set(), room=Room(1024), known=known, peer=peer)
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.is_closing():
                connection.data_received(piece)
        return wire, desk

    return asyncio.run(scene())


@given(st.lists(st.sampled_from(MESSAGES), max_size=6), st.lists(st.integers(0, 200), max_size=2))
def test_who_was_heard_before_is_answered_as_by_a_server_that_knows_nobody(messages, cuts):
    known = KnownHeads()
    for message in MESSAGES:
        talk(known, [message])
    pieces = [piece for message in messages for piece in cut(message, sorted(cuts)) if piece]
    told, by_all = talk(known, pieces)
    expected, by_none = talk(Forgetful(), pieces)
    assert told.done == expected.done
    assert by_all.handled == by_none.handled


def cut(message: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *places, len(message)]
    return [message[begin:end] for begin, end in pairwise(edges)]


def test_a_head_is_screened_once_for_each_caller_and_each_body_is_its_own():
    known = KnownHeads()
    wire, desk = talk(known, [POST + b"abc", POST + b"xyz", POST + b"123"])
    assert [request.body for request in desk.handled] == [b"abc", b"xyz", b"123"]
    assert [str(answer)[-4:-1] for answer in wire.done] == ["abc", "xyz", "123"]
    assert desk.screened == ["127.0.0.1"]
    _, desk = talk(known, [POST + b"abc"], peer="10.0.0.1")
    assert desk.screened == ["10.0.0.1"]


def test_what_is_remembered_is_bounded_in_number_and_size():
    known = KnownHeads()
    for number in range(3_000):
        padding = b"x" * (number % 2_000)
        head = b"POST /%d HTTP/1.1\r\nX: %s\r\nContent-Length: 3\r\n\r\n" % (number, padding)
        talk(known, [head + b"abc"])
    kept = known._requests
    assert 0 < len(kept) <= 256
    assert max(len(head) for head, _ in kept) <= 1024
    assert all(not request.body for request, _ in kept.values())
