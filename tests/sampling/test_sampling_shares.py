from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from sampling_samples import NOW, rule

from xrayd.sampling.report import Statistics
from xrayd.sampling.rulestate import HOLDERS_MAX, RuleState
from xrayd.sampling.shares import split_quota
from xrayd.sampling.upstream import Grant

INTERVAL = 10


def report(state, client, requests, grant, now):
    return state.exchange(Statistics("r", client, requests, 0, 0), grant, now, with_boost=False)


def poll(state, client, requests, now, *, quota=10, ttl=None):
    until = int(NOW + 300 if ttl is None else ttl)
    target = report(state, client, requests, Grant(1.0, quota, until, INTERVAL, None), now)
    if target is None or target.reservoir_quota is UNSET:
        return None
    assert target.reservoir_quota_ttl == until
    return target.reservoir_quota


def test_a_quota_goes_round_evenly_with_the_remainder_to_the_first():
    assert split_quota(5, [100, 100]) == [3, 2]
    assert split_quota(5, [0, 0]) == [3, 2]
    assert split_quota(2, [9, 9, 9]) == [1, 1, 0]


def test_what_one_client_does_not_need_goes_to_those_that_do():
    assert split_quota(10, [50.0, 0.0, 1.5]) == [8, 0, 2]


def test_of_200_clients_each_has_its_share_within_two_reports_and_all_of_them_no_more():
    state = RuleState(rule("r"))
    got: dict[int, int] = {}
    for turn in range(3):
        for number in range(200):
            share = poll(state, f"{number:03}", 100, NOW + 10 * turn + number / 20, quota=400)
            got[number] = got.get(number, 0) if share is None else share
            assert sum(got.values()) <= 400
        if turn:
            assert sum(got.values()) >= 380
    assert set(got.values()) == {2}


def test_what_nobody_needs_is_spread_out_so_that_it_is_there_when_it_is_needed():
    assert split_quota(10, [1.0, 3.0]) == [4, 6]


def test_nobody_gets_nothing():
    assert split_quota(10, []) == []


@given(st.integers(0, 50), st.lists(st.floats(0, 100), max_size=8))
def test_a_split_hands_out_the_whole_quota_and_no_more(quota, rates):
    shares = split_quota(quota, rates)
    assert len(shares) == len(rates)
    assert sum(shares) == (quota if rates else 0)
    assert all(share >= 0 for share in shares)


@given(st.integers(0, 50), st.lists(st.integers(0, 30), min_size=2, max_size=8))
def test_a_client_that_needs_more_never_gets_less_than_one_that_needs_less(quota, rates):
    shares = split_quota(quota, rates)
    for one, its_share in zip(rates, shares, strict=True):
        for other, others_share in zip(rates, shares, strict=True):
            if one > other:
                assert its_share >= others_share - 1


def test_the_first_client_gets_all_and_the_second_nothing_until_the_first_has_given_up_its_half():
    state = RuleState(rule("r"))
    assert poll(state, "a", 100, NOW) == 10
    assert poll(state, "b", 100, NOW + 2) is None  # better no quota, so that it borrows
    assert poll(state, "a", 100, NOW + 10) == 5
    assert poll(state, "b", 100, NOW + 12) == 5
    assert state.held(NOW + 12) == 10


def test_where_there_are_fewer_tokens_than_clients_some_get_none():
    state = RuleState(rule("r"))
    names = ["a", "b", "c"]
    for turn in range(3):
        got = {name: poll(state, name, 100, NOW + 10 * turn, quota=2) for name in names}
    assert got == {"a": 1, "b": 1, "c": 0}


def test_the_share_of_a_client_that_is_gone_stays_accounted_until_its_ttl_ends():
    state = RuleState(rule("r"))
    assert poll(state, "a", 100, NOW, ttl=NOW + 60) == 10
    for late in range(10, 61, 10):
        assert poll(state, "b", 100, NOW + late) is None
    assert len(state.clients(NOW + 60)) == 1
    assert poll(state, "b", 100, NOW + 61) == 10


def test_a_share_moves_to_the_client_that_needs_it():
    state = RuleState(rule("r"))
    for turn in range(6):
        busy = poll(state, "busy", 500, NOW + 10 * turn)
        idle = poll(state, "idle", 10 if turn < 2 else 0, NOW + 10 * turn)
    assert (busy, idle) == (9, 1)


def test_a_client_that_had_much_and_has_little_needs_ever_less():
    state = RuleState(rule("r"))
    for turn in range(8):
        one = poll(state, "one", 500 if turn < 2 else 0, NOW + 10 * turn)
        other = poll(state, "other", 100, NOW + 10 * turn)
    assert (one, other) == (1, 9)


def test_a_lowered_grant_is_taken_back_as_clients_report():
    state = RuleState(rule("r"))
    for turn in range(2):
        poll(state, "a", 100, NOW + 10 * turn)
        poll(state, "b", 100, NOW + 10 * turn + 1)
    assert state.held(NOW + 11) in {5, 10}
    assert poll(state, "a", 100, NOW + 20, quota=4) <= 4
    assert poll(state, "b", 100, NOW + 21, quota=4) <= 4
    poll(state, "a", 100, NOW + 30, quota=4)
    assert state.held(NOW + 30) <= 4


