"""Background tasks, signals, and what happens when something fails that must not."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Self

# timeout(1) and terminals signal a process and its group: that is one signal, not two.
_SAME_SIGNAL_S = 0.2


class Group:
    """Background tasks; the first that fails ends the daemon with its error."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine until the group ends."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None and not self.failed.done():
            self.failed.set_exception(task.exception())  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def shutdown_signal(group: Group, on_hangup: Callable[[], None]) -> str:
    """Wait for SIGTERM or SIGINT, or for a background task to fail. A second signal forces.

    `on_hangup` is called at each SIGHUP.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[str] = loop.create_future()

    arrived_at = 0.0

    def arrive(name: str) -> None:
        nonlocal arrived_at
        if not arrived.done():
            arrived_at = time.monotonic()
            arrived.set_result(name)
        elif time.monotonic() - arrived_at > _SAME_SIGNAL_S:
            os._exit(1)

    for number, name in ((signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")):
        _on_signal(loop, number, partial(arrive, name))
    if hasattr(signal, "SIGHUP"):  # its default is to end the process, with all it holds
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    loop.set_exception_handler(lambda _, context: _crash(context))
    await asyncio.wait((arrived, group.failed), return_when=asyncio.FIRST_COMPLETED)
    if group.failed.done():
        group.failed.result()
    return arrived.result()


def _on_signal(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, call: Callable[[], None]
) -> None:
    try:
        loop.add_signal_handler(number, call)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))


def _crash(context: Mapping[str, object]) -> None:
    """A callback failed: that is a bug, and a process that goes on would hide it."""
    error = context.get("exception")
    sys.stderr.write(f"xrayd: bug: {context.get('message')}\n")
    if isinstance(error, BaseException):
        traceback.print_exception(error)
    os._exit(70)  # EX_SOFTWARE


def run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, on uvloop where it exists."""
    # What is imported stays, and documents are no containers: looking at all of it again and again
    # for cycles was 2 % of a flood.
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(work)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - does not exist on Windows
    except ImportError:
        return asyncio.SelectorEventLoop  # Windows' own default cannot watch a socket
    return uvloop.new_event_loop
