"""Faults of the way to X-Ray and of its answers (E-01 … E-16, E-19, E-21, E-22)."""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from fakes.documents import document_id, make_document
from fakes.factory import XraydFactory
from fakes.proxy import FakeProxy, ProxyVerdict
from fakes.tls import Certificates
from fakes.xray import (
    TRACE_SEGMENTS,
    FakeXRay,
    Reply,
    Request,
    Unprocessed,
    Verdict,
    refuse_above,
    refuse_containing,
    throttle_above,
)
from oracle import QUICK_EXIT, SETTLED_S, SLACK_S, Oracle, table

BATCH = 50
CONCURRENCY = 8


@dataclass(frozen=True)
class Outage:
    """A fault that ends: how it is made and what it may cost."""

    reply: Callable[[], Reply | None]
    """The standing answer; None for a service that is down."""
    per_s: float = 2.0
    """Requests a second while it lasts, beside those that were under way when it began."""
    refused_at_first: int = 0
    """Requests that go before it counts as an outage."""
    duplicates_max: int = 0

    def begin(self, fake: FakeXRay) -> None:
        reply = self.reply()
        if reply is None:
            fake.down()
        else:
            fake.answer(reply)

    def end(self, fake: FakeXRay) -> None:
        fake.up()
        fake.answer(None)


def in_turn(*statuses: int) -> Reply:
    turn = itertools.cycle(statuses)
    return lambda _: Verdict(status=next(turn), error="InternalFailure")


OUTAGES = {
    "E-01 refused": Outage(lambda: None),
    "E-02 5xx": Outage(lambda: in_turn(500, 502, 503, 504)),
    "E-02 400 of a proxy": Outage(lambda: Verdict(status=400, body=b"<html>Bad Request</html>")),
    "E-15 400 for everything": Outage(
        lambda: Verdict(status=400, error="InvalidRequestException"), refused_at_first=12
    ),
    "E-02 408 and 407": Outage(lambda: in_turn(408, 407)),
    "E-03 throttled": Outage(lambda: Verdict(status=429, error="ThrottledException"), per_s=1.0),
    "E-05 hang": Outage(lambda: Verdict(hang=True, stored=False)),
    "E-09 reset before an answer": Outage(lambda: Verdict(abort_at=0, stored=False)),
    "E-09 reset in a request": Outage(lambda: Verdict(abort_request_at=100)),
    "E-29 access denied": Outage(lambda: Verdict(status=403, error="AccessDeniedException")),
}


def ride_out(oracle: Oracle, outage: Outage, seconds: float, per_s: float = 500.0) -> None:
    fake = oracle.fake
    oracle.warm_up()
    before = len(fake.requests(TRACE_SEGMENTS))
    outage.begin(fake)
    oracle.stream(seconds, per_s)
    during = len(fake.requests(TRACE_SEGMENTS)) - before
    assert during <= outage.per_s * seconds + 2 * CONCURRENCY + outage.refused_at_first
    outage.end(fake)
    oracle.check_recovery()
    oracle.check_nothing_lost(duplicates_max=outage.duplicates_max)


@pytest.mark.parametrize(
    "outage", table(OUTAGES, ["E-01 refused", "E-02 5xx", "E-03 throttled", "E-05 hang"])
)
def test_an_outage_of_five_seconds_loses_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay, outage: Outage
) -> None:
    ride_out(Oracle(xrayd("-m", "40", config=QUICK_EXIT), fake_xray), outage, 5.0)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("outage", table(OUTAGES))
def test_an_outage_of_a_minute_loses_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay, outage: Outage
) -> None:
    ride_out(Oracle(xrayd("-m", "80", config=QUICK_EXIT), fake_xray), outage, 60.0)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