def test_after_a_step_back_a_client_that_is_gone_is_not_taken_for_alive_till_its_time_comes_again():
    state = RuleState(rule("r"))
    poll(state, "gone", 100, NOW)
    poll(state, "a", 100, NOW - 3600, quota=9)
    assert len(state.clients(NOW - 3600)) == 2
    poll(state, "a", 100, NOW - 3560, quota=9)
    assert len(state.clients(NOW - 3560)) == 1


def test_a_share_revived_by_a_step_back_is_accounted_at_once():
    state = RuleState(rule("r"))
    assert poll(state, "a", 100, NOW, ttl=NOW + 30) == 10
    assert poll(state, "b", 100, NOW + 40) == 10
    assert poll(state, "b", 100, NOW + 5) == 0  # the clock stepped back: a holds its ten again


def test_there_is_a_bound_on_the_clients_remembered():
    state = RuleState(rule("r"))
    for number in range(HOLDERS_MAX):
        report(state, f"{number}", 1, None, NOW)
    assert poll(state, "one more", 1, NOW) is None
    assert poll(state, "0", 1, NOW + 61) == 10  # the others are forgotten by now
    assert poll(state, "one more", 1, NOW + 62) is not None or len(state.clients(NOW)) == 2


def test_clients_that_came_and_went_without_a_quota_make_room_for_those_that_come_later():
    state = RuleState(rule("r"))
    for number in range(HOLDERS_MAX):
        report(state, f"{number}", 1, None, NOW)
    assert poll(state, "after a week", 1, NOW + 604_800, ttl=NOW + 605_000) == 10


def test_clients_whose_shares_have_ended_make_room_for_those_that_come_later():
    state = RuleState(rule("r"))
    for number in range(HOLDERS_MAX):
        report(state, f"{number}", 1, None, NOW)
    for number in range(HOLDERS_MAX):
        assert poll(state, f"{number}", 1, NOW, quota=HOLDERS_MAX, ttl=NOW + 30) == 1
    assert poll(state, "next", 1, NOW + 20, ttl=NOW + 50) is None  # the others may still come
    assert poll(state, "next", 1, NOW + 31, ttl=NOW + 61) == 10


class Model:
    """What the clients really hold: the last quota each was given, until its TTL."""

    def __init__(self) -> None:
        self.quotas: dict[str, tuple[int, int]] = {}

    def total(self, now: float, but: str = "") -> int:
        return sum(
            quota for name, (quota, ttl) in self.quotas.items() if name != but and int(now) <= ttl
        )


events = st.lists(
    st.tuples(
        st.sampled_from("abcd"),  # who reports
        st.integers(0, 300),  # with so many requests
        st.one_of(st.floats(0, 12), st.sampled_from([40.0, 400.0])),  # after so long
        st.sampled_from([0, 1, 5, 10, 10, 10]),  # while so much is granted
        st.sampled_from([30, 300, -5]),  # for so long
    ),
    max_size=25,
)


@given(events)
@settings(max_examples=150, deadline=None)
def test_no_hand_out_ever_raises_the_total_above_the_grant(reports):
    state, model, now = RuleState(rule("r")), Model(), NOW
    for name, requests, wait, quota, ttl in reports:
        now += wait
        before = model.total(now, but=name)
        share = poll(state, name, requests, now, quota=quota, ttl=now + ttl)
        if share is None:  # the client keeps what it has
            continue
        model.quotas[name] = share, int(now + ttl)
        assert model.total(now) <= max(quota, before)
        assert share <= max(quota - before, 0)


@given(events)
@settings(max_examples=100, deadline=None)
def test_while_the_grant_stays_the_same_the_total_never_exceeds_it(reports):
    state, model, now = RuleState(rule("r")), Model(), NOW
    for name, requests, wait, _, ttl in reports:
        now += wait
        share = poll(state, name, requests, now, ttl=now + ttl)
        if share is not None:
            model.quotas[name] = share, int(now + ttl)
        assert model.total(now) <= 10


@given(events, st.lists(st.sampled_from([-3000.0, -100.0, -3.0, 3.0, 100.0, 3000.0]), max_size=25))
@settings(max_examples=150, deadline=None)
def test_a_clock_that_steps_does_not_make_a_hand_out_exceed_the_grant(reports, steps):
    """Shares that a step back of less than an hour revives included."""
    state, model, now = RuleState(rule("r")), Model(), NOW
    for place, (name, requests, wait, quota, ttl) in enumerate(reports):
        now += wait + (steps[place] if place < len(steps) else 0.0)
        before = model.total(now, but=name)
        share = poll(state, name, requests, now, quota=quota, ttl=now + ttl)
        if share is not None:
            model.quotas[name] = share, int(now + ttl)
            assert share <= max(quota - before, 0)
