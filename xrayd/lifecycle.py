"""Background tasks, signals, and what happens when something fails that must not."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
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


class Signals:
    """SIGTERM and SIGINT, of which the first is waited for and a second forces, and SIGHUP.

    They are heeded from here on, those that came since `hold_signals` included.

    Attributes:
        arrived_at: when the first came, in the loop's time.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Future[str] = self._loop.create_future()
        self.arrived_at = 0.0
        self._on_hangup: Callable[[], None] | None = None
        for number, name in ((signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")):
            _on_signal(self._loop, number, partial(self._arrive, name))
        if hasattr(signal, "SIGHUP"):  # its default is to end the process, with all it holds
            self._loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self._loop.set_exception_handler(lambda _, context: _crash(context))
        threading.excepthook = lambda failed: _crash(
            {
                "message": f"thread {failed.thread and failed.thread.name}",
                "exception": failed.exc_value,
            }
        )
        _mask_signals(is_held=False)

    async def wait(self, group: Group, on_hangup: Callable[[], None]) -> str:
        """Wait for SIGTERM or SIGINT, or for a background task to fail; return which it was.

        `on_hangup` is called at each SIGHUP.
        """
        self._on_hangup = on_hangup
        await asyncio.wait((self._arrived, group.failed), return_when=asyncio.FIRST_COMPLETED)
        if group.failed.done():
            group.failed.result()
        return self._arrived.result()

    async def outlasts(self, work: asyncio.Future[Any], patience_s: float) -> bool:
        """Wait until work is done, for at most `patience_s` after a signal to end; False then."""
        await asyncio.wait((work, self._arrived), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            await asyncio.wait((work,), timeout=patience_s)
        return work.done()

    def _arrive(self, name: str) -> None:
        now = self._loop.time()
        if not self._arrived.done():
            self.arrived_at = now
            self._arrived.set_result(name)
        elif now - self.arrived_at > _SAME_SIGNAL_S:
            os._exit(1)

    def _hang_up(self) -> None:
        if self._on_hangup is not None:  # else the settings were read this moment
            self._on_hangup()


def hold_signals() -> None:
    """Let signals wait until somebody heeds them, for what is sent meanwhile lies in the kernel."""
    _mask_signals(is_held=True)


def _mask_signals(*, is_held: bool) -> None:
    if sys.platform != "win32":  # which has nothing of the kind
        held = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK if is_held else signal.SIG_UNBLOCK, held)


def _on_signal(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, call: Callable[[], None]
) -> None:
    try:
        loop.add_signal_handler(number, call)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))


def _crash(context: Mapping[str, object]) -> None:
    """A callback or a thread failed: that is a bug, and a process that goes on would hide it."""
    error = context.get("exception")
    sys.stderr.write(f"xrayd: bug: {context.get('message')}\n")
    if isinstance(error, BaseException):
        traceback.print_exception(error)
    os._exit(70)  # EX_SOFTWARE


def run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, on uvloop where it exists."""
    with _runner() as runner:
        runner.run(work)


def run_daemon(work: Coroutine[Any, Any, None], last: Callable[[], None]) -> None:
    """Run a coroutine to its end, then `last`, and end the process at once, with exit code 0.

    Python would wait for every thread first, but one may hang on what is not ours: a program that
    is to give credentials, a metadata service, a name server, a disk.
    """
    with _runner() as runner:
        runner.run(work)
        last()
        os._exit(0)


def _runner() -> asyncio.Runner:
    # What is imported stays, and documents are no containers: looking at all of it again and again
    # for cycles was 2 % of a flood.
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    return asyncio.Runner(loop_factory=_loop_factory())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - does not exist on Windows
    except ImportError:
        return asyncio.SelectorEventLoop  # Windows' own default cannot watch a socket
    return uvloop.new_event_loop
