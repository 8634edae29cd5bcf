"""From datagram to request: ledger, buffer, intake, receiver and uploader, put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from xrayd.custody import Custody, Found
from xrayd.logs import Throttle, printable
from xrayd.net.port import Address, UdpPort
from xrayd.net.sockets import write_address
from xrayd.net.udp import UdpReceiver
from xrayd.net.uploader import Caller, Uploader
from xrayd.relay.buffer import Buffer
from xrayd.relay.delivery import Pace
from xrayd.relay.intake import Intake
from xrayd.relay.ledger import Ledger
from xrayd.relay.segment import read_head
from xrayd.sieve import Sieve
from xrayd.spool.dead import DeadLetter, DeadLetters
from xrayd.spool.spool import Spool
from xrayd.spool.worker import Event, SpoolWorker

log = logging.getLogger("xrayd")

# What closing the spool may take of the time for an exit, and what sending has of it at least,
# however long senders go on.
_CLOSE_S = 2.0
_FLUSH_S = 1.0


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
        age_max_s: how long a document is held.
        sieve: samples documents on arrival; None where they are all taken.
    """

    def __init__(
        self,
        udp: socket.socket,
        client: Caller,
        *,
        refresh: Callable[[], None],
        concurrency: int,
        bytes_max: int,
        receive_buffer_bytes: int,
        linger_s: float = 1.0,
        age_max_s: float = 86_400.0,
        sieve: Sieve | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._throttle = Throttle()
        self.ledger = Ledger()
        self.buffer = Buffer(bytes_max, linger_s, age_max_s)
        self.port = UdpPort(udp, receive_buffer_bytes)
        self.custody = Custody(self.buffer, self.ledger, self._log_spill)
        self._sieve = sieve
        hold = self.custody.take
        intake = partial(Intake, self.ledger, self.buffer, on_refusal=self._log_refusals)
        if sieve is None:
            self.intake = intake(hold)
            self._flood_intake = intake(partial(hold, is_flood=True))
        else:
            sieve.attach(self.ledger, hold)
            # What is sampled is sent like all the rest, whoever sent it.
            self.intake = self._flood_intake = intake(hold, read=sieve.read, sift=sieve.taker)
        self.pace = Pace(concurrency, random.random)
        self.observe: Callable[[int, float], None] | None = None
        self.uploader = Uploader(
            self.buffer,
            client,
            self.ledger,
            self.pace,
            refresh=refresh,
            observe=self._observe,
            bury=self._bury,
            on_backlog_taken=self.custody.read_ahead,
        )
        self._worker: SpoolWorker | None = None
        self._is_closed = False
        self.receiver = UdpReceiver(
            self.port,
            self._receive,
            is_crowded=self._is_crowded,
            room=self.custody.room_for_floods,
            on_flood=self._log_flood,
        )

    def attach_spool(self, spool: Spool, dead: DeadLetters | None, begun_at: float) -> None:
        """Write documents to an open spool too, and send what was found in it.

        That came before `begun_at` (epoch seconds).
        """
        worker = SpoolWorker(spool, dead, self._tell)
        self._worker = worker
        found = Found(spool.recovered, spool.figures().next_seq, begun_at)
        self.custody.attach(worker, found, self.uploader.pump)

    def take_posted(self, documents: Sequence[bytes], too_large: int) -> bool:
        """Take documents that came over TCP; False where they do not fit, or it is too late."""
        if self._is_closed:
            return False
        taken = self.intake.take_posted(documents, too_large, self._loop.time())
        self._pass_on()
        return taken

    def difference(self) -> int:
        """What the ledger's identity is off by now."""
        return self.ledger.difference(self.queued + self.custody.spooled, self.buffer.in_flight)

    @property
    def queued(self) -> int:
        """Documents that wait in memory."""
        held = self._sieve.held if self._sieve is not None else 0
        return self.buffer.queued + self.custody.waiting + held

    async def look_after_held(self) -> None:
        """Decide in time for documents that wait for the rest of their trace, until cancelled."""
        if self._sieve is not None:
            await self._sieve.run(self._pass_on)

    async def look_after(self) -> None:
        """Give up what is too old, until cancelled."""
        while True:
            await asyncio.sleep(10.0)
            self.custody.expire(self._loop.time())

    async def drain(self, quiet_s: float, listen_s: float, deadline: float) -> None:
        """Listen until senders are quiet, empty the kernel's buffer, send what is held.

        `deadline` is in the loop's time. What cannot be sent until then stays in the spool, or is
        counted as spilled where there is none.
        """
        sent_until = deadline - (_CLOSE_S if self._worker else 0.0)
        begun = self._loop.time()
        end = min(begun + listen_s, sent_until - _FLUSH_S)
        self.uploader.send_at_once()
        while (now := self._loop.time()) < end:
            quiet_at = max(self.receiver.last_at, begun) + quiet_s
            if now >= quiet_at:
                break
            await asyncio.sleep(min(quiet_at, end) - now)
        self.receiver.stop()
        self._empty_kernel()
        await self.uploader.drain(sent_until - self._loop.time())
        self._empty_kernel()  # what came while that was sent is counted, and is the spool's
        if self._sieve is not None:
            self._sieve.exchange()
        self._is_closed = True
        self.custody.clear()
        if not await self.custody.close(_CLOSE_S):
            log.error("The spool's disk did not answer in time; its last documents may be lost")

    def _empty_kernel(self) -> None:
        """Take what the kernel holds, and decide for all of it."""
        # Not what a flood goes on adding: the kernel charges a datagram with more than its bytes,
        # and one drain takes a MiB of them, or thousands of tiny ones.
        for _ in range(2 + 2 * self.port.granted // (512 * 1024)):
            if not self.receiver.drain():
                break
        self._decide_all()

    def close(self, *, is_port_kept: bool) -> str:
        """Close the sockets opened beside the caller's; return where every document went.

        Where the port `is_port_kept` by somebody else, what has come since the drain waits there
        for the next start; else it is lost, and counted.
        """
        if not is_port_kept:
            self._empty_kernel()
            self.custody.clear()
        summary = self._summarise()
        self.port.close()
        return summary

    def _summarise(self) -> str:
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
            f"queued={self.queued}",
            f"spooled={self.custody.spooled}",
            f"in_flight={self.buffer.in_flight}",
            f"difference={self.difference()}",
            f"kernel_dropped={self.port.drops()}",
        ]
        return " ".join(parts)

    def gauges(self) -> Mapping[str, tuple[str, float]]:
        """What /metrics shows beside the ledger."""
        figures = self.custody.figures
        return {
            "spool_bytes": ("Bytes of the spool's files.", figures.bytes_on_disk if figures else 0),
            "spool_degraded": (
                "1 while the spool's disk does not work as it should.",
                float(figures is not None and figures.degraded is not None),
            ),
            "spool_corrupt_records_total": (
                "Records the spool lost to damage.",
                figures.corrupt_records if figures else 0,
            ),
            "queued_documents": ("Documents waiting in memory.", self.queued),
            "spooled_documents": ("Documents waiting on disk only.", self.custody.spooled),
            "in_flight_documents": ("Documents in requests under way.", self.buffer.in_flight),
            "ledger_difference": ("What the ledger's identity is off by.", self.difference()),
            "buffer_bytes": ("Bytes of memory held by documents.", self.buffer.bytes_held),
            "buffer_bytes_max": ("Bytes of memory documents may hold.", self.buffer.bytes_max),
            "receive_buffer_bytes": ("Kernel receive buffer granted, in bytes.", self.port.granted),
            "kernel_dropped_total": (
                "Datagrams the kernel dropped at the UDP socket.",
                self.port.drops(),
            ),
            "flooding_senders": (
                "Senders faster than they are read, which have a socket of their own.",
                self.port.apart,
            ),
        }

    def _observe(self, documents: int, seconds: float) -> None:
        if self.observe is not None:
            self.observe(documents, seconds)

    def _is_crowded(self) -> bool:
        return self.buffer.bytes_held > self.buffer.bytes_max * 3 // 4

    def _receive(self, documents: list[bytes], others: list[bytes], *, is_flood: bool) -> None:
        intake = self._flood_intake if is_flood else self.intake
        intake.take_datagrams(documents, others, self._loop.time())
        self._pass_on()

    def _pass_on(self) -> None:
        """Documents came in or were decided: to the disk and to the uploader with them."""
        if self._sieve is not None:
            self._sieve.release()
        self.custody.commit()
        self.uploader.pump()

    def _decide_all(self) -> None:
        if self._sieve is not None:
            self._sieve.release_all()
            self._pass_on()

    def _tell(self, event: Event) -> None:
        """Bring an event of the spool's thread to the loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed; nobody is left to tell
            self._loop.call_soon_threadsafe(self._take_event, event)

    def _take_event(self, event: Event) -> None:
        was = self.custody.figures.degraded if self.custody.figures else None
        self.custody.handle(event)
        now = self.custody.figures.degraded if self.custody.figures else None
        if now != was:
            if now is None:
                log.info("The spool works again")
            else:
                log.error("The spool cannot be written (%s); documents stay in memory", now)

    def _bury(self, document: bytes, code: str, message: str) -> None:
        """Keep a refused document where there is a spool to keep it in."""
        if self._worker is not None:
            head = read_head(document)
            trace_id = head.trace_id if head is not None else ""
            self._worker.keep_dead(
                DeadLetter(time.time(), "unprocessed", code, message, trace_id, document)
            )

    def _log_refusals(self, reason: str, datagrams: Sequence[bytes]) -> None:
        for number, datagram in enumerate(datagrams):
            suppressed = self._throttle.allow(reason, self._loop.time())
            if suppressed is None:
                self._throttle.suppress(reason, len(datagrams) - number - 1)
                return
            start = printable(datagram.partition(b"\n")[0][:64].decode("latin-1"), 64)
            log.warning(
                "Datagram refused: %s (%d bytes, begins %s)%s",
                reason, len(datagram), start or "empty", suppressed,
            )  # fmt: skip

    def _log_flood(self, sender: Address) -> None:
        suppressed = self._throttle.allow("flood", self._loop.time())
        if suppressed is not None:
            log.warning(
                "Flood from %s: it sends faster than is read, so it is read behind all others%s",
                write_address(*sender[:2]), suppressed,
            )  # fmt: skip

    def _log_spill(self, count: int) -> None:
        suppressed = self._throttle.allow("spill", self._loop.time())
        if suppressed is not None:
            log.warning("Segment dropped. Consider increasing memory limit%s", suppressed)
