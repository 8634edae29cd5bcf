"""A small HTTP/1.1 server, bounded in everything."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys

from xrayd.net.http_connection import Connection, Room
from xrayd.net.http_heads import KnownHeads
from xrayd.net.http_messages import Response, Routes

_SWEEP_S = 2.0
_CONNECTIONS_MAX = 256
# Descriptors that accepting must leave for the uplink, the spool and the log.
_RESERVED_DESCRIPTORS = 40


def _descriptors() -> int:
    """How many descriptors the process may have open."""
    if sys.platform == "win32":
        return 512
    import resource  # noqa: PLC0415 - does not exist on Windows

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class HttpServer:
    """Accepts on a bound, listening, non-blocking socket that stays the caller's."""

    def __init__(self, sock: socket.socket, routes: Routes) -> None:
        self._sock = sock
        self._routes = routes
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._connections_max = max(
            4, min(_CONNECTIONS_MAX, _descriptors() - _RESERVED_DESCRIPTORS)
        )
        self._is_stopped = False
        self._sweeping: asyncio.TimerHandle | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Future[Response]] = set()
        self._room = Room(routes.bodies_bytes_max)
        self._known = KnownHeads()

    def start(self) -> None:
        """Begin to accept, unless it was stopped."""
        if not self._is_stopped:
            self._loop.add_reader(self._sock, self._accept)

    def stop(self) -> None:
        """Accept no more; requests under way are answered, idle connections closed."""
        self._is_stopped = True
        self._loop.remove_reader(self._sock)
        for connection in list(self._connections):
            if connection.is_idle:
                connection.close()
            else:
                connection.is_last_request = True

    async def finish(self, timeout_s: float) -> None:
        """After `stop`: wait for the requests under way, then close what is left.

        A connection left open would hand requests to a loop that ends.
        """
        if self._answers:
            await asyncio.wait(set(self._answers), timeout=timeout_s)
        for connection in list(self._connections):
            connection.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        left: list[asyncio.Future[Response] | asyncio.Task[None]]
        left = [*self._answers, *self._handshakes]
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(16):
            try:
                client, peer = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Accepting is not possible for now; come back instead of spinning.
                    self._loop.remove_reader(self._sock)
                    self._loop.call_later(0.5, self.start)
                return
            if len(self._connections) >= self._connections_max and not self._close_one():
                client.close()
                continue
            client.setblocking(False)
            connection = Connection(
                self._routes,
                self._connections,
                self._answers,
                room=self._room,
                known=self._known,
                peer=str(peer[0]),
            )
            self._connections.add(connection)
            if self._sweeping is None:
                self._sweep()
            task = self._loop.create_task(self._attach(client, connection))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _attach(self, client: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, client)
        except OSError:
            self._connections.discard(connection)
            client.close()

    def _sweep(self) -> None:
        """Close what has taken too long: cheaper than timers of each connection.

        At whole seconds, when others wake the process too.
        """
        now = self._loop.time()
        for connection in [c for c in self._connections if c.deadline <= now]:
            connection.close()
        self._sweeping = None
        if self._connections:
            next_at = (now // _SWEEP_S + 1) * _SWEEP_S
            self._sweeping = self._loop.call_at(next_at, self._sweep)

    def _close_one(self) -> bool:
        """Make room: the connection that has been idle longest, or slowest to ask, goes."""
        waiting = [c for c in self._connections if not c.is_answering]
        if not waiting:
            return False
        min(waiting, key=lambda c: (not c.is_idle, c.since)).close()
        return True
