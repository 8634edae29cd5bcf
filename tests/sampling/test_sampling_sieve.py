"""What stands between intake and custody when xrayd samples by itself."""

from __future__ import annotations

import base64
import json
import secrets
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_samples import OWN_ID, records, rule

from xrayd.relay.ledger import Ledger
from xrayd.sampling.broker import Broker
from xrayd.sampling.decision import Apply, Sampler
from xrayd.sieve import Sieve


class Scene:
    """A sieve of the given rules, and what it passed on."""

    def __init__(
        self, *rules, default_rate=0.0, default_reservoir=0, apply=Apply.ALL, **options
    ) -> None:
        broker = Broker(OWN_ID, is_authority=True)
        made = records(*rules, default_rate=default_rate, default_reservoir=default_reservoir)
        broker.absorb_rules(made, time.time())
        self.sampler = Sampler(OWN_ID, apply, **options)
        self.sieve = Sieve(self.sampler, broker)
        self.passed: list[bytes] = []
        self.ledger = Ledger()
        self.sieve.attach(self.ledger, lambda document, head, now: self.passed.append(document))

    def drain(self, *documents: bytes) -> None:
        """Take documents that come at one time."""
        heads = [self.sieve.read(document) for document in documents]
        take = self.sieve.taker(heads)
        for document, head in zip(documents, heads, strict=True):
            take(document, head, 1.0)
        self.sieve.release()

    def requests(self) -> int:
        """What is reported of all rules together."""
        return sum(each.requests for each in self.sampler.take_report().statistics)


def new_id() -> str:
    return f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"


def document(trace_id: str, **fields: object) -> bytes:
    return json.dumps({"id": "1" * 16, "trace_id": trace_id, "name": "web", **fields}).encode()


def part(trace_id: str) -> bytes:
    return document(trace_id, parent_id="5" * 16, type="subsegment")


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def otlp(trace: bytes | None = None) -> bytes:
    span = field(1, trace or secrets.token_bytes(16))
    return b"T1S" + base64.b64encode(field(1, field(2, field(2, span))))


def test_what_comes_between_the_parts_of_traces_does_not_end_their_hold():
    scene = Scene(hold_s=5.0)
    pairs = [(part(new_id()), otlp()) for _ in range(2_000)]
    scene.drain(*(each for pair in pairs for each in pair))
    assert scene.sieve.held == 2_000


def test_traces_released_in_between_do_not_end_the_hold_of_others():
    scene = Scene(rule("all", reservoir_size=0, fixed_rate=1.0), hold_s=5.0)
    ids = [new_id() for _ in range(3_000)]
    scene.drain(part(new_id()), *(make(each) for each in ids for make in (part, document)))
    assert scene.sieve.held == 1
    assert len(scene.passed) == 6_000


def test_an_id_that_x_ray_refuses_takes_no_traces_place_in_the_reservoir():
    scene = Scene(default_reservoir=1)
    good = new_id()
    odd = "2" + good[1:]
    scene.drain(document(odd), document(good))
    assert scene.passed == [document(odd), document(good)]
    assert scene.requests() == 1


def test_a_second_root_of_a_trace_is_not_counted_after_other_traces_came():
    scene = Scene(default_rate=1.0, verdicts_max=4)
    first = new_id()
    for trace_id in (first, new_id(), new_id(), first):
        scene.drain(document(trace_id))
    assert len(scene.passed) == 4
    assert scene.requests() == 3


def test_documents_of_a_trace_are_passed_on_in_the_order_they_came():
    scene = Scene(rule("all", reservoir_size=0, fixed_rate=1.0))
    one, other = new_id(), new_id()
    documents = [part(one), part(other), document(other), document(one), part(one), part(other)]
    scene.drain(*documents[:1])
    scene.drain(*documents[1:])
    for trace_id in (one, other):
        came = [each for each in documents if trace_id.encode() in each]
        assert [each for each in scene.passed if trace_id.encode() in each] == came


