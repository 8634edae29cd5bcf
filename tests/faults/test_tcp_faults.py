"""Abuse of TCP 2000 and a service that is away from the SDKs' point of view (E-57 … E-61)."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.factory import XraydFactory
from fakes.process import Xrayd
from fakes.tls import Certificates
from fakes.verdict import Verdict
from fakes.xray import FakeXRay
from live.recorder import DEFAULT_RULE
from oracle import QUICK_EXIT, SLACK_S, Oracle, table

HALF = b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
ENDLESS = (
    b"POST /TraceSegments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"10000\r\n" + b"x" * 65_536 + b"\r\n"
)  # fmt: skip
ABUSES = {
    "E-57 half a head": HALF,
    "E-57 nothing": b"",
    "E-58 a body that never ends": ENDLESS,
    "E-58 a body that never comes": b"POST /TraceSegments HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 4000000\r\n\r\n",
    "E-58 a body of 300 MB": b"POST /TraceSegments HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 300000000\r\n\r\n",
}


@contextlib.contextmanager
def abusers(process: Xrayd, payload: bytes, count: int) -> Iterator[int]:
    """Open many connections that say this much and no more; the number that got so far."""
    with contextlib.ExitStack() as stack:
        said = 0
        for _ in range(count):
            with contextlib.suppress(OSError):
                sock = stack.enter_context(process.tcp(timeout=2.0))
                sock.sendall(payload)
                said += 1
        yield said


@pytest.mark.parametrize(
    "payload", table(ABUSES, ["E-57 half a head", "E-58 a body that never ends"])
)
def test_no_caller_touches_delivery(
    xrayd: XraydFactory, fake_xray: FakeXRay, payload: bytes
) -> None:
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    memory = oracle.process.rss_mib()
    with abusers(oracle.process, payload, 400) as said:
        assert said > 100
        oracle.stream(1.0)
        oracle.check_recovery()
        assert oracle.process.get("/healthz").status == 200
        assert oracle.process.open_files() <= 256 + 40
        assert oracle.process.rss_mib() <= memory + 64.0
    oracle.check_nothing_lost()


@pytest.mark.parametrize("payload", [HALF])
def test_a_caller_that_is_slow_to_ask_is_hung_up_on(xrayd: XraydFactory, payload: bytes) -> None:
    """E-57: five seconds."""
    process = xrayd(config=QUICK_EXIT)
    with process.tcp(timeout=20.0) as sock:
        started = time.monotonic()
        sock.sendall(payload)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1000) == b""
        assert time.monotonic() - started <= 5.0 + SLACK_S


AWAY = {
    "down": None,
    "hung": Verdict(hang=True),
    "reset": Verdict(abort_at=0),
    "cut": Verdict(abort_at=30),
    "oversized": Verdict(body=b" " * 2_000_000),
}


@pytest.mark.parametrize("answer", table(AWAY, ["down", "hung"]))
def test_a_sampling_call_is_answered_within_two_seconds(
    xrayd: XraydFactory, fake_xray: FakeXRay, answer: Verdict | None
) -> None:
    """E-61: whatever the service does."""
    process = xrayd(config=QUICK_EXIT)
    Oracle(process, fake_xray).warm_up()
    if answer is None:
        fake_xray.down()
    else:
        fake_xray.answer(answer, path="/GetSamplingRules")
    for _ in range(3):
        started = time.monotonic()
        assert process.post("/GetSamplingRules", b"{}").status == 502
        assert time.monotonic() - started <= 2.0 + SLACK_S
    fake_xray.answers["/GetSamplingRules"] = {
        "SamplingRuleRecords": [{"SamplingRule": DEFAULT_RULE, "CreatedAt": 0, "ModifiedAt": 0}]
    }
    fake_xray.up()
    fake_xray.answer(None, path="/GetSamplingRules")
    # It asks again at its own pace; a call waits two seconds for that.
    statuses = []
    while 200 not in statuses and len(statuses) < 5:
        statuses.append(process.post("/GetSamplingRules", b"{}").status)
    assert statuses[-1] == 200


def test_a_tls_handshake_that_hangs_counts_in_the_two_seconds(
    xrayd: XraydFactory, tmp_path: Path
) -> None:
    """E-61 over TLS: one deadline, not one for each step."""
    certificates = Certificates(tmp_path)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as deaf:
        process = xrayd(
            endpoint=f"https://127.0.0.1:{deaf.getsockname()[1]}",
            env={"AWS_CA_BUNDLE": str(certificates.ca_path)},
        )
        process.wait_for_line("credentials from")
        started = time.monotonic()
        assert process.post("/GetSamplingRules", b"{}").status == 502
        assert time.monotonic() - started <= 2.0 + SLACK_S


def test_many_sampling_calls_at_once_do_not_hold_up_segments(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-61: the SDKs of a whole host poll a service that hangs."""
    fake_xray.answer(Verdict(hang=True), path="/GetSamplingRules")
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    ask = b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with abusers(oracle.process, ask, 100):
        oracle.stream(1.0)
        oracle.check_recovery()
    oracle.check_nothing_lost()
