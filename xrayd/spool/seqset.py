"""A set of sequence numbers, kept as few ranges."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class SeqSet:
    """Sequence numbers as sorted ranges that neither overlap nor touch.

    Acknowledgements come nearly in order, so thousands of numbers are a handful of ranges.
    """

    __slots__ = ("_count", "_starts", "_stops")

    def __init__(self, ranges: Iterable[range] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0
        for seqs in ranges:
            self.add(seqs.start, seqs.stop)

    def __len__(self) -> int:
        """How many numbers are in the set."""
        return self._count

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._starts, seq) - 1
        return at >= 0 and seq < self._stops[at]

    def __iter__(self) -> Iterator[range]:
        """The ranges, in order."""
        return map(range, self._starts, self._stops)

    def add(self, start: int, stop: int) -> int:
        """Add the numbers from `start` to before `stop`; returns how many were not in the set."""
        if start >= stop:
            return 0
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        covered = 0
        low, high = start, stop
        for at in range(first, last):
            covered += max(0, min(stop, self._stops[at]) - max(start, self._starts[at]))
        if first < last:
            low = min(start, self._starts[first])
            high = max(stop, self._stops[last - 1])
        self._starts[first:last] = [low]
        self._stops[first:last] = [high]
        self._count += stop - start - covered
        return stop - start - covered

    def missing(self, start: int, stop: int) -> list[range]:
        """The numbers from `start` to before `stop` that are not in the set, as ranges in order."""
        gaps = []
        at = bisect_right(self._stops, start)
        while start < stop:
            if at == len(self._starts) or self._starts[at] >= stop:
                gaps.append(range(start, stop))
                break
            if start < self._starts[at]:
                gaps.append(range(start, self._starts[at]))
            start = self._stops[at]
            at += 1
        return gaps

    def split(self, seq: int) -> SeqSet:
        """Take everything from `seq` on out of this set and return it as another."""
        ranges = list(self)
        self.__init__(range(s.start, min(s.stop, seq)) for s in ranges)  # type: ignore[misc]
        return SeqSet(range(max(s.start, seq), s.stop) for s in ranges)


def ranges_of(seqs: Iterable[int]) -> list[range]:
    """Single numbers, in any order, as few ranges in order. A range is passed on as it is."""
    if isinstance(seqs, range) and seqs.step == 1:
        return [seqs]
    return list(SeqSet(range(seq, seq + 1) for seq in seqs))


def longest(ranges: Iterable[range], number: int) -> list[range]:
    """The `number` longest ranges, in order: what to remember when not everything can be."""
    kept = heapq.nlargest(number, ranges, key=len)
    return sorted(kept, key=lambda seqs: seqs.start)
