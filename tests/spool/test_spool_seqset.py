"""A set of sequence numbers behaves as a set of numbers does."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from xrayd.spool.seqset import SeqSet, longest, ranges_of

ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 15)).map(lambda p: range(p[0], p[0] + p[1]))
)


def numbers(spans) -> set[int]:
    return {number for span in spans for number in span}


@given(ranges)
def test_it_holds_what_was_added_in_as_few_ranges_as_possible(spans):
    seqs, plain = SeqSet(), set()
    for span in spans:
        assert seqs.add(span.start, span.stop) == len(set(span) - plain)
        plain |= set(span)
    kept = list(seqs)
    assert numbers(kept) == plain
    assert len(seqs) == len(plain)
    assert all(a.stop < b.start for a, b in pairwise(kept))
    assert [n in seqs for n in range(-1, 90)] == [n in plain for n in range(-1, 90)]


@given(ranges, st.integers(0, 80), st.integers(0, 80))
def test_what_is_missing_is_what_was_not_added(spans, start, stop):
    missing = SeqSet(spans).missing(start, stop)
    assert numbers(missing) == set(range(start, stop)) - numbers(spans)
    assert all(missing)
    assert all(a.stop < b.start for a, b in pairwise(missing))


@given(ranges, st.integers(0, 80))
def test_splitting_shares_the_numbers_out(spans, seq):
    low = SeqSet(spans)
    high = low.split(seq)
    assert numbers(low) == {n for n in numbers(spans) if n < seq}
    assert numbers(high) == {n for n in numbers(spans) if n >= seq}
    assert (len(low), len(high)) == (len(numbers(low)), len(numbers(high)))


@given(st.lists(st.integers(0, 60)))
def test_single_numbers_become_ranges_whatever_their_order(seqs):
    assert numbers(ranges_of(seqs)) == set(seqs)
    assert ranges_of(range(5, 9)) == [range(5, 9)]


@given(ranges, st.integers(0, 5))
def test_the_longest_ranges_are_kept_in_order(spans, number):
    kept = longest(SeqSet(spans), number)
    assert [span.start for span in kept] == sorted(span.start for span in kept)
    rest = [span for span in SeqSet(spans) if span not in kept]
    assert len(kept) == min(number, len(kept) + len(rest))
    assert not rest or not kept or max(map(len, rest)) <= min(map(len, kept))
