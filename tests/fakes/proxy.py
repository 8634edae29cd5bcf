"""An HTTP proxy: CONNECT tunnels and forwarded requests, both counted and both breakable.

It leaves loopback for nobody: names it was not told how to resolve are answered 502.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fakes.server import HEAD_BYTES_MAX, Connection, Server

CHUNK_BYTES = 1 << 16
HOP_BY_HOP = {"proxy-authorization", "proxy-connection", "connection", "keep-alive"}


@dataclass(frozen=True, kw_only=True)
class ProxyVerdict:
    """What the proxy does with one request; left alone, its job."""

    status: int = 200
    """Anything but 200 is answered instead of connecting (407, 502, …)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang: bool = False
    """Take the request and never answer."""
    abort: bool = False
    """Reset the connection instead of answering."""
    die_after: int | None = None
    """Reset a tunnel once this many bytes went up through it."""


@dataclass(kw_only=True)
class Proxied:
    """One request to the proxy: a tunnel (method CONNECT) or a forwarded request."""

    method: str
    target: str
    """As on the request line: `host:port` for CONNECT, else a whole URL."""
    headers: list[tuple[str, str]]
    at: float
    """`time.monotonic()`"""
    verdict: ProxyVerdict
    status: int | None = None
    """What the proxy answered itself; None where it has not, or another has."""
    bytes_up: int = 0
    """Through the tunnel, or body bytes forwarded, towards the target."""
    bytes_down: int = 0

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    @property
    def authorization(self) -> str | None:
        """The Proxy-Authorization header."""
        return self.header("proxy-authorization")


class FakeProxy(Server):
    """A CONNECT proxy on loopback.

    `resolve` maps `host:port`, as the client names it, to the port on 127.0.0.1 that stands for
    it; 127.0.0.1 itself needs no entry.
    """

    def __init__(
        self,
        *,
        resolve: Mapping[str, int] | None = None,
        authorization: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls=tls)
        self.resolve = dict(resolve or {})
        self.authorization = authorization
        """The Proxy-Authorization value without which everything is answered 407."""
        self._requests: list[Proxied] = []
        self._queue: deque[ProxyVerdict] = deque()
        self._standing = ProxyVerdict()

    def script(self, *verdicts: ProxyVerdict) -> None:
        """Queue what to do with the coming requests, one each."""
        with self.changed:
            self._queue.extend(verdicts)

    def answer(self, verdict: ProxyVerdict | None) -> None:
        """What to do with all other requests from now on; None is the proxy's job again."""
        with self.changed:
            self._standing = verdict or ProxyVerdict()

    def requests(self) -> list[Proxied]:
        """Everything that was asked of the proxy, oldest first."""
        with self.changed:
            return list(self._requests)

    @property
    def tunnels(self) -> list[Proxied]:
        """The CONNECT requests, refused ones included."""
        return [r for r in self.requests() if r.method == "CONNECT"]

    @property
    def forwarded(self) -> list[Proxied]:
        """The requests in absolute form, which a client sends for plain http."""
        return [r for r in self.requests() if r.method != "CONNECT"]

    def describe(self) -> str:
        seen = [
            f"{r.method} {r.target} {r.status} {r.bytes_up}/{r.bytes_down}" for r in self.requests()
        ]
        return f"{super().describe()}, {seen}"

    async def serve(self, connection: Connection) -> None:
        try:
            head = await connection.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        first, *lines = head[:-4].decode("utf-8", "surrogateescape").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        with self.changed:
            verdict = self._queue.popleft() if self._queue else self._standing
            request = Proxied(
                method=method,
                target=target,
                headers=headers,
                at=time.monotonic(),
                verdict=verdict,
            )
            self._requests.append(request)
            self.changed.notify_all()
        await asyncio.sleep(verdict.delay_s)
        if verdict.hang:
            while await connection.reader.read(CHUNK_BYTES):
                pass
        elif verdict.abort:
            connection.reset()
        else:
            await self._proxy(connection, request)

    async def _proxy(self, connection: Connection, request: Proxied) -> None:
        if self.authorization is not None and request.authorization != self.authorization:
            extra = {"Proxy-Authenticate": 'Basic realm="proxy"', **request.verdict.headers}
            await self._refuse(connection, request, 407, extra)
        elif request.verdict.status != 200:
            await self._refuse(connection, request, request.verdict.status, request.verdict.headers)
        else:
            await self._open(connection, request)

    async def _refuse(
        self, connection: Connection, request: Proxied, status: int, headers: Mapping[str, str]
    ) -> None:
        request.status = status
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} Refused\r\n{lines}Content-Length: 0\r\nConnection: close\r\n\r\n"
        await connection.send(head.encode())
        self.notify()

    async def _open(self, connection: Connection, request: Proxied) -> None:
        is_tunnel = request.method == "CONNECT"
        url = urlsplit(f"//{request.target}" if is_tunnel else request.target)
        port = url.port or 80
        if url.hostname != "127.0.0.1":
            if f"{url.hostname}:{port}" not in self.resolve:
                await self._refuse(connection, request, 502, {})
                return
            port = self.resolve[f"{url.hostname}:{port}"]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=HEAD_BYTES_MAX)
        except OSError:
            await self._refuse(connection, request, 502, {})
            return
        upstream = Connection(connection.number, reader, writer)
        try:
            if is_tunnel:
                request.status = 200
                await connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self.notify()
            else:
                path = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
                kept = [(n, v) for n, v in request.headers if n.lower() not in HOP_BY_HOP]
                lines = "".join(f"{n}: {v}\r\n" for n, v in [*kept, ("Connection", "close")])
                await upstream.send(f"{request.method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
            await self._pump(connection, upstream, request)
        finally:
            upstream.reset()

    async def _pump(self, client: Connection, upstream: Connection, request: Proxied) -> None:
        """Both directions until one side ends or the script says so."""

        async def go_up() -> None:
            while data := await client.reader.read(CHUNK_BYTES):
                request.bytes_up += len(data)
                self.notify()
                limit = request.verdict.die_after
                if limit is not None and request.bytes_up >= limit:
                    client.reset()
                    return
                await upstream.send(data)

        async def go_down() -> None:
            while data := await upstream.reader.read(CHUNK_BYTES):
                request.bytes_down += len(data)
                await client.send(data)
                self.notify()

        tasks = [asyncio.create_task(go_up()), asyncio.create_task(go_down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        if any(isinstance(outcome, OSError) for outcome in outcomes):
            client.reset()  # what one side suffered, the other feels
