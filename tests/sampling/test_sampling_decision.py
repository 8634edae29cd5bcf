from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_samples import NOW, OWN_ID, body, client, rule

from xrayd.relay.request import Http, HttpRequest
from xrayd.sampling.broker import Broker
from xrayd.sampling.decision import Apply, Sampler
from xrayd.sampling.document import OtlpDocument
from xrayd.sampling.holding import Release
from xrayd.sampling.matching import Dialect, Matcher, MatchRequest, host_and_path
from xrayd.sampling.report import Statistics, Target
from xrayd.sampling.rule import SamplingRule, default_record
from xrayd.sampling.verdicts import (
    RANDOM_PART,
    Action,
    Verdict,
    VerdictTable,
    least_kept,
    trace_key,
)

KEEP, DROP, HOLD = Action.KEEP, Action.DROP, Action.HOLD
SHOP = rule("shop", priority=1, url_path="/shop/*", reservoir_size=0, fixed_rate=0.5)


def default(rate=0.05, reservoir=0) -> SamplingRule:
    return SamplingRule(rule_name="Default", fixed_rate=rate, reservoir_size=reservoir)


def trace(randomness: float = 0.0, number: int = 0) -> str:
    """A trace id that every rate above 1 - randomness keeps."""
    return f"1-6b02e009-{number:010x}{min(int(randomness * 2**56), 2**56 - 1):014x}"


LUCKY, UNLUCKY = trace(1.0), trace(0.0)  # kept at any rate above 0; kept only at 1


def sampler(*rules, apply=Apply.ALL, **options) -> Sampler:
    made = Sampler(OWN_ID, apply, **options)
    made.load_rules(rules or (SHOP, default()))
    return made


@dataclass(frozen=True)
class Document:
    """A document as a caller decodes it; absent fields are empty."""

    trace_id: str
    parent_id: str = ""
    type: str = ""
    in_progress: bool = False
    rule_name: str = ""
    name: str = ""
    origin: str = ""
    url: str = ""
    method: str = ""
    resource_arn: str = ""

    def sdk_rule(self) -> str:
        return self.rule_name

    @property
    def http(self) -> Http:
        return Http(HttpRequest(self.url, self.method))


def root(trace_id=UNLUCKY, **fields) -> Document:
    return Document(trace_id=trace_id, **{"name": "shop", "url": "/shop/cart", **fields})


def part(trace_id=UNLUCKY, **fields) -> Document:
    return Document(trace_id=trace_id, parent_id="5" * 16, type="subsegment", name="x", **fields)


