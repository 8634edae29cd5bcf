from __future__ import annotations

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from xrayd.sampling.reservoir import CLOCK_JITTER_S, Draw, Reservoir

T = 1_800_000_000.0


def drawn(reservoir: Reservoir, now: float, times: int) -> Counter[str]:
    return Counter(reservoir.draw(now).value for _ in range(times))


def test_without_a_quota_one_request_a_second_is_borrowed():
    reservoir = Reservoir(5)
    assert drawn(reservoir, T, 3) == {"borrowed": 1, "nothing": 2}
    assert drawn(reservoir, T + 0.9, 2) == {"nothing": 2}
    assert drawn(reservoir, T + 1, 2) == {"borrowed": 1, "nothing": 1}


def test_a_rule_without_a_reservoir_never_borrows():
    assert drawn(Reservoir(0), T, 3) == {"nothing": 3}


def test_with_a_quota_so_many_a_second_are_taken():
    reservoir = Reservoir(5)
    reservoir.load(2, T + 300, T)
    assert drawn(reservoir, T, 5) == {"taken": 2, "nothing": 3}
    assert drawn(reservoir, T + 1, 5) == {"taken": 2, "nothing": 3}


def test_a_quota_of_zero_takes_and_borrows_nothing():
    reservoir = Reservoir(5)
    reservoir.load(0, T + 300, T)
    assert drawn(reservoir, T, 3) == {"nothing": 3}


def test_the_second_of_its_ttl_still_belongs_to_a_quota_and_the_next_borrows_again():
    reservoir = Reservoir(5)
    reservoir.load(2, T + 10, T)
    assert reservoir.draw(T + 10.9) is Draw.TAKEN
    assert reservoir.draw(T + 11) is Draw.BORROWED


def test_a_quota_within_the_second_adds_nothing_to_what_was_borrowed_in_it():
    reservoir = Reservoir(5)
    assert reservoir.draw(T) is Draw.BORROWED
    reservoir.load(1, T + 300, T)
    assert reservoir.draw(T) is Draw.NOTHING


def test_a_larger_quota_counts_at_the_very_time_the_smaller_was_spent():
    reservoir = Reservoir(5)
    reservoir.load(1, T + 300, T)
    assert drawn(reservoir, T, 2) == {"taken": 1, "nothing": 1}
    reservoir.load(3, T + 300, T)
    assert drawn(reservoir, T, 4) == {"taken": 2, "nothing": 2}


def test_a_reservoir_may_be_resized_to_zero_and_back():
    reservoir = Reservoir(1)
    reservoir.resize(0)
    assert reservoir.draw(T) is Draw.NOTHING
    reservoir.resize(3)
    assert reservoir.draw(T + 1) is Draw.BORROWED


def test_a_second_that_comes_back_is_not_served_twice():
    reservoir = Reservoir(5)
    reservoir.load(2, T + 300, T)
    assert drawn(reservoir, T + 3, 5) == {"taken": 2, "nothing": 3}
    assert drawn(reservoir, T + 1, 5) == {"nothing": 5}
    assert drawn(reservoir, T + 3, 5) == {"nothing": 5}
    assert drawn(reservoir, T + 4, 5) == {"taken": 2, "nothing": 3}


def test_a_second_that_comes_back_is_not_served_from_what_the_later_one_had_left():
    reservoir = Reservoir(0)
    reservoir.load(1, T, T)
    assert reservoir.draw(T) is Draw.TAKEN
    assert reservoir.draw(T + 1) is Draw.NOTHING  # the quota has expired
    reservoir.load(1, T + 1, T + 1)
    assert reservoir.draw(T) is Draw.NOTHING
    assert reservoir.draw(T + 1) is Draw.TAKEN


def test_after_a_long_step_back_sampling_goes_on_but_the_quota_of_the_other_time_is_void():
    reservoir = Reservoir(5)
    reservoir.load(3, T + 300, T)
    assert drawn(reservoir, T, 3) == {"taken": 3}
    assert drawn(reservoir, T - 3600, 3) == {"nothing": 3}
    assert drawn(reservoir, T - 3599, 3) == {"borrowed": 1, "nothing": 2}
    reservoir.load(3, T - 3300, T - 3599)
    assert drawn(reservoir, T - 3598, 4) == {"taken": 3, "nothing": 1}


def test_after_a_step_forward_the_quota_has_expired_and_one_is_borrowed():
    reservoir = Reservoir(5)
    reservoir.load(3, T + 300, T)
    assert drawn(reservoir, T + 86_400, 3) == {"borrowed": 1, "nothing": 2}


@given(
    st.integers(0, 3),
    st.lists(
        st.one_of(
            st.floats(0, 2).map(lambda step: ("wait", step)),
            st.sampled_from([-7200, -60, -6, -5, -3, -1, 3, 60, 7200]).map(lambda s: ("step", s)),
            st.tuples(st.just("draw"), st.integers(1, 5)),
            st.tuples(st.just("load"), st.integers(0, 4), st.integers(-5, 400)),
        ),
        max_size=40,
    ),
)
@example(0, [("load", 1, 0), ("draw", 1), ("wait", 5.0), ("draw", 1), ("step", -5), ("draw", 1)])
@settings(max_examples=200, deadline=None)
def test_no_second_gives_more_than_the_largest_quota_whatever_the_clock_does(size, events):
    """A second is a value of the wall clock, new again after a step back that is believed."""
    reservoir, now, latest, era, largest = Reservoir(size), T, int(T), 0, min(size, 1)
    given_in: Counter[tuple[int, int]] = Counter()
    for event, *values in events:
        if event in {"wait", "step"}:
            now += values[0]
            if int(now) < latest - CLOCK_JITTER_S:
                era, latest = era + 1, int(now)
            latest = max(latest, int(now))
        elif event == "load":
            reservoir.load(values[0], int(now) + values[1], now)
            largest = max(largest, values[0])
        else:
            draws = drawn(reservoir, now, values[0])
            given_in[era, int(now)] += values[0] - draws["nothing"]
    assert all(count <= largest for count in given_in.values())
