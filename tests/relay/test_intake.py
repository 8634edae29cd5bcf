"""What intake does with documents; from outside it is tested with whole processes."""

from __future__ import annotations

import json

from xrayd.relay.buffer import Buffer
from xrayd.relay.intake import Intake
from xrayd.relay.ledger import Ledger
from xrayd.relay.segment import Kind

HEADER = b'{"format": "json", "version": 1}\n'


def documents(count: int) -> list[bytes]:
    kinds = ["", "subsegment"]
    return [
        json.dumps({"id": str(each), "type": kinds[each % 2]}).encode() for each in range(count)
    ]


class Front:
    """An intake, and what came behind it."""

    def __init__(self, *, is_sifted: bool) -> None:
        self.ledger = Ledger()
        self.held: list[tuple[bytes, str, float]] = []
        self.shown: list[list[str]] = []
        self.refused: list[tuple[str, int]] = []
        self.intake = Intake(
            self.ledger,
            Buffer(1_000_000, 1.0, 60.0),
            self.hold,
            lambda reason, datagrams: self.refused.append((reason, len(datagrams))),
            sift=self.sift if is_sifted else None,
        )

    def hold(self, document, head, now) -> None:
        self.held.append((document, head.id, now))

    def sift(self, heads):
        self.shown.append([head.id for head in heads])
        return self.hold


def test_with_a_sieve_each_document_is_shown_before_it_is_taken_and_not_too_many_at_once():
    plain, sifted = Front(is_sifted=False), Front(is_sifted=True)
    came = documents(2_345)
    for front in (plain, sifted):
        front.intake.take_datagrams(came, [HEADER + came[0], b"noise", b"noise"], 7.0)
        assert front.held == [(each, json.loads(each)["id"], 7.0) for each in [*came, came[0]]]
        assert [count for _, count in front.refused] == [2]
        assert front.ledger.rejected.total() == 2
        assert front.ledger.received_udp == 2_348
        assert front.ledger.kinds == {Kind.SEGMENT: 1_174, Kind.SUBSEGMENT: 1_172}
    assert [len(each) for each in sifted.shown] == [1_000, 1_000, 345, 1]
    assert [each for shown in sifted.shown for each in shown] == [each[1] for each in sifted.held]


def test_posted_documents_are_shown_too():
    front = Front(is_sifted=True)
    came = documents(3)
    assert front.intake.take_posted(came, 1, 7.0)
    assert front.shown == [["0", "1", "2"]]
    assert [each[0] for each in front.held] == came
    assert front.ledger.received_tcp == 4
