"""A TCP server in a thread of its own: listen, break, listen again.

Raw asyncio streams rather than a web server, because the fakes must be able to stop in the
middle of a byte stream and to reset connections.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

PATIENCE_S = 20.0
"""How long a test waits before it fails; long, because a shared machine may stall."""

HEAD_BYTES_MAX = 1 << 20

T = TypeVar("T")


class Connection:
    """One accepted connection; `number` counts from 1 in the order of acceptance."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self._socket = writer.get_extra_info("socket")
        # So that send() waits for the kernel; asyncio's TLS never resumes at a limit of 0.
        writer.transport.set_write_buffer_limits(high=1, low=0)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """RST instead of FIN."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Server:
    """Base of the fakes; subclasses implement `serve`.

    `changed` is notified whenever something a test may wait for has happened. What a handler
    raises fails the test when the context ends.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.changed = threading.Condition()
        self.connections = 0
        """Accepted so far, TLS or not."""
        self.open_connections = 0
        self.failed_handshakes = 0
        self.errors: list[BaseException] = []
        self.tls = tls
        """May be changed; holds for the connections that come."""
        self._host = host
        # Bound but never listening: it keeps the port ours while the fake is down.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind((host, 0))
        self.port: int = self._reservation.getsockname()[1]
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._started = threading.Event()

    @property
    def address(self) -> tuple[str, int]:
        return self._host, self.port

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self._host}:{self.port}"

    async def serve(self, connection: Connection) -> None:
        """Handle one connection until it ends; raising ConnectionError is ending."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE_S)
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self._reservation.close()
        if self.errors and error is None:
            raise AssertionError(f"{type(self).__name__} failed") from self.errors[0]

    def up(self) -> None:
        """Listen (again), on the same port as before."""
        self._call(self._listen())

    def down(self) -> None:
        """Refuse new connections and reset the open ones, whatever they are doing."""
        self._call(self._break_off())

    def reset_connections(self) -> None:
        """Reset the open connections and go on listening."""
        self._call(self._reset_all())

    def wait_for(
        self, predicate: Callable[[], T], timeout: float = PATIENCE_S, what: str = ""
    ) -> T:
        """Wait until `predicate()` is true and return its value; AssertionError after `timeout`."""
        with self.changed:
            value = self.changed.wait_for(predicate, timeout)
            assert value, f"waited {timeout} s for {what or 'a condition'}; {self.describe()}"
            return value

    def describe(self) -> str:
        """What has happened so far, for the message of a failed wait."""
        return f"{self.connections} connections, {self.failed_handshakes} failed TLS handshakes"

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._started.set()
        await self._stop.wait()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(self.address)
        listener.listen(1024)
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))

    async def _break_off(self) -> None:
        if self._accepting is not None and self._listener is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
            self._listener.close()
            self._accepting = self._listener = None
        await self._reset_all()

    async def _reset_all(self) -> None:
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in the next turn of the loop

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, _ = await self._loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            handler = asyncio.create_task(self._handle(sock, self.connections))
            self._handlers.add(handler)
            handler.add_done_callback(self._finish)
            self.notify()

    def _finish(self, handler: asyncio.Task[None]) -> None:
        self._handlers.discard(handler)
        if not handler.cancelled() and (error := handler.exception()) is not None:
            self.errors.append(error)
        self.notify()

    async def _handle(self, sock: socket.socket, number: int) -> None:
        reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        tls_limits = {"ssl_handshake_timeout": PATIENCE_S, "ssl_shutdown_timeout": 1.0}
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self.tls, **(tls_limits if self.tls else {})
            )
        except OSError:  # an ssl.SSLError too; the client did not like our certificate, or left
            self.failed_handshakes += 1
            sock.close()
            return
        except asyncio.CancelledError:
            sock.close()
            raise
        connection = Connection(
            number, reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)
        )
        self.open_connections += 1
        self.notify()
        try:
            await self.serve(connection)
            connection.writer.close()
            await connection.writer.wait_closed()
        except (OSError, EOFError):
            pass  # the client left; what it had sent is in the records
        finally:
            connection.reset()
            self.open_connections -= 1
