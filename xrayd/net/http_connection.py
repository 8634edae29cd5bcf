"""One connection of the HTTP server: httptools (llhttp, strict) parses, limits hold.

It carries one request at a time, has a few seconds for its headers and its body, and is closed
after any error, so that nothing can be smuggled.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from http import HTTPStatus

import httptools

from xrayd.net.http_heads import KnownHeads
from xrayd.net.http_messages import (
    SMALL_BODY_BYTES,
    Request,
    Response,
    Routes,
    text_response,
)

_HEAD_BYTES_MAX = 8 * 1024
_HEADERS_MAX = 64
_HEAD_S = 5.0
_BODY_S = 10.0
_IDLE_S = 75.0
# How long what comes behind an answer is thrown away. Closing at once would reset the connection,
# and many clients lose an answer that a reset follows.
_LEAVE_S = 2.0
_LEAVE_BYTES_MAX = 16 * 1024 * 1024
_HEAD_END = b"\r\n\r\n"
_STATUS_LINES = {each.value: f"HTTP/1.1 {each} {each.phrase}\r\n" for each in HTTPStatus}


class Room:
    """The memory that large bodies share, in bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_left = bytes_max

    def take(self, size: int) -> bool:
        """Take so much more, where there is so much."""
        if size > self._bytes_left:
            return False
        self._bytes_left -= size
        return True

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self._bytes_left += size


