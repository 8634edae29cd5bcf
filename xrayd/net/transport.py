"""HTTP/1.1 to AWS: keep-alive connections, TLS, CONNECT proxies, one deadline a request.

An httpx transport of our own because the HTTP client is most of what a segment costs. A batch of
50 takes httpx as it comes 1,300 µs, httpx over aiohttp 380, this 100 (of them httpx's request
and response objects 14), and it saves the 11 MiB that importing aiohttp takes. What it leaves out
is what xrayd must not do: redirects, cookies, decompression, HTTP/2, retries after an answer
began. Requests carry their whole body and `timeout` (seconds for everything) in `extensions`.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

import httptools
import httpx

from xrayd.net.sockets import is_host

ANSWER_BYTES_MAX = 1024 * 1024
_HEAD_BYTES_MAX = 64 * 1024
_CONNECT_S = 2.0
_TLS_S = 5.0
# A connection that lay idle longer may have been forgotten by something in between.
_IDLE_S = 60.0
# Unacknowledged for this long, a connection is dead (Linux: TCP_USER_TIMEOUT).
_USER_TIMEOUT_MS = 5000


class AnswerTooLarge(httpx.RemoteProtocolError):
    """An answer of status 200 with more bytes than `ANSWER_BYTES_MAX`; the request was taken."""


class Proxy(NamedTuple):
    """An HTTP proxy to CONNECT through. `authorization` is the header's value or empty."""

    host: str
    port: int
    tls: bool
    authorization: str

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


def parse_proxy(address: str) -> Proxy:
    """Read `host:port` or `http[s]://user:password@host:port`.

    Raises:
        ValueError: not an address; the message does not repeat it, for it may hold a password.
    """
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL as error:
        raise ValueError("not a URL") from error
    if url.scheme not in ("http", "https") or not is_host(url.host) or (url.port or 0) > 65_535:
        raise ValueError("must be http://host:port")
    authorization = ""
    if url.userinfo:
        pair = f"{url.username}:{url.password}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    port = url.port or (443 if url.scheme == "https" else 80)
    return Proxy(url.host, port, url.scheme == "https", authorization)


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with at most one request on it, and the parser's callbacks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[httpx.Response] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._expects_body = True
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.is_usable = False
        self.answer_began = False
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._head_size = 0
        self._in_head = True
        self._is_framed = False
        self.answer_began = False

    def send(self, head: bytes, body: bytes, *, is_connect: bool) -> asyncio.Future[httpx.Response]:
        """Write a request; the future gets its answer, or the reason why none came."""
        assert self.transport is not None
        self._reset()
        self._parser = httptools.HttpResponseParser(self)
        self._expects_body = not is_connect
        self._waiter = self._loop.create_future()
        self.transport.writelines([head, body] if body else [head])
        return self._waiter

    def close(self) -> None:
        """Drop the connection at once."""
        self.is_usable = False
        if self.transport is not None:
            self.transport.abort()

    def fail(self, error: httpx.TransportError) -> None:
        """End the request under way with `error`, and the connection with it."""
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "writelines")
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self.is_usable = True
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)

    def data_received(self, data: bytes) -> None:
        self.answer_began = True
        if self._in_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._finish()
        except httptools.HttpParserError as error:
            self.fail(httpx.RemoteProtocolError(f"answer is no HTTP: {error}"))
        if self._in_head and self._head_size > _HEAD_BYTES_MAX:
            self.fail(httpx.RemoteProtocolError("the answer's headers are too large"))

    def eof_received(self) -> bool:
        self._end_of_stream()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_usable = False
        if error is None:
            self._end_of_stream()
        self.fail(httpx.ReadError(f"connection lost: {error or 'closed by the other side'}"))

    def _end_of_stream(self) -> None:
        # Without a length or chunks the end of the connection is the end of the body.
        if self._waiter and not self._waiter.done() and not self._in_head and not self._is_framed:
            self._finish()
            self.close()

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._is_framed = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._in_head = False
        if not self._expects_body:
            self._finish()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > ANSWER_BYTES_MAX:
            is_success = self._parser.get_status_code() == 200
            kind = AnswerTooLarge if is_success else httpx.RemoteProtocolError
            self.fail(kind(f"answer of more than {ANSWER_BYTES_MAX} bytes"))
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._reset()  # an interim answer; the one that counts follows
            return
        self._finish()

    def _finish(self) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if self._expects_body and not self._parser.should_keep_alive():
            self.close()
        self.idle_since = self._loop.time()
        status = self._parser.get_status_code()
        content = b"".join(self._body)
        # Never decoded: xrayd asks for no compression, and a bomb is only bytes this way.
        headers = [pair for pair in self._headers if pair[0].lower() != b"content-encoding"]
        self._waiter.set_result(httpx.Response(status, headers=headers, content=content))


