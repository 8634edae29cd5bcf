"""Whether the disk can be relied on at the moment, and when to try it again."""

from __future__ import annotations

from typing import Final

from xrayd.spool.report import Degraded

RETRY_S: Final = 1.0
"""How long a disk that failed is left alone."""


class Health:
    """What the last fault was, and for how long it matters.

    Attributes:
        degraded: Why the spool is not working as it should, or None if it is.
        faults: How often the disk failed.
    """

    def __init__(self) -> None:
        self.degraded: Degraded | None = None
        self.faults = 0
        self._fault_at = 0.0
        self._is_refusing = False

    def note(self, reason: Degraded, now: float, *, refuse: bool = False) -> None:
        """Note a fault. With `refuse`, nothing is to be appended before it is time to try again."""
        self.degraded = reason
        self.faults += 1
        self._fault_at = now
        self._is_refusing = refuse

    def refuses(self, now: float) -> bool:
        """Whether it is too early to append again."""
        return self._is_refusing and not self.is_time_to_try(now)

    def is_time_to_try(self, now: float) -> bool:
        """Whether the last fault, if any, is long enough ago. A clock set back does not matter."""
        return self.degraded is None or not 0 <= now - self._fault_at < RETRY_S

    def clear(self) -> None:
        """All is well again."""
        self.degraded = None
        self._is_refusing = False
