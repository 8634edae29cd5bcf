"""What benchmarks send to: an endpoint that takes everything and checks nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httptools
import msgspec

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n"
    b'{"UnprocessedTraceSegments":[]}'
)


class SinkConnection(asyncio.Protocol):
    """One connection; `take` is given the documents of each PutTraceSegments.

    `open_ones` is kept to be the transports of the connections that are open.
    """

    def __init__(
        self,
        take: Callable[[Sequence[str]], None],
        open_ones: set[asyncio.BaseTransport],
        answer_s: float = 0.0,
    ) -> None:
        self._take = take
        self._open = open_ones
        self._answer_s = answer_s
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._open.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        if self._path == b"/TraceSegments":
            self._take(msgspec.json.decode(body)["TraceSegmentDocuments"])
        if self._answer_s:
            loop = asyncio.get_running_loop()
            loop.call_later(self._answer_s, self._transport.write, ANSWER)
        else:
            self._transport.write(ANSWER)
