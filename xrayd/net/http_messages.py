"""HTTP requests and answers, whole, and what a server does with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

SMALL_BODY_BYTES = 16 * 1024
"""A body up to here is held without a count; larger ones share a room."""


class Request(msgspec.Struct):
    """A request, whole. Header names are lower case; `peer` is the caller's IP address."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    peer: str

    def header(self, name: str) -> str | None:
        """The last value of a header, by lower-case name."""
        found = None
        for key, value in self.headers:
            if key == name:
                found = value
        return found


class Response(msgspec.Struct):
    """An answer; Content-Length and Connection are added when it is written."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = []


def text_response(status: int, text: str) -> Response:
    """A line of plain text."""
    return Response(status, (text + "\n").encode(), [("Content-Type", "text/plain")])


def json_response(status: int, body: bytes) -> Response:
    """A JSON body."""
    return Response(status, body, [("Content-Type", "application/json")])


def aws_error(status: int, word: str, message: str) -> Response:
    """An error in the shape AWS's clients read."""
    body = msgspec.json.encode({"Message": message})
    headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", word)]
    return Response(status, body, headers)


class Routes(msgspec.Struct):
    """What a server does with requests.

    `screen` sees a request without its body and returns an answer to refuse it, or the number of
    bytes its body may have; it is not asked again about the same head from the same caller.
    `handle` answers what passed, at once where it can: a task for each request would cost as much
    as a short answer. `bodies_bytes_max` bounds the large bodies of all connections together.
    """

    screen: Callable[[Request], Response | int]
    handle: Callable[[Request], Response | Awaitable[Response]]
    bodies_bytes_max: int = 8 * 1024 * 1024