class Relay:
    """Does with documents what the caller of a sampler must: keep the bytes of held ones."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.held: dict[str, list[int]] = {}
        self.fate: dict[int, tuple[Action, str | None]] = {}
        self.number = 0

    def receive(self, document: Document, now: float, size: int = 100) -> int:
        self.receive_all([document], now, size)
        return self.number

    def receive_all(self, documents: Sequence[Document], now: float, size: int = 100) -> None:
        take = self.sampler.taker(
            documents,
            Document,
            now,
            keep=self.keep,
            drop=self.drop,
            otherwise=partial(self.decide, size, now),
        )
        self.release(self.sampler.take_decided())
        for document in documents:
            self.number += 1
            take(b"", document, 0.0)
        self.turn(now)

    def keep(self, _: bytes, document: Document, came_at: float) -> None:
        assert trace_key(document.trace_id) not in self.held  # what came earlier goes first
        self.fate[self.number] = KEEP, None

    def drop(self, verdict: Verdict) -> None:
        self.fate[self.number] = verdict.action, verdict.rule_name

    def decide(self, size: int, now: float, _: bytes, document: Document, came_at: float) -> None:
        verdict = self.sampler.decide(document, size, now)
        if verdict.action is HOLD:
            self.held.setdefault(trace_key(document.trace_id), []).append(self.number)
        else:
            self.fate[self.number] = verdict.action, verdict.rule_name
        self.release(self.sampler.take_decided())

    def turn(self, now: float) -> None:
        self.release(self.sampler.take_releases(now))

    def release(self, releases: list[Release]) -> None:
        for release in releases:
            numbers = self.held.pop(release.trace)
            assert len(numbers) == release.documents
            for number in numbers:
                self.fate[number] = release.verdict.action, release.verdict.rule_name

    def wait(self, now: float, seconds: int) -> float:
        for _ in range(seconds):
            now += 1
            self.turn(now)
        return now


# The part without memory


def test_a_trace_is_remembered_by_one_form_of_its_id():
    assert trace_key("1-4EFAAF4D-1e8720b39541901950019ee5") == "1-4efaaf4d-1e8720b39541901950019ee5"
    assert trace_key("4efaaf4d1e8720b39541901950019EE5") == "1-4efaaf4d-1e8720b39541901950019ee5"


@pytest.mark.parametrize("odd", ["", "2-6b02e009-" + "0" * 24, "1-00000005-abc", "not-a-trace-id"])
def test_what_is_no_trace_id_is_nobodys_to_decide(odd):
    assert trace_key(odd) is None
    assert sampler().decide(part(odd), 100, NOW).action is KEEP


def passes_rate(key: str, rate: float) -> bool:
    return key[RANDOM_PART] >= least_kept(rate)


@given(st.integers(0, 2**96 - 1), st.floats(0, 1))
def test_comparing_digits_equals_comparing_numbers(number, rate):
    kept = number % 2**56 >= (1 - rate) * 2**56
    assert passes_rate(f"1-6b02e009-{number:024x}", rate) is kept


@pytest.mark.parametrize(
    ("last_digits", "rate", "kept"),
    [
        ("00000000000000", 1.0, True),
        ("00000000000000", 0.999, False),
        ("ffffffffffffff", 0.0, False),
        ("ffffffffffffff", 0.001, True),
        ("80000000000000", 0.5, True),
        ("7fffffffffffff", 0.5, False),
        ("c0000000000000", 0.25, True),
        ("bfffffffffffff", 0.25, False),
    ],
)
def test_the_rate_looks_at_the_last_56_bits_alone(last_digits, rate, kept):
    assert passes_rate("1-6b02e009-0123456789" + last_digits, rate) is kept
    assert passes_rate("1-00000000-ffffffffff" + last_digits, rate) is kept


@given(st.integers(0, 2**96 - 1), st.floats(0, 1), st.floats(0, 1))
def test_what_is_kept_at_a_low_rate_is_kept_at_every_higher_one(number, one, other):
    key = f"1-6b02e009-{number:024x}"
    low, high = sorted((one, other))
    assert passes_rate(key, high) or not passes_rate(key, low)


# One verdict per trace


def test_off_keeps_everything_and_looks_at_nothing():
    made = sampler(default(0.0), apply=Apply.OFF)
    assert made.decide(root(), 100, NOW).action is KEEP
    assert made.decide(part(), 100, NOW).action is KEEP
    assert made.take_report().statistics == []


def test_before_rules_are_known_everything_is_kept_and_stays_so_for_the_traces_seen():
    made = Sampler(OWN_ID, Apply.ALL)
    assert made.decide(part(), 100, NOW).action is KEEP
    made.load_rules([default(0.0)])
    assert made.decide(root(), 100, NOW).action is KEEP
    assert made.decide(root(LUCKY), 100, NOW).action is DROP


def test_a_root_is_decided_by_the_rule_it_matches():
    made = sampler(rule("shop", url_path="/shop/*", fixed_rate=1.0), default(0.0))
    assert made.decide(root(), 100, NOW).action is KEEP
    assert made.decide(root(LUCKY, url="/other"), 100, NOW).rule_name == "Default"


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("service_name", "name"),
        ("service_type", "origin"),
        ("host", "url"),
        ("http_method", "method"),
        ("resource_arn", "resource_arn"),
    ],
)
def test_each_field_of_the_root_can_decide(pattern, value):
    made = sampler(rule("r", fixed_rate=0.0, reservoir_size=0, **{pattern: "Match*"}), default(1.0))
    before = "http://" if value == "url" else ""
    hit = Document(UNLUCKY, **{value: f"{before}match-me"})
    miss = Document(LUCKY, **{value: f"{before}other"})
    assert made.decide(hit, 100, NOW).rule_name == "r"
    assert made.decide(miss, 100, NOW).action is KEEP


def test_a_worker_without_a_url_does_not_fall_to_a_rule_on_a_path():
    made = sampler(rule("health", priority=1, url_path="/health", fixed_rate=0.0), default(1.0))
    assert made.decide(root(url=""), 100, NOW).action is KEEP


def test_what_a_kind_of_root_matched_is_forgotten_with_the_rules():
    made = sampler(rule("shop", url_path="/shop/*", fixed_rate=0.0, reservoir_size=0), default(1.0))
    assert made.decide(root(trace(0, 1)), 100, NOW).rule_name == "shop"
    made.load_rules([rule("cart", url_path="/shop/cart", fixed_rate=0.0), default(1.0)])
    made.decide(root(trace(0, 2)), 100, NOW)  # borrowed
    assert made.decide(root(trace(0, 3)), 100, NOW).rule_name == "cart"


def test_ids_in_any_spelling_are_one_trace():
    made = sampler(default(0.0, reservoir=1))
    x_ray, w3c = "1-6b02e00a-" + "0A" * 12, "6B02E00A" + "0a" * 12
    assert made.decide(root(x_ray), 100, NOW).action is KEEP
    assert made.decide(root(trace(0, 1)), 100, NOW).action is DROP
    for spelling in (x_ray.lower(), w3c, w3c.lower()):
        assert made.decide(part(spelling), 100, NOW).action is KEEP


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "ab", "A", ""]),  # name
            st.sampled_from(["", "b", "a"]),  # origin
            st.sampled_from(["", "http://h/p/1", "http://h/q", "/p/1", "x" * 300]),  # URL
            st.sampled_from(["", "GET", "get"]),  # method
        ),
        max_size=20,
    )
)
@settings(max_examples=100, deadline=None)
def test_the_rule_of_a_root_is_the_matchers_however_many_were_seen_before(kinds):
    rules = [
        rule("r1", priority=1, service_name="ab", reservoir_size=0, fixed_rate=0.0),
        rule("r2", priority=2, service_type="a", url_path="/p/*", reservoir_size=0, fixed_rate=0.0),
        rule("r3", priority=3, host="h", http_method="GET", reservoir_size=0, fixed_rate=0.0),
        default(0.0),
    ]
    made, matcher = sampler(*rules), Matcher(rules, Dialect.DAEMON)
    for number, (name, origin, url, method) in enumerate(kinds):
        host, path = host_and_path(url)
        found = matcher.match(
            MatchRequest(
                service_name=name, service_type=origin, host=host, http_method=method, url_path=path
            )
        )
        document = Document(trace(0, number), name=name, origin=origin, url=url, method=method)
        assert made.decide(document, 100, NOW).rule_name == found.rule_name


PATTERNS = [
    "*",
    "/",
    "/a",
    "/a*",
    "/a/*",
    "/a?",
    "/?a*",
    "/a/a/a",
    "/*a",
    "/a*/",
    "/*/a",
    "",
    "A*",
    "/é*",
]
PLAIN_URLS = st.text("/a", max_size=7).map("http://a/{}".format)
ODD_URLS = st.builds(
    "{}{}".format,
    st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "", f"/a/a/a{'/' * 9}a://"]),
    st.text("/:?#@aAé", max_size=14),
)


@given(
    st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from(["*", "a", "a*"])), max_size=3),
    st.lists(PLAIN_URLS, max_size=20) | st.lists(ODD_URLS, max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_of_a_url_no_more_is_taken_for_its_kind_than_no_rule_can_tell_apart(patterns, urls):
    rules = [
        rule(f"r{n}", priority=n + 1, url_path=path, host=host, reservoir_size=0, fixed_rate=0.0)
        for n, (path, host) in enumerate(patterns)
    ]
    made = sampler(*rules, default(0.0))
    matcher = Matcher([*rules, default(0.0)], Dialect.DAEMON)
    for number, url in enumerate(urls):
        host, path = host_and_path(url)
        found = matcher.match(MatchRequest(service_name="shop", host=host, url_path=path))
        verdict = made.decide(Document(trace(0, number), name="shop", url=url), 100, NOW)
        assert verdict.rule_name == found.rule_name


class PlainRelay(Relay):
    """Decides for every document one by one: first where a rule is named that an SDK decided by, if
    that matters; then for complete roots, if none of their trace is held; then for the rest.
    """

    def __init__(self, sampler: Sampler, apply: Apply) -> None:
        super().__init__(sampler)
        self.apply = apply

    def receive_all(self, documents: Sequence[Document], now: float, size: int = 100) -> None:
        first = self.number + 1
        self.number += len(documents)
        end, held = self.number, set(self.held)
        order = sorted(
            range(len(documents)), key=lambda place: self.turn_of(documents[place], held)
        )
        for place in order:
            self.number = first + place
            self.decide(size, now, b"", documents[place], 0.0)
        self.number = end
        self.turn(now)

    def turn_of(self, document: Document, held: set[str]) -> int:
        if self.apply is Apply.UNDECIDED and document.rule_name:
            return 1
        return 2 if is_complete_root(document) and document.trace_id not in held else 3


def is_complete_root(document: Document) -> bool:
    is_root = not (document.parent_id or document.type or document.in_progress)
    return is_root and trace_key(document.trace_id) == document.trace_id


def is_odd_root(document: Document) -> bool:
    """Whether it is another spelling that keeps a document from being decided ahead."""
    key = trace_key(document.trace_id)
    return (
        key is not None
        and is_complete_root(replace(document, trace_id=key))
        and (key != document.trace_id)
    )


TRACE_IDS = [trace(randomness, number) for randomness in (0.0, 0.6) for number in range(3)]
anything = st.builds(
    Document,
    st.sampled_from([*TRACE_IDS, TRACE_IDS[0].upper(), TRACE_IDS[3].replace("-", "")[1:], "", "x"]),
    parent_id=st.sampled_from(["", "", "5" * 16]),
    type=st.sampled_from(["", "", "subsegment"]),
    in_progress=st.sampled_from([False, False, True]),
    rule_name=st.sampled_from(["", "", "checkout"]),
    name=st.just("shop"),
    url=st.sampled_from(["http://a/shop/1", "http://a/shop/2", "http://a/", ""]),
)


@given(
    st.sampled_from([Apply.UNDECIDED, Apply.ALL]),
    st.integers(0, 2),
    st.lists(st.tuples(st.lists(anything, max_size=6), st.integers(-1, 3)), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_deciding_for_many_at_once_is_deciding_for_each(apply, reservoir, drains):
    rules = rule("shop", url_path="/shop/*", reservoir_size=reservoir, fixed_rate=0.5), default(0.0)
    together = Relay(sampler(*rules, apply=apply, hold_s=2.0))
    one_by_one = PlainRelay(sampler(*rules, apply=apply, hold_s=2.0), apply)
    now = NOW
    for came, seconds in drains:
        # Of two roots that are not the same, the first one that is kept decides if undecided.
        documents = [each for each in came if apply is Apply.ALL or not is_odd_root(each)]
        together.receive_all(documents, now)
        one_by_one.receive_all(documents, now)
        now += seconds
    together.wait(now, 3)
    one_by_one.wait(now, 3)
    assert together.fate == one_by_one.fate
    assert together.sampler.take_report() == one_by_one.sampler.take_report()


def test_a_root_that_comes_again_late_shares_the_verdict_its_trace_had():
    relay = Relay(sampler(SHOP, default(0.0), verdicts_max=8))
    early = relay.receive(part(LUCKY), NOW)
    now = relay.wait(NOW, 6)
    assert relay.fate[early] == (DROP, "Default")
    for number in range(5):  # the verdict grows old
        relay.receive(root(trace(1.0, number + 1)), now)
    assert relay.fate[relay.receive(root(LUCKY), now)] == (DROP, "Default")


def test_a_root_that_comes_again_late_does_not_tear_its_trace_where_its_clock_is_ahead():
    relay = Relay(sampler(default(0.0, reservoir=1), verdicts_max=8))
    ahead = f"1-ffffffff-{0:024x}"
    assert relay.fate[relay.receive(root(ahead), NOW)] == (KEEP, None)  # by the reservoir
    for number in range(5):  # the verdict grows old
        relay.receive(root(trace(0, number)), NOW)
    assert relay.fate[relay.receive(root(ahead), NOW)] == (KEEP, None)


def test_a_verdict_needed_after_the_table_turned_lives_on_with_the_young_ones():
    shop = rule("shop", url_path="/shop/*", fixed_rate=1.0)
    relay = Relay(sampler(shop, default(0.0), verdicts_max=4, hold_documents_max=0))
    relay.receive(root(), NOW)
    others = [part(trace(1.0, number)) for number in range(4)]
    relay.receive_all([*others[:2], part()], NOW)  # the second of them makes the root's verdict old
    relay.receive_all([*others[2:], part()], NOW)
    assert relay.fate[relay.number] == (KEEP, None)


@pytest.mark.parametrize("apply", [Apply.UNDECIDED, Apply.ALL])
def test_verdicts_of_many_at_once_are_bounded_too(apply):
    made = sampler(apply=apply, verdicts_max=100)
    relay = Relay(made)
    for first in range(0, 10_000, 50):
        roots = [root(trace(1.0, number)) for number in range(first, first + 50)]
        relay.receive_all(roots, NOW)
        assert len(made._verdicts) <= 100 + 50
    assert len(relay.fate) == 10_000


def test_all_parts_share_the_verdict_of_their_root():
    relay = Relay(sampler())
    early = relay.receive(part(), NOW)
    assert early not in relay.fate
    deciding = relay.receive(root(), NOW + 1)
    late = relay.receive(part(), NOW + 2)
    assert [relay.fate[each] for each in (early, deciding, late)] == [(DROP, "shop")] * 3


def test_a_trace_whose_root_does_not_come_is_decided_by_default_after_the_hold():
    relay = Relay(sampler(SHOP, default(0.0), hold_s=5.0))
    early = relay.receive(part(), NOW)
    relay.wait(NOW, 4)
    assert early not in relay.fate
    relay.wait(NOW + 4, 1)
    assert relay.fate[early] == (DROP, "Default")
    assert relay.fate[relay.receive(root(), NOW + 6)] == (DROP, "Default")  # final


def test_a_downstream_segment_is_no_root():
    relay = Relay(sampler(rule("shop", url_path="/shop/*", fixed_rate=1.0), default(0.0)))
    segment = relay.receive(root(parent_id="5" * 16), NOW)
    relay.wait(NOW, 5)
    assert relay.fate[segment] == (DROP, "Default")


def test_a_root_in_progress_waits_for_the_complete_one_which_may_say_more():
    relay = Relay(sampler(rule("shop", url_path="/shop/*", fixed_rate=1.0), default(0.0)))
    begun = relay.receive(root(url="", in_progress=True), NOW)
    relay.receive(root(), NOW + 1)
    assert relay.fate[begun] == (KEEP, None)


def test_a_root_still_in_progress_after_the_hold_decides_by_what_it_said():
    relay = Relay(sampler(rule("shop", url_path="/shop/*", fixed_rate=1.0), default(0.0)))
    begun = relay.receive(root(in_progress=True), NOW)
    relay.wait(NOW, 5)
    assert relay.fate[begun] == (KEEP, None)


def test_with_keep_rootless_a_trace_without_a_root_is_taken_as_decided_elsewhere():
    relay = Relay(sampler(SHOP, default(0.0), keep_rootless=True))
    early = relay.receive(part(), NOW)
    relay.wait(NOW, 5)
    assert relay.fate[early] == (KEEP, None)


def test_without_a_default_rule_what_matches_nothing_is_kept():
    made = sampler(SHOP)
    assert made.decide(root(url="/other"), 100, NOW).action is KEEP


def test_the_reservoir_comes_first_and_its_verdict_is_remembered():
    relay = Relay(sampler(default(0.0, reservoir=1)))
    first = relay.receive(root(trace(0, 1)), NOW)
    second = relay.receive(root(trace(0, 2)), NOW)
    again = relay.receive(part(trace(0, 1)), NOW + 100)
    assert [relay.fate[each][0] for each in (first, second, again)] == [KEEP, DROP, KEEP]


def test_a_verdict_is_remembered_for_at_least_ten_minutes_whatever_the_clock_does():
    relay = Relay(sampler(default(0.0, reservoir=1)))
    relay.receive(root(trace(0, 1)), NOW)
    now = relay.wait(NOW, 599)
    late = relay.receive(part(trace(0, 1)), now)
    stepped = relay.receive(part(trace(0, 1)), now + 86_400)
    assert [relay.fate[each][0] for each in (late, stepped)] == [KEEP, KEEP]


def test_a_clock_step_does_not_end_a_hold():
    relay = Relay(sampler())
    early = relay.receive(part(), NOW)
    relay.turn(NOW + 3600)
    relay.turn(NOW - 3600)
    assert early not in relay.fate


def test_the_verdict_table_is_bounded_and_forgets_the_least_used():
    table = VerdictTable(100, 600)
    from xrayd.sampling.verdicts import KEEP as KEPT

    table.put("often", KEPT)
    for number in range(1_000):
        table.put(str(number), KEPT)
        assert table.get("often") is KEPT
        assert len(table) <= 101
    assert table.get("0") is None


def test_the_verdict_table_forgets_after_twice_its_time_at_most():
    table = VerdictTable(100, 600)
    from xrayd.sampling.verdicts import KEEP as KEPT

    table.put("a", KEPT)
    table.look_at_clock(600, NOW)
    assert len(table) == 1
    table.look_at_clock(1200, NOW)
    assert len(table) == 0


# Bounds of the hold


def test_when_too_many_documents_are_held_the_oldest_trace_is_decided_early():
    relay = Relay(sampler(SHOP, default(0.0), hold_documents_max=2))
    first = relay.receive(part(trace(0, 1)), NOW)
    second = relay.receive(part(trace(0, 2)), NOW)
    relay.receive(part(trace(0, 3)), NOW)
    assert relay.fate == {first: (DROP, "Default")}
    assert relay.sampler.holding.documents == 2
    relay.receive(part(trace(0, 2)), NOW)  # its own trace is the oldest now
    assert relay.fate[second] == relay.fate[4] == (DROP, "Default")
    assert relay.sampler.holding.documents == 1


def test_when_too_many_bytes_are_held_the_oldest_trace_is_decided_early():
    relay = Relay(sampler(SHOP, default(0.0), hold_bytes_max=1_000))
    first = relay.receive(part(trace(0, 1)), NOW, 900)
    relay.receive(part(trace(0, 2)), NOW, 200)
    assert relay.fate == {first: (DROP, "Default")}
    assert relay.sampler.holding.size_bytes == 200


def test_a_document_that_could_never_be_held_is_decided_at_once_at_no_others_cost():
    relay = Relay(sampler(SHOP, default(0.0), hold_bytes_max=1_000))
    relay.receive(part(trace(0, 1)), NOW, 900)
    big = relay.receive(part(trace(0, 2)), NOW, 1_001)
    assert relay.fate == {big: (DROP, "Default")}
    assert relay.sampler.holding.size_bytes == 900


def test_with_no_room_at_all_nothing_is_held():
    relay = Relay(sampler(SHOP, default(0.0), hold_documents_max=0))
    assert relay.fate[relay.receive(part(), NOW)] == (DROP, "Default")


# Undecided


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
)
def test_a_rule_name_anywhere_keeps_the_trace_in_any_order(order):
    documents = [part(), root(), root(parent_id="6" * 16, rule_name="checkout")]
    relay = Relay(sampler(default(0.0), apply=Apply.UNDECIDED))
    for seconds, place in enumerate(order):
        relay.receive(documents[place], NOW + seconds)
    assert set(relay.fate.values()) == {(KEEP, None)}
    assert len(relay.fate) == 3


def test_undecided_traces_are_decided_by_the_rules():
    relay = Relay(sampler(apply=Apply.UNDECIDED))
    lucky, unlucky = relay.receive(root(LUCKY), NOW), relay.receive(root(), NOW)
    assert relay.fate == {lucky: (KEEP, None)}  # cannot be wrong
    relay.wait(NOW, 5)
    assert relay.fate[unlucky] == (DROP, "shop")
    assert relay.sampler.holding.documents == relay.sampler.holding.size_bytes == 0


def test_a_rule_name_that_comes_after_the_hold_does_not_tear_the_trace():
    relay = Relay(sampler(SHOP, default(0.0), apply=Apply.UNDECIDED))
    relay.receive(part(), NOW)
    now = relay.wait(NOW, 5)
    late = relay.receive(root(rule_name="checkout"), now)
    assert relay.fate[late] == (DROP, "Default")


def test_all_decides_what_an_sdk_has_decided_once_more():
    made = sampler(default(0.0))
    assert made.decide(root(rule_name="checkout"), 100, NOW).action is DROP


# OTLP


@pytest.mark.parametrize("apply", Apply)
def test_unsampled_otlp_is_no_trace_and_always_kept(apply):
    made = sampler(default(0.0), apply=apply)
    assert made.decide_otlp(OtlpDocument(False, (UNLUCKY,)), NOW).action is KEEP
    assert made.take_report().statistics == []


def test_the_sampled_flag_is_a_decision_for_the_whole_trace():
    relay = Relay(sampler(default(0.0), apply=Apply.UNDECIDED))
    early = relay.receive(part(), NOW)
    assert relay.sampler.decide_otlp(OtlpDocument(True, (UNLUCKY,)), NOW).action is KEEP
    relay.turn(NOW)
    assert relay.fate[early] == (KEEP, None)


def test_all_asks_default_for_each_trace_of_a_payload_and_keeps_it_if_any_is_kept():
    made = sampler(default(0.5))
    w3c = UNLUCKY.replace("-", "")[1:]
    assert made.decide_otlp(OtlpDocument(True, (w3c,)), NOW).rule_name == "Default"
    assert made.decide_otlp(OtlpDocument(True, (w3c, LUCKY)), NOW).action is KEEP
    assert made.decide_otlp(OtlpDocument(True, ("odd",)), NOW).action is KEEP
    assert made.decide_otlp(OtlpDocument(True, ()), NOW).action is KEEP
    assert made.decide(root(UNLUCKY), 100, NOW).rule_name == "Default"  # the same trace


def test_otlp_and_segments_of_a_dropped_trace_share_its_fate():
    made = sampler(default(0.0), apply=Apply.UNDECIDED, hold_documents_max=0)
    assert made.decide(root(), 100, NOW).action is DROP
    assert made.decide_otlp(OtlpDocument(True, (UNLUCKY,)), NOW).action is DROP


# Rules, targets, statistics


def test_statistics_count_traces_and_are_reported_once():
    made = sampler(SHOP, default(0.0, reservoir=1))
    for number in range(4):
        made.decide(root(trace(0, number), url="/other"), 100, NOW)
        made.decide(part(trace(0, number)), 100, NOW)
    assert made.take_report().statistics == [Statistics("Default", OWN_ID, 4, 1, 1)]
    assert made.take_report().statistics == []


def test_an_undecided_trace_counts_when_it_is_final():
    relay = Relay(sampler(SHOP, apply=Apply.UNDECIDED))
    relay.receive(root(), NOW)
    relay.receive(part(rule_name="x"), NOW + 1)
    assert relay.sampler.take_report().statistics == []
    relay.receive(root(trace(0, 1)), NOW + 1)
    relay.wait(NOW + 1, 5)
    assert relay.sampler.take_report().statistics == [Statistics("shop", OWN_ID, 1, 0, 0)]


def test_rates_and_quotas_come_from_the_brokers_targets():
    made = sampler(default(0.0, reservoir=5))
    ttl = int(NOW) + 300
    target = Target(
        rule_name="Default", fixed_rate=0.0, reservoir_quota=3, reservoir_quota_ttl=ttl, interval=10
    )
    made.absorb_targets([target, Target(rule_name="gone", fixed_rate=1.0)], NOW)
    kept = [made.decide(root(trace(0, n)), 100, NOW).action is KEEP for n in range(6)]
    assert sum(kept) == 3
    made.absorb_targets([Target(rule_name="Default", fixed_rate=1.0)], NOW)
    assert made.decide(root(trace(0, 9)), 100, NOW).action is KEEP


def test_a_target_outlives_a_reload_of_the_same_rules_but_not_a_change_of_the_rate():
    made = sampler(default(0.0))
    made.absorb_targets([Target(rule_name="Default", fixed_rate=1.0)], NOW)
    made.load_rules([default(0.0)])
    assert made.decide(root(trace(0, 1)), 100, NOW).action is KEEP
    made.load_rules([default(0.1)])
    assert made.decide(root(trace(0, 2)), 100, NOW).action is DROP


def test_the_sampler_is_a_client_of_the_broker_and_shares_its_quota():
    broker = Broker(OWN_ID, is_authority=True)
    from sampling_samples import records, row, targets

    rules = [rule("shop", url_path="/shop/*", fixed_rate=0.0, reservoir_size=4)]
    broker.absorb_rules(records(*rules), NOW)
    made = Sampler(OWN_ID, Apply.ALL)
    made.load_rules(broker.rules)
    for turn in range(3):
        now = NOW + 10 * turn
        for number in range(100):
            made.decide(root(trace(0, 1000 * turn + number)), 100, now)
        made.absorb_targets(broker.exchange(made.take_report(), now).targets, now)
        sdk = targets(broker.report(body(row("shop", client(5), 1000)), now))["shop"]
    assert sdk["ReservoirQuota"] == 2
    kept = [made.decide(root(trace(0, 9000 + n)), 100, NOW + 21).action is KEEP for n in range(9)]
    assert sum(kept) == 2


# Properties


traces = st.lists(
    st.tuples(
        st.floats(0, 1),  # randomness
        st.integers(0, 4),  # parts besides the root
        st.sampled_from(["/shop/a", "/other", ""]),
        st.booleans(),  # whether a copy in progress comes too
        st.sampled_from([None, None, None, "root", "part"]),  # which of them names an SDK's rule
    ),
    min_size=1,
    max_size=6,
)


def documents_of(shape) -> list[Document]:
    documents = []
    for number, (randomness, parts, path, in_progress, named) in enumerate(shape):
        trace_id = trace(randomness, number)
        rule_name = "x" if named == "root" else ""
        documents.append(root(trace_id, url=path, rule_name=rule_name))
        documents += [part(trace_id)] * parts
        if in_progress:
            documents.append(root(trace_id, url="", in_progress=True))
        if named == "part":
            documents.append(root(trace_id, parent_id="7" * 16, rule_name="x"))
    return documents


def fates(documents, apply, rules, together=1) -> dict[str, set[Action]]:
    relay = Relay(sampler(*rules, apply=apply))
    for first in range(0, len(documents), together):
        now = NOW + 4 * first / len(documents)
        relay.receive_all(documents[first : first + together], now)
    relay.wait(NOW + 4, 6)
    assert relay.sampler.holding.documents == relay.sampler.holding.size_bytes == 0
    found: dict[str, set[Action]] = {}
    for number, document in enumerate(documents, 1):
        found.setdefault(document.trace_id, set()).add(relay.fate[number][0])
    return found


@given(
    traces,
    st.sampled_from([Apply.ALL, Apply.UNDECIDED]),
    st.randoms(use_true_random=False),
    st.integers(1, 8),
)
@settings(max_examples=150, deadline=None)
def test_the_verdict_of_a_trace_does_not_depend_on_the_order_of_arrival(
    shape, apply, chance, together
):
    documents, rules = documents_of(shape), (SHOP, default(0.2))
    shuffled = documents.copy()
    chance.shuffle(shuffled)
    first = fates(documents, apply, rules)
    assert all(len(each) == 1 for each in first.values())
    assert fates(shuffled, apply, rules, together) == first


@given(traces, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_two_daemons_that_see_the_root_decide_alike_whatever_else_they_see(shape, chance):
    rules = (SHOP, default(0.2))
    documents = documents_of(shape)
    rest = [document for document in documents if document.parent_id or document.in_progress]
    roots = [document for document in documents if document not in rest]
    one = [document for document in rest if chance.random() < 0.5]
    other = [document for document in rest if document not in one]
    chance.shuffle(one)
    assert fates(roots + one, Apply.ALL, rules) == fates(other + roots, Apply.ALL, rules)


@given(traces, st.floats(0, 1), st.data())
@settings(max_examples=100, deadline=None)
def test_two_daemons_under_one_rate_decide_alike_whatever_part_they_see(shape, rate, data):
    """Even where one never sees the root: the rate alone decides, and the trace id is the same."""
    rules = (rule("shop", url_path="/shop/*", fixed_rate=rate, reservoir_size=0), default(rate))
    documents = documents_of(shape)
    one = [document for document in documents if data.draw(st.booleans())]
    other = [document for document in documents if document not in one] or documents
    here, there = fates(one, Apply.ALL, rules), fates(other, Apply.ALL, rules)
    for trace_id in here.keys() & there.keys():
        assert here[trace_id] == there[trace_id]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_trace_is_ever_torn_in_two_whatever_comes_when_and_however_little_fits(data):
    made = sampler(
        SHOP,
        default(0.3, reservoir=1),
        apply=data.draw(st.sampled_from([Apply.ALL, Apply.UNDECIDED])),
        hold_documents_max=data.draw(st.integers(0, 4)),
        hold_bytes_max=data.draw(st.sampled_from([150, 1_000])),
    )
    relay, now = Relay(made), NOW
    seen: dict[str, set[Action]] = {}
    numbers: dict[int, str] = {}
    for _ in range(data.draw(st.integers(1, 15))):
        now += data.draw(st.sampled_from([0.0, 0.1, 1.0, 3.0, -2.0]))
        documents = []
        for _ in range(data.draw(st.integers(1, 4))):
            trace_id = trace(
                data.draw(st.sampled_from([0.0, 0.6, 1.0])), data.draw(st.integers(0, 3))
            )
            make = data.draw(st.sampled_from([root, part]))
            rule_name = data.draw(st.sampled_from(["", "", "x"]))
            is_open = data.draw(st.booleans())
            documents.append(make(trace_id, rule_name=rule_name, in_progress=is_open))
            numbers[relay.number + len(documents)] = trace_id
        relay.receive_all(documents, now, data.draw(st.sampled_from([50, 200])))
        assert 0 <= made.holding.documents <= 4
        assert 0 <= made.holding.size_bytes <= 1_000
    relay.wait(now, 12)
    for number, trace_id in numbers.items():
        seen.setdefault(trace_id, set()).add(relay.fate[number][0])
    assert len(relay.fate) == len(numbers)
    assert all(len(each) == 1 for each in seen.values())


@pytest.mark.parametrize("together", [1, 100])
def test_ten_thousand_requests_a_second_keep_to_reservoir_and_rate(together):
    """Through 25 rules: never above the reservoir in any second, the rate within three sigma."""
    chance = random.Random(20_261_122)
    rules = [
        rule(f"r{n:02}", priority=n + 1, url_path=f"/{n}/*", reservoir_size=n, fixed_rate=n / 50)
        for n in range(24)
    ]
    made = sampler(*rules, default_record().sampling_rule, verdicts_max=1_000)
    ttl = int(NOW) + 1_000
    for each in [*rules, default_record().sampling_rule]:
        made.absorb_targets(
            [
                Target(
                    rule_name=each.rule_name,
                    fixed_rate=each.fixed_rate,
                    reservoir_quota=each.reservoir_size,
                    reservoir_quota_ttl=ttl,
                )
            ],
            NOW,
        )
    requests = {each.rule_name: 0 for each in [*rules, default_record().sampling_rule]}
    by_rate = dict.fromkeys(requests, 0)
    names = list(requests)
    seconds = 4
    relay = Relay(made)
    for second in range(seconds):
        taken = dict.fromkeys(requests, 0)
        for first in range(0, 10_000, together):
            places = [number % 25 for number in range(first, first + together)]
            relay.receive_all(
                [
                    root(f"1-6b02e009-{chance.getrandbits(96):024x}", url=f"/{place}/x")
                    for place in places
                ],
                NOW + second + first / 10_000,
            )
            for number, place in enumerate(places, relay.number - together + 1):
                is_kept = relay.fate[number][0] is KEEP
                name = names[place]
                requests[name] += 1
                if taken[name] < place % 24 + (place == 24):
                    taken[name] += is_kept
                    assert is_kept  # the reservoir comes first
                else:
                    by_rate[name] += is_kept
    reported = {row.rule_name: row for row in made.take_report().statistics}
    for place, name in enumerate(names):
        reservoir, rate = (1, 0.05) if place == 24 else (place, place / 50)
        rest = requests[name] - reservoir * seconds
        sigma = (rest * rate * (1 - rate)) ** 0.5
        assert abs(by_rate[name] - rest * rate) <= 3 * sigma + 1e-9
        assert reported[name].requests == requests[name]
        assert reported[name].sampled == by_rate[name] + reservoir * seconds
