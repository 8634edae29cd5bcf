"""Requests that can wait a moment are answered together, so that they share what waking up costs.

A process that sleeps from one request to the next finds its caches cold each time, and then the
same work takes several times as long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from xrayd.net.http_messages import SMALL_BODY_BYTES, Response

_WAITING_MAX = 16
"""Who waits is nobody who could make room: of a few hundred connections, or of memory, so little
waits that others do not feel it. And more than that share a wake-up anyway.
"""


class Coalescer:
    """Answers a request at once after a quiet time, and then pauses before it answers more.

    Args:
        answer: answers a request by its body.
        pause_s: seconds; as long a request waits at most.
    """

    def __init__(self, answer: Callable[[bytes], Response], pause_s: float) -> None:
        self._answer = answer
        self._pause_s = pause_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, asyncio.Future[Response]]] = deque()
        self._is_pausing = False
        self._waiting_max = _WAITING_MAX

    def ask(self, body: bytes) -> Response | asyncio.Future[Response]:
        """The answer, now or at the end of the pause."""
        if (
            self._is_pausing
            and len(self._waiting) < self._waiting_max
            and len(body) <= SMALL_BODY_BYTES  # a larger one would keep room from others
        ):
            answered = self._loop.create_future()
            self._waiting.append((body, answered))
            return answered
        if not self._is_pausing:
            self._pause()
        return self._answer(body)

    def end(self) -> None:
        """Answer all who wait, and from now on everybody at once."""
        self._waiting_max = 0
        while self._waiting:
            self._answer_next()

    def _pause(self) -> None:
        self._is_pausing = True
        self._loop.call_later(self._pause_s, self._end_pause)

    def _end_pause(self) -> None:
        if self._waiting:
            self._answer_waiting(len(self._waiting))
        else:
            self._is_pausing = False

    def _answer_waiting(self, count: int) -> None:
        """Answer so many, each in a turn of the loop, so that others get theirs."""
        if count and self._waiting:
            self._answer_next()
            self._loop.call_soon(self._answer_waiting, count - 1)
        else:
            self._pause()

    def _answer_next(self) -> None:
        body, answered = self._waiting.popleft()
        answer = self._answer(body)  # whoever has gone meanwhile has said it all the same
        if not answered.cancelled():
            answered.set_result(answer)
