"""Heads of requests that came before need not be parsed again."""

from __future__ import annotations

from xrayd.net.http_messages import SMALL_BODY_BYTES, Request

_HEADS_MAX = 256
_HEAD_BYTES_MAX = 1024
_UNKNOWN = (Request("", "", [], b"", ""), -1)


class KnownHeads:
    """Requests' heads, byte for byte, that were parsed and passed before.

    A client says the same again and again, and to parse and screen a head is most of what a short
    request costs. Only what needs nothing but its body to be answered is kept: no `Expect`, and
    small.
    """

    def __init__(self) -> None:
        self._requests: dict[tuple[bytes, str], tuple[Request, int]] = {}

    def find(self, head: bytes, body: bytes, peer: str) -> Request | None:
        """The request that a head and all that came with it make, where the head is known."""
        request, size = self._requests.get((head, peer), _UNKNOWN)
        if size != len(body):
            return None
        return Request(request.method, request.target, request.headers, body, peer)

    def keep(self, head: bytes, request: Request) -> None:
        """Keep the head of a request that passed and came in one piece."""
        size = len(request.body)
        # A larger body has to ask for room, which only the long way does.
        is_small = len(head) <= _HEAD_BYTES_MAX and size <= SMALL_BODY_BYTES
        if is_small and request.header("expect") is None:
            if len(self._requests) >= _HEADS_MAX:
                self._requests.clear()
            bare = Request(request.method, request.target, request.headers, b"", request.peer)
            self._requests[head, request.peer] = bare, size
