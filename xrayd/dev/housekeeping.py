"""What `xrayd dev` does beside its requests: putting traces together, and forgetting old ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from xrayd.dev.api import XRayApi
from xrayd.dev.database import Database
from xrayd.errors import StoreError
from xrayd.logs import Throttle, printable

log = logging.getLogger("xrayd")

_COMPILE_S = 0.5
_WRITE_BACK_S = 0.5
_RETAIN_S = 60.0
_WARNINGS_S = 30.0
# Where documents come faster than they can be put together, storing them comes first: compiling
# takes this share of the time, in short turns, and catches up when there are fewer.
_BUSY_PER_S = 2000.0
_BUSY_SHARE = 0.2
_BUSY_TRACES = 50
_TRACES = 200


async def keep_house(
    api: XRayApi, keep_s: float, keep_bytes: int, on_caught_up: Callable[[], None]
) -> None:
    """Compile traces as they come, and forget old ones, until cancelled.

    A store that fails is tried again; what is wrong with it is logged now and then.

    Args:
        api: the endpoint whose traces they are.
        keep_s: seconds since its last document after which a trace goes.
        keep_bytes: bytes of data and indexes above which the oldest traces go.
        on_caught_up: told when every trace can be read again, where that took more than one turn.
    """
    loop = asyncio.get_running_loop()
    throttle = Throttle(lines=1, seconds=_WARNINGS_S)
    intake = api.backend.intake
    is_busy = is_behind = False
    looked_at = retain_at = loop.time()
    seen = intake.documents
    while True:
        began = loop.time()
        done = 0
        limit = _BUSY_TRACES if is_busy else _TRACES
        try:
            done = await asyncio.to_thread(api.compile_due, limit)
            if done:
                is_behind = is_behind or done >= limit
            elif is_behind:
                is_behind = False
                on_caught_up()
            # in turns: neither waits until there is nothing left of the other
            if loop.time() >= retain_at:
                forgotten = await asyncio.to_thread(
                    api.retain, age_s_max=keep_s, bytes_max=keep_bytes
                )
                done += forgotten
                if not forgotten:
                    retain_at = loop.time() + _RETAIN_S
        except StoreError as error:
            _warn(throttle, "Traces are not prepared for reading", error)
        now = loop.time()
        if not done:
            await asyncio.sleep(_COMPILE_S)
        elif is_busy:
            await asyncio.sleep((now - began) * (1 / _BUSY_SHARE - 1))
        if now - looked_at >= _COMPILE_S:
            is_busy = intake.documents - seen > _BUSY_PER_S * (now - looked_at)
            looked_at, seen = now, intake.documents


async def write_back(database: Database) -> None:
    """Spare those who commit the wait for the disk, until cancelled."""
    throttle = Throttle(lines=1, seconds=_WARNINGS_S)
    while True:
        try:
            await asyncio.to_thread(database.checkpoint)
        except StoreError as error:
            _warn(throttle, "The database's log is not written back", error)
        await asyncio.sleep(_WRITE_BACK_S)


def _warn(throttle: Throttle, what: str, error: StoreError) -> None:
    suppressed = throttle.allow(what, asyncio.get_running_loop().time())
    if suppressed is not None:
        log.warning("%s: %s; tried again%s", what, printable(str(error), 300), suppressed)
