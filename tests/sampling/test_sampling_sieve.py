"""What stands between intake and custody when xrayd samples by itself."""

from __future__ import annotations

import base64
import json
import secrets
import time

from sampling_samples import OWN_ID, records, rule

from xrayd.relay.ledger import Ledger
from xrayd.relay.request import read_full_head
from xrayd.sampling.broker import Broker
from xrayd.sampling.decision import Apply, Sampler
from xrayd.sieve import Sieve


class Scene:
    """A sieve of the given rules, in `Sampling.Apply: all`, and what it passed on."""

    def __init__(self, *rules, default_rate=0.0, default_reservoir=0, **options) -> None:
        broker = Broker(OWN_ID, is_authority=True)
        made = records(*rules, default_rate=default_rate, default_reservoir=default_reservoir)
        broker.absorb_rules(made, time.time())
        self.sampler = Sampler(OWN_ID, Apply.ALL, **options)
        self.sieve = Sieve(self.sampler, broker)
        self.passed: list[bytes] = []
        self.ledger = Ledger()
        self.sieve.attach(self.ledger, lambda document, head, now: self.passed.append(document))

    def drain(self, *documents: bytes) -> None:
        """Take documents that come at one time."""
        take = self.sieve.taker(1.0)
        for document in documents:
            take(document, read_full_head(document), 1.0)
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


def otlp() -> bytes:
    span = field(1, secrets.token_bytes(16))
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
    scene.drain(*documents)
    for trace_id in (one, other):
        came = [each for each in documents if trace_id.encode() in each]
        assert [each for each in scene.passed if trace_id.encode() in each] == came
