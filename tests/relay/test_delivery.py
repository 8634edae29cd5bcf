"""What answers mean, and the pace under faults, with a simulated clock."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayd.relay.delivery import (
    Answer,
    Pace,
    ResponseTimeout,
    Unprocessed,
    Verdict,
    is_permanent,
    judge,
    match_unprocessed,
)


def answer(
    status: int, error_type: str = "", message: str = "", clock_off_s: float = 0.0
) -> Answer:
    body = f'{{"message":"{message}"}}'.encode()
    return Answer(status, body, error_type, clock_off_s)


@pytest.mark.parametrize(
    ("given_answer", "verdict"),
    [
        (answer(429, "ThrottledException"), Verdict.THROTTLED),
        (answer(400, "ThrottlingException"), Verdict.THROTTLED),
        (answer(500), Verdict.RETRY),
        (answer(502), Verdict.RETRY),
        (answer(503), Verdict.RETRY),
        (answer(504), Verdict.RETRY),
        (answer(407), Verdict.RETRY),
        (answer(408), Verdict.RETRY),
        (answer(404), Verdict.RETRY),
        (answer(301), Verdict.RETRY),
        (answer(307), Verdict.RETRY),
        (answer(403, "ExpiredTokenException"), Verdict.REFRESH),
        (answer(400, "ExpiredTokenException"), Verdict.REFRESH),
        (answer(403, "UnrecognizedClientException"), Verdict.REFRESH),
        (answer(403, "AccessDeniedException"), Verdict.REFRESH),
        (answer(403, "InvalidSignatureException"), Verdict.REFRESH),
        (answer(403, "InvalidSignatureException", "Signature expired: …"), Verdict.RESIGN),
        (answer(403, "InvalidSignatureException", "Signature not yet current"), Verdict.RESIGN),
        (answer(400, "RequestTimeTooSkewed"), Verdict.RESIGN),
        (answer(403, "InvalidSignatureException", clock_off_s=960.0), Verdict.RESIGN),
        (answer(400, "InvalidRequestException"), Verdict.SPLIT),
        (answer(400, "ValidationException"), Verdict.SPLIT),
        (answer(400), Verdict.SPLIT),
        (Answer(400, b"", "InvalidRequestException"), Verdict.SPLIT),
        (Answer(400, b"<html>Bad Request</html>"), Verdict.RETRY),
        (Answer(400, b""), Verdict.RETRY),
        (Answer(502, b"<html>"), Verdict.RETRY),
        (answer(413), Verdict.SPLIT),
        (Answer(413, b"<html>"), Verdict.SPLIT),
        (Answer(200, b"<html>"), Verdict.UNREADABLE),
        (Answer(200, b""), Verdict.UNREADABLE),
        (Answer(200, b"[]"), Verdict.UNREADABLE),
        (Answer(200, b"\x1f\x8b\x08"), Verdict.UNREADABLE),
        (Answer(200, b"{}"), Verdict.SENT),
        (Answer(200, b'{"UnprocessedTraceSegments":null}'), Verdict.SENT),
        (Answer(200, b'{"UnprocessedTraceSegments":[],"x":1}'), Verdict.SENT),
    ],
)
def test_answers_are_sorted_in_one_place(given_answer: Answer, verdict: Verdict) -> None:
    assert judge(given_answer) == (verdict, [])


@given(st.integers(100, 599), st.binary(max_size=50), st.text(max_size=20))
def test_any_answer_gets_a_verdict(status: int, body: bytes, error_type: str) -> None:
    assert judge(Answer(status, body, error_type))[0] in Verdict


def test_unprocessed_segments_come_with_the_verdict() -> None:
    body = b'{"UnprocessedTraceSegments":[{"Id":"a","ErrorCode":"X","Message":null},{}]}'
    assert judge(Answer(200, body)) == (
        Verdict.SENT,
        [Unprocessed("a", "X", None), Unprocessed(None, None, None)],
    )


@pytest.mark.parametrize("code", ["InvalidTraceId", "MissingId", "MissingEndTime", "ParseError"])
def test_codes_that_blame_the_document_are_final(code: str) -> None:
    assert is_permanent(code)


@pytest.mark.parametrize(
    "code", ["ThrottledException", "InternalFailure", "ServiceUnavailable", None]
)
def test_other_codes_may_pass(code: str | None) -> None:
    assert not is_permanent(code)


DOCUMENTS = [b'{"id":"a"}', b'{"id":"b"}', b"T1Sxx", b'{"id":"a"}', b"not json"]


@pytest.mark.parametrize(
    ("ids", "positions", "unmatched"),
    [
        (["b"], [1], 0),
        (["a"], [0], 0),
        (["a", "a"], [0, 3], 0),
        ([None, None], [2, 4], 0),  # as many as there are documents without an id
        (["b", None, None], [1, 2, 4], 0),
        ([None], [], 1),  # one of two: nobody can tell
        (["unheard-of"], [], 1),
        ([None] * 5, [0, 1, 2, 3, 4], 0),  # all of them
        ([None] * 7, [0, 1, 2, 3, 4], 0),  # more than there are
    ],
)
def test_unprocessed_entries_find_their_documents(
    ids: list[str | None], positions: list[int], unmatched: int
) -> None:
    matched = match_unprocessed(DOCUMENTS, [Unprocessed(i, "X") for i in ids])
    assert sorted(matched.entries) == positions
    assert matched.unmatched == unmatched


class Service:
    """A service on a simulated clock, asked by `Pace` as the uploader does."""

    def __init__(self, offered_per_s: float, concurrency: int = 8, latency_s: float = 0.05) -> None:
        self.pace = Pace(concurrency, random.Random(7).random)
        self.offered = offered_per_s
        self.latency = latency_s
        self.now = 0.0
        self.waiting = 0.0
        self.flying: list[tuple[float, float]] = []  # (answered at, sent at)
        self.log: list[tuple[float, str]] = []

    def run(self, seconds: float, reply) -> None:  # type: ignore[no-untyped-def]
        """`reply(now)` is "ok", "throttled" or "failed"."""
        step = 0.005
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.waiting += self.offered * step
            for flight in [f for f in self.flying if f[0] <= self.now]:
                self.flying.remove(flight)
                outcome = reply(flight[1])
                self.log.append((self.now, outcome))
                if outcome == "ok":
                    self.pace.succeed(self.now)
                else:
                    self.waiting += 1
                    self.pace.fail(self.now, throttled=outcome == "throttled")
            while self.waiting >= 1 and self.pace.wait_s(self.now, len(self.flying)) == 0.0:
                self.pace.start()
                self.waiting -= 1
                self.flying.append((self.now + self.latency, self.now))

    def count(self, outcome: str, since: float, until: float = 1e9) -> int:
        return sum(1 for at, what in self.log if what == outcome and since <= at < until)


def token_bucket(rate: float, burst: float):  # type: ignore[no-untyped-def]
    state = [burst, 0.0]

    def reply(now: float) -> str:
        state[0] = min(burst, state[0] + (now - state[1]) * rate)
        state[1] = now
        if state[0] < 1:
            return "throttled"
        state[0] -= 1
        return "ok"

    return reply


@pytest.mark.parametrize("limit", [3.0, 10.0, 20.0])
@pytest.mark.parametrize("burst", [1.0, 10.0])
@pytest.mark.parametrize("latency_s", [0.005, 0.05, 0.2])
def test_throttled_pace_settles_near_the_limit(
    limit: float, burst: float, latency_s: float
) -> None:
    service = Service(offered_per_s=2 * limit, latency_s=latency_s)
    service.run(120.0, token_bucket(limit, burst))
    sent, throttled = service.count("ok", 30.0), service.count("throttled", 30.0)
    assert sent >= 0.8 * limit * 90
    assert throttled <= 0.1 * (sent + throttled)


def test_a_total_refusal_teaches_no_rate() -> None:
    service = Service(offered_per_s=10.0)
    service.run(5.0, lambda _: "ok")
    service.run(10.0, lambda _: "throttled")
    service.run(6.0, lambda _: "ok")
    assert service.waiting + len(service.flying) < 10


def test_pace_returns_to_normal_when_throttling_ends() -> None:
    """Within a climb, which takes ten seconds at most, and a few doublings."""
    service = Service(offered_per_s=20.0)
    service.run(60.0, token_bucket(10.0, 10.0))
    service.run(15.0, lambda _: "ok")
    assert service.count("ok", 74.0) >= 0.95 * 20.0


@pytest.mark.parametrize("offered", [4.0, 10.0, 20.0])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_throttling_whatever_our_rate_is_not_answered_by_standing_still(
    offered: float, share: float
) -> None:
    """Others use up the limit: a part of all requests is refused, however few we make."""
    chance = random.Random(3)
    service = Service(offered_per_s=offered)
    service.run(5.0, lambda _: "ok")
    service.run(30.0, lambda _: "throttled" if chance.random() < share else "ok")
    assert service.count("ok", 5.0, 35.0) >= 30.0 * 1.0
    service.run(10.0, lambda _: "ok")
    assert service.waiting < 5


@pytest.mark.parametrize(("outcome", "per_s"), [("failed", 2.0), ("throttled", 1.0)])
def test_few_requests_while_everything_is_refused(outcome: str, per_s: float) -> None:
    service = Service(offered_per_s=50.0)
    service.run(300.0, lambda _: outcome)
    assert service.count(outcome, 10.0) <= 290 * per_s
    assert service.count(outcome, 0.0, 10.0) <= 10 * per_s + 16


@pytest.mark.parametrize("outcome", ["failed", "throttled"])
@pytest.mark.parametrize("seconds", [5.0, 60.0, 600.0])
def test_first_success_comes_within_five_seconds_of_recovery(outcome: str, seconds: float) -> None:
    service = Service(offered_per_s=20.0)
    service.run(seconds, lambda _: outcome)
    service.run(10.0, lambda _: "ok")
    assert service.count("ok", seconds, seconds + 5.0) >= 1


def test_single_failures_do_not_stop_the_others() -> None:
    service = Service(offered_per_s=20.0)
    chance = random.Random(1)
    service.run(60.0, lambda _: "failed" if chance.random() < 0.1 else "ok")
    assert service.count("ok", 0.0) >= 0.95 * 20 * 60


def test_one_probe_at_a_time_while_nothing_succeeds() -> None:
    pace = Pace(8, lambda: 0.5)
    for _ in range(3):
        pace.fail(0.0)
    assert pace.is_probing
    assert pace.wait_s(100.0, 0) == 0.0
    assert pace.wait_s(100.0, 1) is None
    pace.succeed(101.0)
    assert pace.wait_s(101.0, 7) == 0.0
    assert pace.wait_s(101.0, 8) is None


def test_retry_after_is_honoured() -> None:
    pace = Pace(8, lambda: 0.0)
    assert pace.fail(10.0, retry_after_s=20.0) >= 30.0
    assert (pace.wait_s(10.0, 0) or 0) >= 20.0


def test_a_slow_service_gets_more_time() -> None:
    timeout = ResponseTimeout()
    assert timeout.seconds == 10.0
    timeout.expired()
    assert timeout.seconds == 20.0
    timeout.answered(12.0)
    assert timeout.seconds >= 20.0
    for _ in range(200):
        timeout.expired()
    assert timeout.seconds == 30.0
    for _ in range(200):
        timeout.answered(0.1)
    assert timeout.seconds < 10.1