def test_an_outage_of_a_minute_at_1000_segments_a_second_fits_80_mb(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    oracle = Oracle(xrayd("-m", "80", config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    fake_xray.down()
    oracle.stream(60.0, 1000.0)
    fake_xray.up()
    oracle.check_nothing_lost()
    assert len(oracle.sent) > 50_000


@pytest.mark.slow
def test_refused_connections_are_tried_twice_a_second_at_most(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    fake_xray.down()
    oracle.stream(5.0)
    fake_xray.up()
    oracle.check_nothing_lost()
    (record,) = fake_xray.telemetry_records
    assert record["BackendConnectionErrors"]["ConnectionRefusedCount"] <= 2 * 5 + 2 * CONCURRENCY


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
def test_throttling_settles_near_the_limit(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-04: twice the limit is offered; from second 30 on it must have settled."""
    limit, seconds = 10.0, 75.0
    fake_xray.answer(throttle_above(limit, burst=2.0))
    oracle = Oracle(xrayd("-m", "100", config=QUICK_EXIT), fake_xray, size=300)
    started = time.monotonic()
    oracle.stream(seconds, 2 * limit * BATCH)
    settled = [
        r.verdict.status
        for r in fake_xray.requests(TRACE_SEGMENTS)
        if r.verdict is not None and started + 30.0 <= r.at < started + seconds
    ]
    taken, throttled = settled.count(200), settled.count(429)
    assert taken >= 0.8 * limit * (seconds - 30.0)
    assert throttled <= 0.1 * len(settled)
    fake_xray.answer(None)
    oracle.check_nothing_lost()


def test_a_slow_service_gets_nothing_twice(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-06: the requests overlap, and none is given up."""
    fake_xray.answer(Verdict(delay_s=2.5))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.stream(1.0)
    oracle.wait_all()
    assert fake_xray.max_in_flight > 1
    fake_xray.answer(None)
    oracle.check_recovery()
    oracle.check_nothing_lost()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("delay_s", "twice"), [(8.0, False), (12.0, True)])
def test_a_very_slow_service_gets_everything_once_or_once_more(
    xrayd: XraydFactory, fake_xray: FakeXRay, delay_s: float, twice: bool
) -> None:
    """E-06 at 8 s, E-07 at 12: beyond the time-out a batch comes twice, later ones do not."""
    fake_xray.answer(Verdict(delay_s=delay_s))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.send(200)
    oracle.wait_all()
    fake_xray.wait_for(lambda: all(r.answered for r in fake_xray.requests()[-4:]), 60.0)
    first = len(fake_xray.documents) - 200
    assert first <= (200 if twice else 0)
    oracle.send(100)
    oracle.wait_all()
    oracle.process.wait_for_line("Successfully sent", after=len(oracle.process.lines), timeout=60)
    fake_xray.answer(None)
    account = oracle.check_nothing_lost(duplicates_max=first)
    assert account.duplicates == first


@pytest.mark.parametrize(
    "abort_at", table({"at once": 0, "in its head": 20, "in its body": 150}, ["in its body"])
)
def test_a_reset_after_the_service_stored_repeats_identical_bytes(
    xrayd: XraydFactory, fake_xray: FakeXRay, abort_at: int
) -> None:
    """E-08, E-09."""
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    answer = {"UnprocessedTraceSegments": [], "padding": "x" * 200}
    fake_xray.script(Verdict(abort_at=abort_at, stored=True, body=answer))
    oracle.stream(0.5)
    oracle.check_recovery()
    account = oracle.check_nothing_lost(duplicates_max=BATCH)
    assert account.duplicates > 0


def test_connections_closed_between_requests_cost_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-10: a new connection at once; no failure, no back-off."""
    fake_xray.answer(Verdict(close=True))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.stream(2.0)
    oracle.check_nothing_lost()
    assert not any(fake_xray.telemetry_records[-1]["BackendConnectionErrors"].values())
    assert fake_xray.connections >= 10


@pytest.mark.slow
def test_a_dripping_answer_is_given_up_by_one_deadline(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-11: each byte alone would be in time."""
    fake_xray.script(Verdict(drip_bps=1.0))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.send(10)
    oracle.process.wait_for_line("failed with: timeout", timeout=15)
    oracle.check_recovery()
    oracle.check_nothing_lost(duplicates_max=10)


UNREADABLE: dict[str, dict[str, Any]] = {
    "html": {"body": "<html>captive portal</html>"},
    "empty": {"body": ""},
    "gzip bomb": {"body": b"0" * 50_000_000, "gzip": True},
    "oversized": {"body": b" " * 2_000_000 + b"{}"},
    "oversized in chunks": {"body": b" " * 2_000_000 + b"{}", "chunked": True},
    "deep": {"body": b"[" * 900_000},
}


@pytest.mark.parametrize("how", table(UNREADABLE, ["gzip bomb", "oversized"]))
def test_an_unreadable_success_is_tried_three_times_and_counted_sent(
    xrayd: XraydFactory, fake_xray: FakeXRay, how: dict[str, Any]
) -> None:
    """E-12: the service may have stored it each time, so it must not go on for ever."""
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    memory = oracle.process.rss_mib()
    fake_xray.script(*[Verdict(**how, stored=True)] * 3)
    fake_xray.answer(None)
    oracle.send(10)
    fake_xray.wait_for(lambda: not fake_xray.scripted, what="three answers")
    oracle.check_recovery()
    assert oracle.process.rss_mib() <= memory + 10.0
    account = oracle.check_nothing_lost(duplicates_max=20)
    assert account.duplicates == 20  # three times, not four


def test_a_wrong_content_encoding_is_no_reason_to_fail(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-12: nothing is ever decompressed, so nothing can fail to be."""
    fake_xray.answer(Verdict(body="{}", headers={"Content-Encoding": "gzip"}))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.send(10)
    oracle.check_nothing_lost()


def once_each(share: float) -> Callable[[str], bool]:
    """Refuse this share of the documents, each the first time only."""
    seen: set[str] = set()
    turn = itertools.count()

    def match(document: str) -> bool:
        if document in seen:
            return False
        seen.add(document)
        return next(turn) % round(1 / share) == 0

    return match


def test_only_what_was_not_processed_is_sent_again(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-13: a tenth fails once with a code that may pass."""
    fake_xray.answer(Verdict(unprocessed=Unprocessed(match=once_each(0.1), code="InternalFailure")))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.stream(2.0)
    oracle.wait_all()
    times: dict[str, int] = {}
    for request in fake_xray.requests(TRACE_SEGMENTS):
        for document in request.json()["TraceSegmentDocuments"]:
            times[document] = times.get(document, 0) + 1
    assert max(times.values()) == 2
    fake_xray.answer(None)
    oracle.check_recovery()
    oracle.check_nothing_lost()


def test_what_is_not_processed_after_an_outage_is_still_tried_again(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-02 then E-13: the tries of the outage are not those of the document."""
    fake_xray.script(*[Verdict(status=503)] * 4)
    fake_xray.answer(Verdict(unprocessed=Unprocessed(match=once_each(1.0), code="InternalFailure")))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.send(5)
    oracle.wait_all()
    oracle.check_nothing_lost()


def poison(document: str) -> bool:
    return "POISON" in document


POISONS: dict[str, Reply] = {
    "E-14 permanent code": Verdict(unprocessed=Unprocessed(match=poison, code="InvalidName")),
    "E-14 permanent code, no id": Verdict(
        unprocessed=Unprocessed(match=poison, code="InvalidName", with_id=False)
    ),
    "E-14 no code, no id": Verdict(
        unprocessed=Unprocessed(match=poison, code=None, message=None, with_id=False)
    ),
    "E-14 lasting code": Verdict(unprocessed=Unprocessed(match=poison, code="ServiceUnavailable")),
    "E-15 400": refuse_containing("POISON"),
    "E-15 413": refuse_containing("POISON", 413, "RequestEntityTooLargeException"),
}


@pytest.mark.parametrize(
    "reply", table(POISONS, ["E-14 permanent code", "E-14 no code, no id", "E-15 400", "E-15 413"])
)
def test_one_bad_document_costs_its_neighbours_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay, reply: Reply
) -> None:
    fake_xray.answer(reply)
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    good = [make_document(size=1024) for _ in range(BATCH - 1)]
    bad = make_document(size=1024, name="POISON")
    documents = [*good[:17], bad, *good[17:]]
    oracle.process.send_document(*documents)
    fake_xray.wait_ids(*map(document_id, good))
    oracle.process.wait_for_line("Unprocessed segment: .*POISON")
    assert len(fake_xray.requests(TRACE_SEGMENTS)) <= 13
    oracle.sent += documents
    oracle.check_recovery()
    before = len(fake_xray.requests(TRACE_SEGMENTS))
    fake_xray.wait_ids(*map(document_id, oracle.send(6 * BATCH)))
    assert len(fake_xray.requests(TRACE_SEGMENTS)) - before <= 6 * 2  # batches are whole again
    account = oracle.close()
    assert account.lost == account.ledger["unprocessed"] == 1
    assert account.ledger["sent"] == 7 * BATCH


def test_the_size_a_service_takes_is_learned(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-16: one request at a time, so that the first refusal can teach."""
    fake_xray.answer(refuse_above(150_000))
    oracle = Oracle(xrayd(config={**QUICK_EXIT, "Concurrency": 1}), fake_xray, size=5_000)
    oracle.send(400)
    oracle.check_nothing_lost()
    refused = [r for r in fake_xray.requests(TRACE_SEGMENTS) if r.verdict.status == 413]  # type: ignore[union-attr]
    assert len(refused) <= 2


def test_a_size_refused_for_a_while_makes_no_small_batches_for_ever(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-16: something on the way refused everything as too large, and is well again."""
    fake_xray.answer(Verdict(status=413))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.send(16 * BATCH)
    oracle.process.wait_for_line("HTTP 413.*held")
    fake_xray.answer(None)
    oracle.check_recovery()
    oracle.wait_all()
    before = len(fake_xray.requests(TRACE_SEGMENTS))
    fake_xray.wait_ids(*map(document_id, oracle.send(20 * BATCH)))
    assert len(fake_xray.requests(TRACE_SEGMENTS)) - before <= 20 * 2
    oracle.check_nothing_lost()


def test_a_service_that_asks_for_patience_is_given_it_though_it_also_hangs(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-03 and E-05 at once: some requests hang, the others are answered with Retry-After."""
    hangs = Verdict(hang=True, stored=False)
    patience = {"Retry-After": "9"}
    fake_xray.script(hangs, hangs, hangs, hangs)
    fake_xray.answer(Verdict(status=429, error="ThrottledException", headers=patience))
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.send(8 * BATCH)
    asked_at = fake_xray.wait_requests(5, TRACE_SEGMENTS)[4].at
    oracle.stream(8.0, 100.0)
    fake_xray.answer(None)
    oracle.check_nothing_lost()
    later = [r.at - asked_at for r in fake_xray.requests(TRACE_SEGMENTS) if r.at > asked_at + 1.0]
    assert min(later) > 8.0  # not those that were under way already


def test_retry_after_may_be_a_date(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """As of a proxy that is being looked after; RFC 9110 has both spellings."""
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    until = int(time.time()) + 7
    headers = {"Retry-After": formatdate(until, usegmt=True)}
    fake_xray.script(Verdict(status=503, body="<html>", headers=headers))
    oracle.send(BATCH)
    oracle.check_nothing_lost()
    refused, taken = fake_xray.requests(TRACE_SEGMENTS)[-2:]
    assert 4.0 < taken.at - refused.at < 7.0 + SLACK_S


@pytest.mark.slow
def test_redirects_are_held_against_and_not_followed(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-19."""
    with FakeXRay() as elsewhere:
        location = {"Location": f"{elsewhere.url}/TraceSegments"}
        turn = itertools.cycle([301, 302, 307, 308])
        oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
        fake_xray.answer(lambda _: Verdict(status=next(turn), headers=location, stored=False))
        oracle.stream(2.0)
        fake_xray.answer(None)
        oracle.check_recovery()
        oracle.check_nothing_lost()
        assert elsewhere.connections == 0


PROXIES = {
    "407": ProxyVerdict(status=407),
    "CONNECT hangs": ProxyVerdict(hang=True),
    "CONNECT is reset": ProxyVerdict(abort=True),
    "dies": None,
}


@pytest.mark.parametrize("fault", table(PROXIES, ["407"]))
def test_a_failing_proxy_is_outlived_and_its_password_never_logged(
    xrayd: XraydFactory, tmp_path: Path, fault: ProxyVerdict | None
) -> None:
    """E-21."""
    name = "xray.example.test"
    certificates = Certificates(tmp_path)
    with (
        FakeXRay(tls=certificates.good(name)) as fake,
        FakeProxy(resolve={f"{name}:443": fake.port}) as proxy,
    ):
        process = xrayd(
            "-l", "dev",
            endpoint=f"https://{name}",
            config={**QUICK_EXIT, "ProxyAddress": f"http://user:canary@127.0.0.1:{proxy.port}"},
            env={"AWS_CA_BUNDLE": str(certificates.ca_path)},
        )  # fmt: skip
        oracle = Oracle(process, fake)
        oracle.warm_up()
        proxy.answer(fault)
        proxy.reset_connections()
        if fault is None:
            proxy.down()
        oracle.stream(3.0, 200.0)
        proxy.up()
        proxy.answer(None)
        oracle.check_recovery()
        oracle.check_nothing_lost(duplicates_max=BATCH)
    assert "canary" not in process.output


@pytest.mark.parametrize("make", [Certificates.expired])
def test_segments_wait_for_a_certificate_that_can_be_verified(
    xrayd: XraydFactory, tmp_path: Path, make: Callable[[Certificates], Any]
) -> None:
    """E-22: not one byte of a body before."""
    certificates = Certificates(tmp_path)
    with FakeXRay(tls=make(certificates)) as fake:
        process = xrayd(
            endpoint=fake.url, config=QUICK_EXIT, env={"AWS_CA_BUNDLE": str(certificates.ca_path)}
        )
        oracle = Oracle(process, fake)
        oracle.stream(2.0, 200.0)
        assert fake.body_bytes_received == 0
        assert fake.connections > 0
        fake.tls = certificates.good()
        oracle.check_recovery()
        oracle.check_nothing_lost()
    refusals = [line for line in process.lines if "Sending segment batch failed" in line]
    assert 1 <= len(refusals) <= 10


def test_what_the_service_says_about_a_bad_document_is_one_escaped_line(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    def reply(request: Request) -> Verdict:
        (document,) = json.loads(request.body)["TraceSegmentDocuments"]
        message = "bad\n\x1b[31m" + "x" * 5000
        entry = {"Id": document_id(document), "ErrorCode": "InvalidName", "Message": message}
        return Verdict(body={"UnprocessedTraceSegments": [entry]}, stored=False)

    fake_xray.answer(reply)
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.send(1)
    line = oracle.process.wait_for_line("Unprocessed segment: InvalidName", SETTLED_S)[0]
    assert "\x1b" not in oracle.process.output
    assert len(line) < 1024
    account = oracle.close()
    assert account.ledger["unprocessed"] == 1
