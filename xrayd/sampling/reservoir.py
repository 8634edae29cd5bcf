"""The reservoir of one rule in one sampler: so many requests a second before the fixed rate is
asked.

Semantics are those of the X-Ray SDKs (X-Ray Developer Guide, "Using sampling rules with the X-Ray
API"): without a valid quota one request a second is borrowed if the rule has a reservoir at all;
with one, up to the quota is taken.
"""

from __future__ import annotations

from enum import StrEnum

CLOCK_JITTER_S = 5
"""A clock that steps back by no more than this is waited for: no second is served twice. A larger
step is believed.
"""


class Draw(StrEnum):
    """What asking the reservoir for a request gave."""

    TAKEN = "taken"
    BORROWED = "borrowed"
    NOTHING = "nothing"


# Looking up a member of an enum costs more than the rest of a draw.
_TAKEN, _BORROWED, _NOTHING = Draw


class Reservoir:
    """Counts the requests let through in the current second.

    Borrowed and taken requests count together, so a quota that arrives within a second adds nothing
    to what that second already gave.

    Attributes:
        empty_at: when a draw last gave nothing: another at that time gives nothing either.
    """

    __slots__ = ("_can_borrow", "_loaded_at", "_quota", "_second", "_ttl", "_used", "empty_at")

    def __init__(self, size: int) -> None:
        self._can_borrow = size > 0
        self._quota = 0
        self._ttl = -1.0
        self._loaded_at = 0.0
        self._second = -1
        self._used = 0
        self.empty_at = -1.0

    def resize(self, size: int) -> None:
        """Follow a changed `ReservoirSize`: only whether it is zero matters here, quotas come from
        the broker.
        """
        self._can_borrow = size > 0
        self.empty_at = -1.0

    def load(self, quota: int, ttl: float, now: float) -> None:
        """Take over a quota.

        Args:
            quota: requests a second.
            ttl: epoch seconds, the last second in which the quota counts.
            now: epoch seconds.
        """
        self._quota, self._ttl, self._loaded_at = quota, ttl, now
        self.empty_at = -1.0

    def draw(self, now: float) -> Draw:
        """Ask for one request at `now` (epoch seconds)."""
        second = int(now)
        if second > self._second:
            self._second, self._used = second, 0
        elif second < self._second:
            if second >= self._second - CLOCK_JITTER_S:
                return _NOTHING  # this second has had its share
            self._second = second  # what was used stays used until the next second
        # A quota from the future was loaded before the clock stepped back: its age is unknown.
        if self._second <= self._ttl and now >= self._loaded_at - CLOCK_JITTER_S:
            if self._used < self._quota:
                self._used += 1
                return _TAKEN
        elif self._can_borrow and not self._used:
            self._used = 1
            return _BORROWED
        self.empty_at = now
        return _NOTHING