class Http1Transport(httpx.AsyncBaseTransport):
    """Sends requests to whatever origin they name.

    Args:
        context: TLS settings for `https` origins.
        proxy_for: gives the proxy for a URL, or None for a direct way.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        proxy_for: Callable[[httpx.URL], Proxy | None],
    ) -> None:
        self._make_context = context
        self._context: ssl.SSLContext | None = None
        self._proxy_for = proxy_for
        self._idle: dict[tuple[str, str, int | None], list[_Connection]] = {}
        self._busy: set[_Connection] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose body is read already; return its whole answer.

        Raises:
            httpx.TransportError: of the kind that fits: ConnectTimeout, ConnectError, ProxyError,
                ReadTimeout, ReadError, RemoteProtocolError.
        """
        loop = asyncio.get_running_loop()
        seconds = request.extensions.get("timeout", 10.0)
        deadline = loop.time() + seconds
        url = request.url
        body = request.read()
        lines = [b"%s %s HTTP/1.1" % (request.method.encode(), url.raw_path)]
        lines += [b"%s: %s" % pair for pair in request.headers.raw]
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        key = (url.scheme, url.host, url.port)
        while True:
            connection = self._reuse(key, loop.time())
            is_fresh = connection is None
            if connection is None:
                connection = await self._connect(url, deadline - loop.time())
            self._busy.add(connection)
            timer = loop.call_at(deadline, connection.fail, httpx.ReadTimeout("no answer in time"))
            try:
                response = await connection.send(head, body, is_connect=False)
            except httpx.ReadError:
                # A kept connection that the other side closed meanwhile never saw the request.
                if is_fresh or connection.answer_began or loop.time() >= deadline:
                    raise
                continue
            except asyncio.CancelledError:
                connection.close()
                raise
            finally:
                timer.cancel()
                self._busy.discard(connection)
            if connection.is_usable:
                self._idle.setdefault(key, []).append(connection)
            response.request = request
            return response

    async def aclose(self) -> None:
        """Drop every connection."""
        for connection in [*self._busy, *(c for kept in self._idle.values() for c in kept)]:
            connection.close()
        self._idle.clear()

    def _reuse(self, key: tuple[str, str, int | None], now: float) -> _Connection | None:
        kept = self._idle.get(key, [])
        while kept:
            connection = kept.pop()
            if connection.is_usable and now - connection.idle_since < _IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self, url: httpx.URL, seconds: float) -> _Connection:
        """Open a connection to a URL's origin, through its proxy where it has one."""
        proxy = self._proxy_for(url)
        port = url.port or (443 if url.scheme == "https" else 80)
        where = f"{proxy.host}:{proxy.port} (proxy)" if proxy else f"{url.host}:{port}"
        try:
            patience = _CONNECT_S + (_TLS_S if url.scheme == "https" else 0.0)
            async with asyncio.timeout(min(patience, max(seconds, 0.0))):
                if proxy is None:
                    return await self._open(url.host, port, tls=url.scheme == "https")
                connection = await self._open(proxy.host, proxy.port, tls=proxy.tls)
                await self._tunnel(connection, proxy, url, port)
                return connection
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"{where}: no connection in time") from error
        except (OSError, ssl.CertificateError) as error:
            raise httpx.ConnectError(f"{where}: {str(error) or type(error).__name__}") from error

    async def _open(self, host: str, port: int, *, tls: bool) -> _Connection:
        loop = asyncio.get_running_loop()
        # Asked here: a time-out leaves create_connection's own question behind, and the late
        # failure of that would count as a bug and end the process.
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # a label that is empty or too long
            raise socket.gaierror(socket.EAI_NONAME, "no host has such a name") from error
        failure = OSError("the name has no address")
        for *_, address in found:
            try:
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop),
                    str(address[0]),
                    port,
                    ssl=self._tls() if tls else None,
                    server_hostname=host if tls else None,
                )
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._make_context()
        return self._context

    async def _tunnel(
        self, connection: _Connection, proxy: Proxy, url: httpx.URL, port: int
    ) -> None:
        host = f"[{url.host}]" if ":" in url.host else url.host
        target = f"{host}:{port}"
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if proxy.authorization:
            head += f"Proxy-Authorization: {proxy.authorization}\r\n"
        try:
            answer = await connection.send((head + "\r\n").encode(), b"", is_connect=True)
        except httpx.TransportError as error:
            raise httpx.ProxyError(f"{proxy.host}:{proxy.port} (proxy): {error}") from error
        except asyncio.CancelledError:
            connection.close()
            raise
        if answer.status_code != 200:
            connection.close()
            raise httpx.ProxyError(
                f"{proxy.host}:{proxy.port} (proxy) refused CONNECT {target}:"
                f" HTTP {answer.status_code}"
            )
        if url.scheme == "https":
            loop = asyncio.get_running_loop()
            assert connection.transport is not None
            transport = await loop.start_tls(
                connection.transport, connection, self._tls(), server_hostname=url.host
            )
            assert transport is not None
            connection.transport = transport