@pytest.mark.parametrize("apply", [Apply.ALL, Apply.UNDECIDED])
def test_an_otlp_payload_does_not_overtake_what_is_held_of_its_trace(apply):
    scene = Scene(default_rate=1.0, apply=apply)
    trace_id = new_id()
    held, payload = part(trace_id), otlp(bytes.fromhex(trace_id.replace("-", "")[1:]))
    scene.drain(held)
    scene.drain(payload)
    assert scene.passed == [held, payload]


def test_sieve_and_sampler_agree_on_what_is_held_even_where_a_verdict_is_forgotten_at_once():
    scene = Scene(verdicts_max=2, hold_documents_max=1)
    trace_id = new_id()
    scene.drain(part(trace_id))
    scene.drain(*(part(new_id()) for _ in range(3)), part(trace_id))
    assert scene.sieve.held == scene.sampler.holding.documents == 1


@pytest.mark.parametrize("odd", ['"name": 1', '"x": NaN', f'"name": {"9" * 5_000}'])
def test_a_document_that_is_hard_to_read_belongs_to_its_trace_all_the_same(odd):
    scene = Scene()
    trace_id = new_id()
    scene.drain(document(trace_id))
    scene.drain(f'{{"trace_id": "{trace_id}", {odd}}}'.encode())
    assert scene.passed == []
    assert scene.ledger.sampled_out.total() == 2


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_verdicts_are_bounded_where_roots_alone_come(rate):
    scene = Scene(default_rate=rate, verdicts_max=100)
    for _ in range(20):
        scene.drain(*(document(new_id()) for _ in range(50)))
        assert len(scene.sampler._verdicts) <= 150
    assert len(scene.passed) == rate * 1_000


# At a rate of one half, two are kept and two dropped.
IDS = [f"1-6b02e009-{number:010x}{4 * number:x}{number:013x}" for number in range(4)]
came_of_traces = st.tuples(
    st.sampled_from(IDS),
    st.sampled_from([False, False, True]),  # whether its id is written in W3C's way
    st.sampled_from([
        {}, {}, {"parent_id": "5" * 16}, {"parent_id": "5" * 16, "type": "subsegment"},
        {"in_progress": True}, {"aws": {"xray": {"rule_name": "x"}}}, {"name": 1},
    ]),
)  # fmt: skip


@given(
    st.sampled_from([Apply.ALL, Apply.UNDECIDED]),
    st.lists(st.lists(came_of_traces, max_size=6), max_size=6),
    st.sampled_from([0, 2, 20_000]),
)
@settings(max_examples=200, deadline=None)
def test_each_trace_is_passed_on_whole_and_in_order_or_counted_whole(apply, drains, hold_max):
    scene = Scene(
        rule("web", service_name="web", reservoir_size=1, fixed_rate=0.5),
        apply=apply,
        hold_documents_max=hold_max,
    )
    came: dict[str, list[bytes]] = {}
    named = set()
    for drain in drains:
        documents = []
        for trace_id, is_odd, fields in drain:
            number = sum(map(len, came.values()))
            written = trace_id.replace("-", "")[1:] if is_odd else trace_id
            made = document(written, **{"id": f"{number:016x}", **fields})
            came.setdefault(trace_id, []).append(made)
            documents.append(made)
            if "aws" in fields:
                named.add(trace_id)
        scene.drain(*documents)
        assert scene.sieve.held == scene.sampler.holding.documents
    scene.sieve.release_all()
    assert scene.sieve.held == 0
    dropped = 0
    for trace_id, documents in came.items():
        passed = [each for each in scene.passed if each in documents]
        assert passed in ([], documents)
        if apply is Apply.UNDECIDED and hold_max == 20_000 and trace_id in named:
            assert passed
        dropped += len(documents) - len(passed)
    assert scene.ledger.sampled_out.total() == dropped
