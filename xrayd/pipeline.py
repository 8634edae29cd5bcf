"""From datagram to request: ledger, buffer, intake, receiver and uploader, put together."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Mapping, Sequence

from xrayd.logs import Throttle, printable
from xrayd.net.client import XRayClient
from xrayd.net.sockets import ask_receive_buffer, kernel_drops
from xrayd.net.udp import UdpReceiver, pause_for
from xrayd.net.uploader import Uploader
from xrayd.relay.buffer import Buffer
from xrayd.relay.delivery import Pace
from xrayd.relay.intake import Intake
from xrayd.relay.ledger import Ledger

log = logging.getLogger("xrayd")


class Pipeline:
    """The relay's rooms and the wires between them.

    Args:
        udp: bound socket, which stays the caller's.
        client: where batches go.
        refresh: asks for new credentials.
        concurrency: requests in flight at most.
        bytes_max: memory for everything held.
        receive_buffer_bytes: kernel receive buffer to ask for.
        linger_s: how long a batch waits to be filled.
    """

    def __init__(
        self,
        udp: socket.socket,
        client: XRayClient,
        *,
        refresh: Callable[[], None],
        concurrency: int,
        bytes_max: int,
        receive_buffer_bytes: int,
        linger_s: float = 1.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._throttle = Throttle()
        self._udp = udp
        self.ledger = Ledger()
        self.buffer = Buffer(bytes_max, linger_s)
        self.granted = ask_receive_buffer(udp, receive_buffer_bytes)
        self.intake = Intake(self.ledger, self.buffer, self._log_refusal, self._log_spill)
        self.pace = Pace(concurrency, random.random)
        self.observe: Callable[[int, float], None] | None = None
        self.uploader = Uploader(
            self.buffer,
            client,
            self.ledger,
            self.pace,
            refresh=refresh,
            observe=self._observe,
        )
        self.receiver = UdpReceiver(udp, self._receive, pause_for(self.granted))

    def take_posted(self, documents: Sequence[bytes], too_large: int) -> bool:
        """Take documents that came over TCP; False where they do not fit."""
        taken = self.intake.take_posted(documents, too_large, self._loop.time())
        self.uploader.pump()
        return taken

    def difference(self) -> int:
        """What the ledger's identity is off by now."""
        return self.ledger.difference(self.buffer.queued, self.buffer.in_flight)

    async def look_after(self) -> None:
        """Give up what is too old, until cancelled."""
        while True:
            await asyncio.sleep(10.0)
            self.ledger.expired += self.buffer.expire(self._loop.time())

    async def drain(self, quiet_s: float, listen_s: float, deadline: float) -> None:
        """Listen until senders are quiet, empty the kernel's buffer, send what is held.

        `deadline` is in the loop's time; what cannot be sent until then is counted as spilled.
        """
        end = min(self._loop.time() + listen_s, deadline)
        self.uploader.send_at_once()
        while (now := self._loop.time()) < end:
            quiet_at = max(self.receiver.last_at, end - listen_s) + quiet_s
            if now >= quiet_at:
                break
            await asyncio.sleep(min(quiet_at, end) - now)
        self.receiver.stop()
        while self.receiver.drain():
            pass
        await self.uploader.drain(deadline - self._loop.time())

    def summary(self) -> str:
        """Where every document went, in one line."""
        ledger = self.ledger
        parts = [
            f"received={ledger.received}",
            f"recovered={ledger.recovered}",
            f"sent={ledger.sent}",
            f"rejected={ledger.rejected.total()}",
            f"unprocessed={ledger.unprocessed.total()}",
            f"expired={ledger.expired}",
            f"spilled={ledger.spilled.total()}",
            f"sampled_out={ledger.sampled_out.total()}",
            f"queued={self.buffer.queued}",
            f"in_flight={self.buffer.in_flight}",
            f"difference={self.difference()}",
            f"kernel_dropped={kernel_drops(self._udp)}",
        ]
        return " ".join(parts)

    def gauges(self) -> Mapping[str, tuple[str, float]]:
        """What /metrics shows beside the ledger."""
        return {
            "queued_documents": ("Documents waiting in memory.", self.buffer.queued),
            "in_flight_documents": ("Documents in requests under way.", self.buffer.in_flight),
            "ledger_difference": ("What the ledger's identity is off by.", self.difference()),
            "buffer_bytes": ("Bytes of memory held by documents.", self.buffer.bytes_held),
            "buffer_bytes_max": ("Bytes of memory documents may hold.", self.buffer.bytes_max),
            "receive_buffer_bytes": ("Kernel receive buffer granted, in bytes.", self.granted),
            "kernel_dropped_total": (
                "Datagrams the kernel dropped at the UDP socket.",
                kernel_drops(self._udp),
            ),
        }

    def _observe(self, documents: int, seconds: float) -> None:
        if self.observe is not None:
            self.observe(documents, seconds)

    def _receive(self, datagrams: list[bytes]) -> None:
        self.intake.take_datagrams(datagrams, self._loop.time())
        self.uploader.pump()

    def _log_refusal(self, reason: str, datagram: bytes) -> None:
        suppressed = self._throttle.allow(reason, self._loop.time())
        if suppressed is not None:
            start = printable(datagram.partition(b"\n")[0][:64].decode("latin-1"), 64)
            log.warning(
                "Datagram refused: %s (%d bytes, begins %s)%s",
                reason, len(datagram), start or "empty", suppressed,
            )  # fmt: skip

    def _log_spill(self, count: int) -> None:
        suppressed = self._throttle.allow("spill", self._loop.time())
        if suppressed is not None:
            log.warning("Segment dropped. Consider increasing memory limit%s", suppressed)
