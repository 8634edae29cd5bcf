"""Takes batches from the buffer and delivers them: a slot first, then a batch, then an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from xrayd.errors import FailureKind, UpstreamError
from xrayd.logs import Throttle, printable
from xrayd.relay import delivery
from xrayd.relay.buffer import Batch, Buffer, halves
from xrayd.relay.delivery import Answer, Pace, ResponseTimeout, Verdict
from xrayd.relay.ledger import Ledger
from xrayd.relay.segment import read_head, to_text

log = logging.getLogger("xrayd.uploader")

_TRANSIENT_PAUSE_S = 1.0
_BACKLOG_SHARE = 0.3
_SILENCE_S = 2.0
# One bad document among 50 is refused seven times before it stands alone, and its neighbours are
# taken meanwhile. Where everything is refused, no document is to blame.
_REFUSED_IN_ROW_MAX = 12

_encode_body = msgspec.json.Encoder().encode


class Caller(Protocol):
    """Makes calls of one X-Ray: over the network, or in this process."""

    async def call(self, path: str, body: bytes, timeout_s: float) -> Answer:
        """POST a JSON body to an operation's path; return whatever was answered.

        Raises:
            UpstreamError: no answer came; its kind says why.
        """

    def correct_clock(self, answer: Answer) -> None:
        """Believe the clock of an answer that says ours is wrong."""


class Uploader:
    """Sends what the buffer holds, at the pace the service allows.

    Args:
        buffer: where batches come from.
        client: makes the calls.
        ledger: where outcomes are counted.
        pace: decides when a request may start.
        refresh: asks for new credentials.
        observe: told documents and seconds of each answered request, for metrics.
        bury: keeps a document that X-Ray refused for good, with its code and message.
        on_backlog_taken: told that a batch read back from the spool is on its way.
    """

    def __init__(
        self,
        buffer: Buffer,
        client: Caller,
        ledger: Ledger,
        pace: Pace,
        *,
        refresh: Callable[[], None],
        observe: Callable[[int, float], None],
        bury: Callable[[bytes, str, str], None],
        on_backlog_taken: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._client = client
        self._ledger = ledger
        self._pace = pace
        self._refresh = refresh
        self._observe = observe
        self._bury = bury
        self._on_backlog_taken = on_backlog_taken
        self._loop = asyncio.get_running_loop()
        self._timeout = ResponseTimeout()
        self._sending: dict[asyncio.Task[None], Batch] = {}
        self._was_backlog = False
        self._answered_at = self._started_at = self._loop.time()
        self._answered_start = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._throttle = Throttle()
        self._failures = Throttle(lines=3, seconds=30.0)
        self._refused_in_row = 0
        self._linger = True
        self._is_ready = False
        self._idle = asyncio.Event()

    def open(self) -> None:
        """Begin to send; called once there is an identity."""
        self._is_ready = True
        self.pump()

    def pump(self) -> None:
        """Start every request that may start now, and see to it that the next one will."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while True:
            now = self._loop.time()
            due = self._due_in(now)
            if due is None and not self._sending:
                self._idle.set()
            if due is None or not self._is_ready:
                return
            wait = self._pace.wait_s(now, self._in_flight())
            if wait is None:
                wait = self._extra_slot_in(now)
            if wait is None:
                return  # the end of a request pumps again
            pause = max(wait, due)
            if pause > 0.0:
                self._timer = self._loop.call_later(pause, self.pump)
                return
            batch = self._next_batch(now)
            if batch is None:
                return
            self._idle.clear()
            self._pace.start()
            self._started_at = batch.sent_at = now
            task = self._loop.create_task(self._send(batch))
            self._sending[task] = batch
            task.add_done_callback(self._ended)

    def _in_flight(self) -> int:
        """Requests that take a slot: not those which later ones have overtaken by seconds.

        They hang, each for as long as an answer is waited for; the service is well again.
        """
        stuck_before = self._answered_start - _SILENCE_S
        young = sum(batch.sent_at >= stuck_before for batch in self._sending.values())
        return max(young, len(self._sending) - self._pace.concurrency)

    def _extra_slot_in(self, now: float) -> float | None:
        """Seconds until a request may start though every slot is taken; None for never.

        A service that hangs takes all slots for as long as answers are waited for. One more
        request every two seconds finds out soon that it is back, unless it has asked for patience.
        """
        if len(self._sending) >= 2 * self._pace.concurrency:
            return None
        silent_at = max(self._answered_at, self._started_at) + _SILENCE_S
        return max(0.0, silent_at - now, self._pace.asked_wait_s(now))

    def _due_in(self, now: float) -> float | None:
        """Seconds until a batch may be sent, None where nothing waits."""
        live = self._buffer.due_in(now)
        if self._buffer.backlog_batches and self._backlog_may_go(live):
            return 0.0
        return live if live is None or self._linger else 0.0

    def _backlog_may_go(self, live: float | None) -> bool:
        """Live documents keep seven slots of ten while there are any; else backlog has them all."""
        if live is None and not self._buffer.in_flight:
            return True
        flying = sum(batch.is_backlog for batch in self._sending.values())
        has_live = live is not None or flying < len(self._sending)
        share = max(1, int(self._pace.concurrency * _BACKLOG_SHARE))
        return flying < share or not has_live

    def _next_batch(self, now: float) -> Batch | None:
        live = self._buffer.due_in(now)
        is_live_due = live is not None and (live <= 0.0 or not self._linger)
        # One slot only, or one probe: they take turns.
        if is_live_due and (self._was_backlog or not self._backlog_may_go(live)):
            self._was_backlog = False
            return self._buffer.take(now, linger=self._linger)
        batch = self._buffer.take_backlog(now) if self._backlog_may_go(live) else None
        if batch is not None:
            self._was_backlog = True
            self._on_backlog_taken()
            return batch
        return self._buffer.take(now, linger=self._linger)

    def send_at_once(self) -> None:
        """Wait no more for batches to fill."""
        self._linger = False
        self.pump()

    async def drain(self, seconds: float) -> None:
        """Send what is held in memory, for at most `seconds`, and then nothing any more."""
        self._idle.clear()
        self.pump()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("could not send everything within %.1f seconds", seconds)
        self._is_ready = False
        for task in list(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        batch = self._sending.pop(task)
        self._answered_at = self._loop.time()
        if task.cancelled():
            self._buffer.put_back(batch, 0.0)
            return
        if task.exception() is not None:
            # A bug: let the loop's exception handler end the process loudly.
            raise task.exception()  # type: ignore[misc]
        self.pump()

    async def _send(self, batch: Batch) -> None:
        body = self._encode(batch)
        started = self._loop.time()
        batch.attempts += 1
        try:
            answer = await self._client.call("/TraceSegments", body, self._timeout.seconds)
        except UpstreamError as error:
            self._count_failure(error.kind)
            if error.kind is FailureKind.TIMEOUT:
                self._timeout.expired()
            if error.kind is FailureKind.TOO_LARGE:
                self._doubt(batch, str(error), self._loop.time() - started)
            else:
                self._hold(batch, str(error))
            return
        elapsed = self._loop.time() - started
        self._timeout.answered(elapsed)
        self._apply(batch, answer, elapsed)

    def _encode(self, batch: Batch) -> bytes:
        try:
            texts = [document.decode() for document in batch.documents]
        except UnicodeDecodeError:
            pairs = [to_text(document) for document in batch.documents]
            texts = [text for text, _ in pairs]
            if not batch.attempts:
                self._ledger.not_utf8 += sum(is_replaced for _, is_replaced in pairs)
        return _encode_body({"TraceSegmentDocuments": texts})

    def _apply(self, batch: Batch, answer: Answer, elapsed: float) -> None:
        verdict, unprocessed = delivery.judge(answer)
        now = self._loop.time()
        if answer.status != 200:
            self._count_status(answer.status)
        else:
            self._observe(len(batch.documents), elapsed)
        what = f"HTTP {answer.status} {answer.error_type}".strip()
        match verdict:
            case Verdict.SENT:
                self._refused_in_row = 0
                self._answered_start = max(self._answered_start, batch.sent_at)
                self._pace.succeed(now)
                self._settle(batch, unprocessed, elapsed)
            case Verdict.SPLIT:
                self._refused_in_row += 1
                if self._refused_in_row > _REFUSED_IN_ROW_MAX:
                    self._hold(batch, f"{what}: {_excerpt(answer.body)}")
                else:
                    self._pace.succeed(now)
                    self._split(batch, answer, what)
            case Verdict.UNREADABLE:
                self._doubt(batch, "answered 200 with a body that is not X-Ray's", elapsed)
            case Verdict.THROTTLED:
                self._hold(batch, what, answer.retry_after_s, throttled=True)
            case Verdict.REFRESH:
                self._refresh()
                self._hold(batch, f"{what}: {_excerpt(answer.body)}")
            case Verdict.RESIGN:
                self._client.correct_clock(answer)
                self._hold(batch, f"clock is off by {answer.clock_off_s:.0f} seconds; corrected")
            case Verdict.RETRY:
                self._hold(batch, what, answer.retry_after_s)

    def _doubt(self, batch: Batch, why: str, elapsed: float) -> None:
        """A 200 that does not say what became of the batch: try again, but not for ever."""
        batch.doubts += 1
        if batch.doubts < delivery.UNREADABLE_TRIES:
            self._hold(batch, why)
            return
        self._pace.succeed(self._loop.time())
        self._ledger.unread_answers += 1
        self._settle(batch, [], elapsed)

    def _settle(
        self, batch: Batch, unprocessed: list[delivery.Unprocessed], elapsed: float
    ) -> None:
        """Count a batch that was answered 200."""
        count = len(batch.documents)
        suppressed = self._throttle.allow("sent", self._loop.time())
        if not unprocessed:
            self._ledger.sent += count
            self._buffer.settle(batch)
            if suppressed is not None:
                log.info(
                    "Successfully sent batch of %d segments (%.3f seconds)%s",
                    count, elapsed, suppressed,
                )  # fmt: skip
            return
        if suppressed is not None:
            log.info(
                "Sent batch of %d segments but had %d Unprocessed segments (%.3f seconds)%s",
                count, len(unprocessed), elapsed, suppressed,
            )  # fmt: skip
        batch.refusals += 1
        matched = delivery.match_unprocessed(batch.documents, unprocessed)
        transient: list[int] = []
        for position, entry in matched.entries.items():
            document = batch.documents[position]
            is_final = delivery.is_permanent(entry.error_code)
            if is_final or batch.refusals >= delivery.TRANSIENT_TRIES:
                self._refuse(document, entry.error_code, entry.message)
            else:
                transient.append(position)
        again = [transient] if transient else []
        if matched.unmatched:
            # Which ones AWS means can only be found by asking again in smaller batches; those it
            # has taken already are the same to it when they come twice.
            again += halves([p for p in range(count) if p not in matched.entries])
        held = sum(map(len, again))
        refused = len(matched.entries) - len(transient)
        self._ledger.sent += count - refused - held
        now = self._loop.time()
        self._buffer.divide(batch, again, now + (_TRANSIENT_PAUSE_S if transient else 0.0))

    def _refuse(self, document: bytes, code: str | None, message: str | None) -> None:
        """Count one document that AWS will not have, keep it, and say which it was."""
        self._ledger.count_unprocessed(code or "unknown")
        self._bury(document, code or "", message or "")
        suppressed = self._throttle.allow("unprocessed", self._loop.time())
        if suppressed is not None:
            head = read_head(document)
            log.warning(
                "Unprocessed segment: %s: %s (trace %s, segment %s, service %s)%s",
                printable(code or "no code"),
                printable(message or "no message"),
                printable(head.trace_id if head else "?"),
                printable(head.id if head else "?"),
                printable(head.name if head else "?"),
                suppressed,
            )

    def _split(self, batch: Batch, answer: Answer, what: str) -> None:
        """Halve a batch that was refused whole, until what is to blame stands alone."""
        why = f"{what}: {_excerpt(answer.body)}"
        if answer.status == 413:
            self._buffer.limit_batches(batch.size // 2)
        if len(batch.documents) > 1:
            suppressed = self._failures.allow(what, self._loop.time())
            if suppressed is not None:
                log.warning("Sending segment batch failed with: %s; split%s", why, suppressed)
            self._buffer.divide(batch, halves(range(len(batch.documents))), self._loop.time())
            return
        if answer.status == 413:  # it was this document, not the size of the batches it was in
            self._buffer.lift_limit()
        self._refuse(batch.documents[0], answer.error_type or f"HTTP{answer.status}", why)
        self._buffer.settle(batch)

    def _hold(
        self, batch: Batch, why: str, retry_after_s: float = 0.0, *, throttled: bool = False
    ) -> None:
        """Keep a batch for another try."""
        now = self._loop.time()
        not_before = self._pace.fail(now, retry_after_s, throttled=throttled)
        self._buffer.put_back(batch, not_before)
        suppressed = self._failures.allow(why[:40], now)
        if suppressed is not None:
            log.error("Sending segment batch failed with: %s; held%s", why, suppressed)

    def _count_status(self, status: int) -> None:
        errors = self._ledger.connection_errors
        if 400 <= status < 500:
            errors.http_4xx += 1
        elif status >= 500:
            errors.http_5xx += 1
        else:
            errors.other += 1

    def _count_failure(self, kind: FailureKind) -> None:
        errors = self._ledger.connection_errors
        match kind:
            case FailureKind.TIMEOUT:
                errors.timeout += 1
            case FailureKind.REFUSED:
                errors.refused += 1
            case FailureKind.UNKNOWN_HOST:
                errors.unknown_host += 1
            case _:
                errors.other += 1


def _excerpt(body: bytes) -> str:
    return printable(body[:300].decode("utf-8", "replace"))