class Connection(asyncio.Protocol):
    """Reads requests, has them screened and handled, and writes the answers.

    Args:
        routes: what is done with requests.
        group: the server's connections; it leaves them when it is closed.
        answers: the server's answers under way.
        room: for large bodies.
        known: the heads of the server's requests so far.
        peer: the caller's IP address.

    `deadline`, in the loop's time, is when it has taken too long and is to be closed; `since` when
    it was made or last answered. After `is_last_request` was set, the next answer is its last.
    """

    def __init__(
        self,
        routes: Routes,
        group: set[Connection],
        answers: set[asyncio.Future[Response]],
        *,
        room: Room,
        known: KnownHeads,
        peer: str,
    ) -> None:
        self._screen = routes.screen
        self._handle = routes.handle
        self._group = group
        self._answers = answers
        self._room = room
        self._known = known
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self.is_answering = False
        self.is_last_request = False
        self._is_closed = False
        self._is_leaving = False
        self._left_over = 0
        self._has_ended = False
        self._room_taken = 0
        self.is_idle = True
        self.since = self._loop.time()
        self.deadline = self.since + _HEAD_S
        self._begin()
        self._begin_to_parse()

    def _begin(self) -> None:
        self._request: Request | None = None
        # Bytes since the last that were of a body: of a head, a trailer, a chunk's extension.
        self._frame_size = 0
        self._is_complete = False
        self._has_excess = False
        self._refusal: Response | None = None

    def _begin_to_parse(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._headers_size = 0
        self._body = bytearray()
        self._body_max = 0
        self._keeps_alive = False

    def _has_request(self) -> bool:
        """Whether a whole request was read; the parser's callbacks say so while it is fed."""
        return self._is_complete

    def _announces_body(self) -> bool:
        assert self._request is not None
        length = self._request.header("content-length") or "0"
        return length.strip("0") != "" or self._request.header("transfer-encoding") is not None

    def close(self) -> None:
        """Drop the connection at once."""
        self._group.discard(self)
        self._is_closed = True
        self.is_idle = False
        self._empty_body()
        if self._transport is not None:
            self._transport.abort()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless it was closed before."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        if self._is_closed:  # to make room, before it was even set up
            self.close()

    def eof_received(self) -> bool:
        """Stay open for the answer where one is under way."""
        self._has_ended = True
        return self.is_answering

    def pause_writing(self) -> None:
        """Read no more: who does not read its answers may ask for no more of them."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self.close()

    def data_received(self, data: bytes) -> None:
        """Read on, or throw away what is behind a request."""
        if self.is_idle:
            self.is_idle = False
            head, end, body = data.partition(_HEAD_END)
            request = self._known.find(head, body, self._peer) if end else None
            if request is not None:
                self._is_complete = self._keeps_alive = True
                self._respond(request)
                return
            self.deadline = self._loop.time() + _HEAD_S
            self._read(data, head if end else None, len(body))
        elif self._is_leaving:
            self._left_over += len(data)
            if self._left_over > _LEAVE_BYTES_MAX:
                self.close()
        elif self._is_complete or self._is_closed:
            self._has_excess = True
        else:
            self._read(data)

    def _read(self, data: bytes, head: bytes | None = None, body_size: int = 0) -> None:
        """Parse, and answer what is whole; `head` with the size of what came behind it where this
        is the first of a request.
        """
        self._frame_size += len(data)
        self._parse(data)
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._has_request():
            assert self._request is not None
            self._request.body = bytes(self._body)
            self._body.clear()  # its room stays taken until the answer, for the handler has it now
            # As long as what came behind the head: all of it, not chunked, nothing more.
            if head is not None and self._keeps_alive and len(self._request.body) == body_size:
                self._known.keep(head, self._request)
            self._respond(self._request)
        elif self._frame_size > _HEAD_BYTES_MAX:
            self._refuse(text_response(431, "the request's head is too large"))

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Java's client offers HTTP/2 with each request, and goes on without where it is not
            # taken up (RFC 9110, 7.8). The parser skips a body then.
            if self._has_request() and not self._announces_body():
                self._has_excess = upgrade.args[0] < len(data)
            elif self._refusal is None:
                self._refusal = text_response(400, "upgrades are not supported")
        except httptools.HttpParserError as error:
            # Behind a whole request, bytes that are none are only that: Node's X-Ray SDK counts
            # UTF-16 units for its Content-Length.
            if self._has_request():
                self._has_excess = True
            elif self._refusal is None:
                self._refusal = text_response(400, f"bad request: {error}")

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """A second request before the first was answered is not answered at all."""
        if self._is_complete:
            self._has_excess = True
        else:
            self._begin_to_parse()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if not self._is_complete:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one of a trailer, which nobody reads."""
        if self._request is not None:  # a trailer, or of a second request
            return
        self._headers.append((name.lower().decode("latin-1"), value.decode("latin-1")))
        self._headers_size += len(name) + len(value)
        if len(self._headers) > _HEADERS_MAX or self._headers_size > _HEAD_BYTES_MAX:
            self._refusal = text_response(431, "too many or too large headers")

    def on_headers_complete(self) -> None:
        """Check and screen the head."""
        self._frame_size = 0
        if self._refusal is not None or self._is_complete:
            return
        self._keeps_alive = self._parser.should_keep_alive()
        names = [name for name, _ in self._headers]
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refusal = text_response(505, "HTTP/1.1 only")
            return
        if "transfer-encoding" in names and "content-length" in names:
            self._refusal = text_response(400, "both Content-Length and Transfer-Encoding")
            return
        if names.count("content-length") > 1 or names.count("host") > 1:
            self._refusal = text_response(400, "a header that may stand once stands twice")
            return
        method = self._parser.get_method().decode("latin-1")
        target = self._target.decode("latin-1")
        self._request = Request(method, target, self._headers, b"", self._peer)
        screened = self._screen(self._request)
        if isinstance(screened, Response):
            self._refusal = screened
            return
        self._body_max = screened
        length = self._request.header("content-length")
        if length is not None and length.isdigit() and int(length) > screened:
            self._refusal = self._too_large()
            return
        self.deadline = self._loop.time() + _BODY_S
        expects = (self._request.header("expect") or "").lower() == "100-continue"
        if expects and version == "1.1":
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body, or what is too much of it."""
        self._frame_size = 0
        if self._is_complete or self._refusal is not None:
            return
        size = len(self._body) + len(body)
        more = max(0, size - SMALL_BODY_BYTES) - self._room_taken
        if size > self._body_max:
            self._refusal = self._too_large()
        elif not self._room.take(more):
            self._refusal = text_response(503, "too many large requests at once; try again later")
        else:
            self._room_taken += more
            self._body += body

    def _empty_body(self) -> None:
        if self._body:
            self._body.clear()
        if self._room_taken:
            self._room.give_back(self._room_taken)
            self._room_taken = 0

    def on_message_complete(self) -> None:
        """The request has come whole."""
        if self._refusal is None:
            self._is_complete = True

    def _too_large(self) -> Response:
        return text_response(413, f"the body may have {self._body_max} bytes at most")

    def _respond(self, request: Request) -> None:
        """Answer a request that has come whole."""
        self._request = request
        self.is_answering = True
        self.deadline = math.inf
        answer = self._handle(request)
        if isinstance(answer, Response):
            self._send(answer)
        else:
            answered = asyncio.ensure_future(answer)
            self._answers.add(answered)
            answered.add_done_callback(self._send_answer)

    def _send_answer(self, answered: asyncio.Future[Response]) -> None:
        self._answers.discard(answered)
        self.is_answering = False
        if not answered.cancelled():
            self._send(answered.result())

    def _send(self, response: Response) -> None:
        self.is_answering = False
        if self._room_taken:
            self._empty_body()
        if self._transport is None or self._transport.is_closing():
            return
        assert self._request is not None
        has_more = self._has_excess or self._has_ended
        keep = self._keeps_alive and not has_more and not self.is_last_request
        self._write(response, keep=keep, with_body=self._request.method != "HEAD")
        self.since = self._loop.time()
        self.deadline = self.since + (_IDLE_S if keep else _BODY_S)
        if keep:
            self._begin()
            self.is_idle = True
        else:
            self._leave()

    def _refuse(self, response: Response) -> None:
        self._empty_body()
        self._has_excess = True
        if self._transport is not None and not self._transport.is_closing():
            is_head = self._request is not None and self._request.method == "HEAD"
            self._write(response, keep=False, with_body=not is_head)
            self._leave()

    def _leave(self) -> None:
        """Say nothing more, and hear out who may still be talking."""
        assert self._transport is not None
        with contextlib.suppress(RuntimeError):  # the other side went while we wrote
            if self._has_excess and not self._has_ended:
                self._is_leaving = True
                self.deadline = self._loop.time() + _LEAVE_S
                self._transport.write_eof()
            else:
                self._transport.close()

    def _write(self, response: Response, *, keep: bool, with_body: bool) -> None:
        assert self._transport is not None
        status = response.status
        head = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
        for name, value in response.headers:
            head = f"{head}{name}: {value}\r\n"
        end = "keep-alive" if keep else "close"
        head = f"{head}Content-Length: {len(response.body)}\r\nConnection: {end}\r\n\r\n"
        try:
            self._transport.write(head.encode("latin-1") + (response.body if with_body else b""))
        except RuntimeError:  # the other side went while we wrote
            return
