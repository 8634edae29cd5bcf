"""Each arriving trace as one readable line."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Sequence

from xrayd.dev.model import Trace
from xrayd.dev.store import Store
from xrayd.dev.traces import GRACE_S
from xrayd.errors import StoreError
from xrayd.logs import printable

log = logging.getLogger("xrayd.traces")

# A trace's documents come from several processes; a line is written when they have paused.
_QUIET_S = 0.3
# Nobody reads faster than this, and each line takes putting a trace together.
_ONCE_MAX = 20
# Waiting traces take memory.
_WAITING_MAX = 2000


class TraceFeed:
    """Writes a line for each trace some moments after its documents stopped coming.

    Args:
        store: where traces are read from.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._touched: dict[str, float] = {}
        self._passed_over = 0
        self._wake = asyncio.Event()

    def note(self, trace_ids: Sequence[str]) -> None:
        """Documents of these traces were stored; called in any thread."""
        self._loop.call_soon_threadsafe(self._note, trace_ids)

    async def run(self) -> None:
        """Write lines until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._touched:
                await asyncio.sleep(_QUIET_S / 2)
                quiet_since = self._loop.time() - _QUIET_S
                ready = [i for i, at in self._touched.items() if at <= quiet_since][:_ONCE_MAX]
                for trace_id in ready:
                    del self._touched[trace_id]
                for line in await asyncio.to_thread(self._describe, ready):
                    log.info("%s", line, extra={"is_plain": True})
                if self._passed_over:
                    log.info("… %d arrivals more than can be shown", self._passed_over)
                    self._passed_over = 0

    def _note(self, trace_ids: Sequence[str]) -> None:
        now = self._loop.time()
        for trace_id in trace_ids:
            if len(self._touched) < _WAITING_MAX or trace_id in self._touched:
                self._touched[trace_id] = now
            else:
                self._passed_over += 1
        self._wake.set()

    def _describe(self, trace_ids: list[str]) -> list[str]:
        try:
            stored = self._store.load(trace_ids)
        except StoreError as error:  # a line less is no reason to stop taking documents
            return [f"… {len(trace_ids)} traces not shown: {error}"]
        # As it will be read: parents that are still missing have their placeholders.
        traces = [one.compile(one.touched_at + GRACE_S) for one in stored.values()]
        return [describe(trace) for trace in sorted(traces, key=lambda trace: trace.start)]


def describe(trace: Trace) -> str:
    """Time, id, services, status and duration of a trace."""
    services = [node.name for node in trace.nodes if node.type != "client"]
    return "  ".join(
        (
            _clock_time(trace.start),
            trace.id,
            f"{_status(trace):<12}",
            f"{_duration(trace):>8}",
            printable(" → ".join(services) or "(no service yet)", 160),
        )
    )


def _clock_time(epoch_s: float) -> str:
    """Local time of day; dashes for a moment no calendar has, for senders may write any number."""
    try:
        return dt.datetime.fromtimestamp(epoch_s, dt.UTC).astimezone().strftime("%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def _status(trace: Trace) -> str:
    """A word and, where there is one, the root's HTTP status."""
    status = trace.root.status if trace.root is not None else None
    number = f" {status}" if status else ""
    if trace.has_fault:
        return "FAULT" + number
    if trace.has_throttle:
        return "THROTTLE" + number
    if trace.has_error:
        return "ERROR" + number
    return ("partial" if trace.is_partial else "ok") + number


def _duration(trace: Trace) -> str:
    seconds = trace.duration
    if seconds < 10:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 1e6 else f"{seconds:.0e} s"
