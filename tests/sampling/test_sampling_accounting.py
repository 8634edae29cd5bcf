"""What clients report arrives upstream exactly once, whatever fails and whenever."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_samples import (
    NOW,
    OWN_ID,
    body,
    client,
    grant,
    records,
    row,
    rule,
    targets,
    upstream_answer,
)

from xrayd.sampling.broker import Broker

NAMES = [f"r{number:02}" for number in range(30)]
RULES = records(*(rule(name) for name in NAMES))

reports = st.tuples(
    st.just("report"),
    st.integers(0, 3),
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
        max_size=6,
    ),
)
events = st.lists(
    st.one_of(
        reports,
        reports,
        st.tuples(st.just("wait"), st.floats(0, 15)),
        st.tuples(st.just("step"), st.sampled_from([-7200, -30, -1, 1, 30, 7200])),
        st.tuples(st.just("open")),
        st.tuples(st.just("answer"), st.integers(0, 1)),
        st.tuples(st.just("fail"), st.integers(0, 1)),
        st.tuples(st.just("garbage"), st.integers(0, 1)),
        st.tuples(st.just("refuse for now"), st.integers(0, 1)),
    ),
    max_size=40,
)


class World:
    """A broker, the clients' own sums, and an AWS that counts what it acknowledged."""

    def __init__(self) -> None:
        self.broker = Broker(OWN_ID)
        self.broker.absorb_rules(RULES, NOW)
        self.now = NOW
        self.reported: Counter[tuple[str, str]] = Counter()
        self.counted: Counter[tuple[str, str]] = Counter()
        self.open = []

    def report(self, who: int, rows) -> None:
        for name, *counts in rows:
            for field, count in zip(("requests", "sampled", "borrowed"), counts, strict=True):
                self.reported[name, field] += count
        documents = [row(name, client(who), *counts) for name, *counts in rows]
        self.broker.report(body(*documents), self.now)

    def answer(self, call, *, refused: str | None = None) -> None:
        for document in json.loads(call.body)["SamplingStatisticsDocuments"]:
            name = document["RuleName"]
            if name != refused:
                self.counted[name, "requests"] += document["RequestCount"]
                self.counted[name, "sampled"] += document["SampledCount"]
                self.counted[name, "borrowed"] += document["BorrowCount"]
        unprocessed = [{"RuleName": refused, "ErrorCode": "500"}] if refused else []
        answer = upstream_answer(unprocessed=unprocessed)
        self.broker.absorb_targets(call, answer, self.now)

    def settle(self, event: str, place: int) -> None:
        if not self.open:
            return
        call = self.open.pop(place % len(self.open))
        if event == "answer":
            self.answer(call)
        elif event == "fail":
            self.broker.round_failed(call, self.now)
        elif event == "garbage":
            try:
                self.broker.absorb_targets(call, b"<html>", self.now)
            except ValueError:
                return
            raise AssertionError("garbage was taken for an answer")
        else:
            self.answer(call, refused=next(iter(call.counts), None))

    def drain(self) -> None:
        for call in self.open:
            self.answer(call)
        for _ in range(5):
            self.now += 1000
            for call in self.broker.due_round(self.now):
                self.answer(call)


@given(events)
@settings(max_examples=150, deadline=None)
def test_merged_statistics_equal_the_sum_of_the_clients_exactly_once(happenings):
    world = World()
    for event, *values in happenings:
        match event:
            case "report":
                world.report(*values)
            case "wait" | "step":
                world.now += values[0]
            case "open":
                calls = world.broker.due_round(world.now)
                assert len(calls) <= 2  # 31 rules at 25 each
                world.open += calls
            case _:
                world.settle(event, *values)
    world.drain()
    assert +world.counted == +world.reported


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),  # which client reports
            st.integers(0, 200),  # how many requests
            st.floats(0, 8),  # after how long
            st.one_of(st.none(), st.integers(0, 12)),  # what AWS grants before that
            st.booleans(),  # whether the rule was deleted and made again before that
        ),
        max_size=30,
    )
)
@settings(max_examples=150, deadline=None)
def test_the_quotas_of_all_clients_never_exceed_what_aws_granted(happenings):
    """Against the largest grant in force: a lower one takes effect as clients report."""
    made = Broker(OWN_ID)
    made.absorb_rules(records(rule("a")), NOW)
    now, held, grants = NOW, {}, []
    for who, requests, wait, granted, is_made_again in happenings:
        now += wait
        if is_made_again:
            made.absorb_rules(records(rule("b")), now)
            made.absorb_rules(records(rule("a")), now)
        if granted is not None:
            for call in made.due_round(now):
                ttl = int(now) + 20
                made.absorb_targets(call, upstream_answer(grant("a", granted, ttl=ttl)), now)
                grants.append((granted, ttl))
        answer = targets(made.report(body(row("a", client(who), requests)), now)).get("a", {})
        if "ReservoirQuota" in answer:
            held[who] = answer["ReservoirQuota"], answer["ReservoirQuotaTTL"]
        total = sum(quota for quota, ttl in held.values() if ttl >= int(now))
        assert total <= max((quota for quota, ttl in grants if ttl >= int(now)), default=0)
