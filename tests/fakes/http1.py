"""HTTP/1.1 for the fakes: requests kept as they came, answers from a script."""

import asyncio
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from fakes.server import Connection, Server
from fakes.sigv4 import SignatureVerdict
from fakes.verdict import JSON_ERRORS, ErrorStyle, Verdict, render

ANY_PATH = "*"
CHUNK_BYTES = 1 << 16
DRIP_TICK_S = 0.02


@dataclass(kw_only=True)
class Request:
    """One request as received, and what became of it."""

    method: str
    target: str
    """Path and query as on the request line."""
    headers: list[tuple[str, str]]
    connection: int
    """Number of the connection it came over, counted from 1."""
    at: float
    """`time.monotonic()` when its head had arrived."""
    body: bytes = b""
    verdict: Verdict | None = None
    """What was decided; None while it is still arriving, or where it never arrived whole."""
    signature: SignatureVerdict | None = None
    answered: bool = False
    """The last byte of the answer was handed to the network."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


Reply = Verdict | Callable[[Request], Verdict | None]
"""An answer, or a function that makes one; None from it means the usual answer."""


class HttpServer(Server):
    """Answers from a script: first what is queued for a path, then its standing answer.

    Subclasses implement `usual`: the correct answer when nothing is scripted.
    """

    content_type = "application/json"
    errors_as: ErrorStyle = JSON_ERRORS
    scripted_path = ANY_PATH
    """The path that `script` and `answer` mean when they name none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.clock_offset_s = 0.0
        """Added to this machine's clock to give the service's."""
        self.body_bytes_received = 0
        """Of requests' bodies, incomplete ones included."""
        self.max_in_flight = 0
        """Most requests that were ever waiting for their answer at once."""
        self._in_flight = 0
        self._requests: list[Request] = []
        self._queues: dict[str, deque[Reply]] = defaultdict(deque)
        self._standing: dict[str, Reply] = {}
        self._script_lock = threading.Lock()

    def script(self, *replies: Reply, path: str | None = None) -> None:
        """Queue answers, one for each coming request to `path`."""
        with self._script_lock:
            self._queues[path or self.scripted_path].extend(replies)

    def answer(self, reply: Reply | None, path: str | None = None) -> None:
        """Set the standing answer of `path` from now on; None is the usual one again."""
        with self._script_lock:
            if reply is None:
                self._standing.pop(path or self.scripted_path, None)
            else:
                self._standing[path or self.scripted_path] = reply

    @property
    def scripted(self) -> int:
        """How many queued answers have not been given yet."""
        with self._script_lock:
            return sum(map(len, self._queues.values()))

    def requests(self, path: str | None = None) -> list[Request]:
        """Requests that arrived whole or in part, oldest first."""
        with self.changed:
            return [r for r in self._requests if path is None or r.path == path]

    def wait_requests(
        self, count: int, path: str | None = None, timeout: float = 20.0
    ) -> list[Request]:
        """Wait until at least `count` requests to `path` have been decided, and return them."""

        def decided() -> list[Request]:
            found = [r for r in self.requests(path) if r.verdict is not None]
            return found if len(found) >= count else []

        if count == 0:
            return decided()
        return self.wait_for(decided, timeout, f"{count} requests to {path or 'any path'}")

    def describe(self) -> str:
        counts: dict[str, int] = defaultdict(int)
        for r in self.requests():
            counts[f"{r.method} {r.path} {r.verdict.status if r.verdict else '-'}"] += 1
        return f"{super().describe()}, requests: {dict(counts)}"

    def now(self) -> float:
        """The service's clock, epoch seconds."""
        return time.time() + self.clock_offset_s

    def usual(self, request: Request) -> Verdict:
        """The correct answer to a request."""
        raise NotImplementedError

    def judge(self, request: Request) -> Verdict:
        """The answer that will be given: the script's, else the usual one."""
        reply = self._take(request.path)
        if reply is not None and not isinstance(reply, Verdict):
            reply = reply(request)
        if reply is None:
            return self.usual(request)
        return reply.fill(self.usual(request)) if reply.is_open else reply

    def _decide(self, request: Request) -> Verdict:
        verdict = self.judge(request)
        asks_to_close = (request.header("connection") or "").lower() == "close"
        return replace(verdict, announce_close=True) if asks_to_close else verdict

    def _take(self, path: str) -> Reply | None:
        with self._script_lock:
            for key in (path, ANY_PATH):
                if self._queues[key]:
                    return self._queues[key].popleft()
            return self._standing.get(path, self._standing.get(ANY_PATH))

    async def serve(self, connection: Connection) -> None:
        while (request := await self._read_head(connection)) is not None:
            if not await self._exchange(connection, request):
                return

    async def _read_head(self, connection: Connection) -> Request | None:
        try:
            head = await connection.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return None
            raise
        first, *lines = head[:-4].decode("utf-8", "surrogateescape").split("\r\n")
        method, target, _ = first.split(" ", 2)
        request = Request(
            method=method,
            target=target,
            headers=[(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)],
            connection=connection.number,
            at=time.monotonic(),
        )
        with self.changed:
            self._requests.append(request)
            self.changed.notify_all()
        return request

    async def _exchange(self, connection: Connection, request: Request) -> bool:
        """Read one body, answer it, and say whether the connection goes on."""
        cut = self._take_cut(request.path)
        if cut is not None:
            await self._read_body(connection, request, cut.abort_request_at)
            request.verdict = cut
            connection.reset()
            return False
        await self._read_body(connection, request, None)
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            with self.changed:
                request.verdict = self._decide(request)
                self.changed.notify_all()
            goes_on = await self._answer(connection, request, request.verdict)
        finally:
            self._in_flight -= 1
        self.notify()
        return goes_on

    def _take_cut(self, path: str) -> Verdict | None:
        """The next answer, where it is one that resets the connection before the body is read."""
        with self._script_lock:
            queue = self._queues[path] or self._queues[ANY_PATH]
            standing = self._standing.get(path, self._standing.get(ANY_PATH))
            first = queue[0] if queue else standing
            if not isinstance(first, Verdict) or first.abort_request_at is None:
                return None
            if queue:
                queue.popleft()
            return first

    async def _read_body(self, connection: Connection, request: Request, limit: int | None) -> None:
        if (request.header("expect") or "").lower() == "100-continue":
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (request.header("transfer-encoding") or "").lower() == "chunked":
            while size := int(await connection.reader.readuntil(b"\r\n"), 16):
                await self._read_bytes(connection, request, size, limit)
                await connection.reader.readexactly(2)
            while await connection.reader.readuntil(b"\r\n") != b"\r\n":
                pass
        else:
            size = int(request.header("content-length") or 0)
            await self._read_bytes(connection, request, size, limit)

    async def _read_bytes(
        self, connection: Connection, request: Request, size: int, limit: int | None
    ) -> None:
        wanted = size if limit is None else min(size, max(0, limit - len(request.body)))
        parts = [request.body]
        try:
            while wanted:
                part = await connection.reader.read(min(wanted, CHUNK_BYTES))
                if not part:
                    raise ConnectionResetError("the client left in the middle of a body")
                self.body_bytes_received += len(part)
                wanted -= len(part)
                parts.append(part)
        finally:
            request.body = b"".join(parts)

    async def _answer(self, connection: Connection, request: Request, verdict: Verdict) -> bool:
        if verdict.delay_s:
            await asyncio.sleep(verdict.delay_s)
        if verdict.hang:
            while await connection.reader.read(CHUNK_BYTES):
                pass
            return False
        data = render(
            verdict, now=self.now(), content_type=self.content_type, errors=self.errors_as
        )
        cut = data if verdict.abort_at is None else data[: verdict.abort_at]
        if verdict.drip_bps is not None:
            step = max(1, round(verdict.drip_bps * DRIP_TICK_S))
            while len(cut) > step:
                await connection.send(cut[:step])
                await asyncio.sleep(step / verdict.drip_bps)
                cut = cut[step:]
        # Said before the last byte leaves, so that the client cannot be faster than the record.
        request.answered = verdict.abort_at is None
        await connection.send(cut)
        if verdict.abort_at is not None:
            connection.reset()
            return False
        return not (verdict.close or verdict.announce_close)
