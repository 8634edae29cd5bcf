"""Histograms of durations: milliseconds by count, mergeable, small when answered."""

from __future__ import annotations

from typing import TypeAlias

ENTRIES_MAX = 100
"""Most entries of a histogram in an answer."""

Histogram: TypeAlias = dict[int, int]
"""Counts by duration in milliseconds, the duration to three significant digits."""

_STEPS = (2, 5, 10, 20, 50, 100)
"""Ever coarser last digits; the last leaves one significant digit, nine values per decade."""


def find_bucket(duration_us: int) -> int:
    """The bucket of a duration in microseconds: whole milliseconds, three significant digits."""
    milliseconds = (duration_us + 500) // 1000
    return milliseconds if milliseconds < 1000 else _round_to_step(milliseconds, 1)


def count_duration(into: Histogram, duration_us: int, sign: int) -> None:
    """Count one duration in microseconds, or discount it (`sign` -1); empty buckets go."""
    bucket = find_bucket(duration_us)
    total = into.get(bucket, 0) + sign
    if total:
        into[bucket] = total
    else:
        into.pop(bucket, None)


def add_histogram(into: Histogram, other: Histogram) -> None:
    """Add all counts of `other`."""
    if not into:
        into.update(other)
        return
    for bucket, count in other.items():
        into[bucket] = into.get(bucket, 0) + count


def render_histogram(histogram: Histogram) -> list[dict[str, float | int]]:
    """`[{Value: seconds, Count}]` by value, at most `ENTRIES_MAX` of them."""
    for step in _STEPS:
        if len(histogram) <= ENTRIES_MAX:
            break
        coarse: Histogram = {}
        for bucket, count in histogram.items():
            rounded = _round_to_step(bucket, step)
            coarse[rounded] = coarse.get(rounded, 0) + count
        histogram = coarse
    return [{"Value": bucket / 1000, "Count": histogram[bucket]} for bucket in sorted(histogram)]


def _round_to_step(value: int, step: int) -> int:
    """To the nearest multiple of `step` in the third significant digit, but of one at least."""
    quantum = max(1, step * int(10 ** len(str(value))) // 1000)
    return (value + quantum // 2) // quantum * quantum
