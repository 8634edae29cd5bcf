"""What was sampled, in windows of ten seconds: the data of GetSamplingStatisticSummaries.

Sources: botocore model, AWS X-Ray Developer Guide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct, field

from xrayd.sampling.report import COUNT_MAX, Statistics

WINDOW_S = 10
KEPT_S = 3_600
"""The last hour is kept."""

_CLOCKS_APART_S = 60
"""A client's timestamp further from ours than this is not believed."""


class Counts:
    """Requests that matched a rule, and of them those sampled and those sampled on borrowed
    reservoir.

    No Struct, whose fields take twice as long to set.
    """

    __slots__ = ("borrowed", "requests", "sampled")

    def __init__(self, requests: int = 0, sampled: int = 0, borrowed: int = 0) -> None:
        self.requests = requests
        self.sampled = sampled
        self.borrowed = borrowed

    def add(self, more: Counts | Statistics) -> None:
        """Count more of each."""
        self.requests += more.requests
        self.sampled += more.sampled
        self.borrowed += more.borrowed


class Summary(Struct, frozen=True):
    """One `SamplingStatisticSummary`: all clients of one rule in the ten seconds from `timestamp`
    (epoch seconds).
    """

    rule_name: str = field(name="RuleName")
    timestamp: float = field(name="Timestamp")
    requests: int = field(name="RequestCount")
    borrowed: int = field(name="BorrowCount")
    sampled: int = field(name="SampledCount")


class Windows:
    """Counts per window and rule for the last hour."""

    def __init__(self) -> None:
        self._windows: dict[int, defaultdict[str, Counts]] = {}

    def add(self, rows: Iterable[Statistics], now: float) -> None:
        """Count what a client reported, at its own time, or at `now` if that cannot be meant."""
        for row in rows:
            self._window(row.timestamp, now)[row.rule_name].add(row)

    def summaries(self, now: float) -> list[Summary]:
        """The last hour, oldest first, only where there were requests."""
        self._drop_old(now)
        return [
            Summary(
                rule_name,
                float(start),
                min(counts.requests, COUNT_MAX),
                min(counts.borrowed, COUNT_MAX),
                min(counts.sampled, COUNT_MAX),
            )
            for start, window in sorted(self._windows.items())
            for rule_name, counts in sorted(window.items())
            if counts.requests or counts.sampled or counts.borrowed
        ]

    def _window(self, at: float | None, now: float) -> defaultdict[str, Counts]:
        if at is None or abs(at - now) > _CLOCKS_APART_S:
            at = now
        start = int(at) // WINDOW_S * WINDOW_S
        window = self._windows.get(start)
        if window is None:
            self._drop_old(now)
            window = self._windows[start] = defaultdict(Counts)
        return window

    def _drop_old(self, now: float) -> None:
        for start in [start for start in self._windows if not _is_kept(start, now)]:
            del self._windows[start]


def _is_kept(start: int, now: float) -> bool:
    # The second bound is for a clock that stepped back: windows of a future hour are no history.
    return now - KEPT_S - WINDOW_S < start <= now + _CLOCKS_APART_S + WINDOW_S
