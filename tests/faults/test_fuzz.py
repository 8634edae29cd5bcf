"""Noise for as long as XRAYD_FUZZ_SECONDS says (60): at the UDP port and at TCP 2000.

The seed is printed and may be given back as XRAYD_FUZZ_SEED.
"""

import contextlib
import json
import os
import random
import secrets
import socket
import time

import pytest
from fakes.documents import HEADER, make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd
from fakes.xray import FakeXRay
from oracle import QUICK_EXIT, Oracle

SECONDS = float(os.environ.get("XRAYD_FUZZ_SECONDS", "60"))
SEED = int(os.environ.get("XRAYD_FUZZ_SEED") or secrets.randbelow(2**32))

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(int(SECONDS) + 120)]

WORDS = [
    HEADER, b"\n", b"\r\n", b"{", b"[" * 500, b'"', b'{"format":"json"', b'"version":1', b"\x00",
    b"\xff", b"\xed\xa0\x80", b"1" * 400, b'{"id":"', b"T1S", "\u2028".encode(), b"\x1b[31m",
]  # fmt: skip
REQUEST_WORDS = [
    b"POST ", b"GET ", b"/GetSamplingRules", b"/TraceSegments", b"/healthz", b" HTTP/1.1", b"\r\n",
    b"\n", b"Host: localhost\r\n", b"Host: evil\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"Origin: null\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nabcde\r\n",
    b'{"TraceSegmentDocuments":["{}"]}', b"X: " + b"y" * 9000, b"\x00", b"\xff",
    b"Upgrade: h2c\r\n",
]  # fmt: skip
WHOLE = (
    b"POST /TraceSegments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 32\r\n\r\n"
    b'{"TraceSegmentDocuments":["{}"]}'
)


def make_noise(chance: random.Random, words: list[bytes], base: bytes) -> bytes:
    """Words of the trade in any order, or a good one with a few bytes changed."""
    if chance.random() < 0.5:
        return b"".join(chance.choices(words, k=chance.randrange(1, 12)))
    noise = bytearray(base)
    for _ in range(chance.randrange(1, 6)):
        match chance.randrange(3):
            case 0:
                noise[chance.randrange(len(noise))] = chance.randrange(256)
            case 1:
                del noise[chance.randrange(len(noise)) :][: chance.randrange(1, 20)]
            case _:
                noise[chance.randrange(len(noise)) :][:0] = chance.choice(words)
        if not noise:
            return b""
    return bytes(noise)


def test_datagrams(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-43: nothing ends the process, everything is counted, what is good arrives unharmed."""
    print(f"XRAYD_FUZZ_SEED={SEED}")
    chance = random.Random(SEED)
    process = xrayd("-m", "40", config=QUICK_EXIT)
    end = time.monotonic() + SECONDS
    sent = 0
    while time.monotonic() < end:
        marker = make_document(size=1024)
        base = HEADER + make_document().encode()
        noise = [make_noise(chance, WORDS, base)[:60_000] for _ in range(500)]
        process.send(*noise)
        process.send_document(marker)
        sent += len(noise) + 1
        fake_xray.wait_for(lambda marker=marker: marker in fake_xray.documents[-600:], 30.0, "mark")
    process.sigterm()
    assert process.wait(30) == 0
    line = process.wait_for_line(r"received=(\d+) .*difference=0 kernel_dropped=(\d+)")
    assert int(line[1]) + int(line[2]) == sent
    assert all("\x1b" not in text and len(text) < 1500 for text in process.lines)


def throw(process: Xrayd, chance: random.Random, noise: bytes) -> None:
    """Send it in a few pieces, hear at most a little, and go."""
    with contextlib.suppress(OSError), process.tcp(timeout=1.0) as sock:
        cut = chance.randrange(len(noise) + 1)
        sock.sendall(noise[:cut])
        sock.sendall(noise[cut:])
        if chance.random() < 0.5:
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(65_536)
            assert not answer or answer.startswith(b"HTTP/1.1 ")


def test_requests(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-60: nothing ends the process, and nothing but the allowed goes upstream."""
    print(f"XRAYD_FUZZ_SEED={SEED}")
    chance = random.Random(SEED)
    # Its own telemetry record would be due after a minute.
    process = xrayd(config={**QUICK_EXIT, "Telemetry": {"Enabled": False}})
    oracle = Oracle(process, fake_xray)
    memory = process.rss_mib()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for _ in range(200):
            throw(process, chance, make_noise(chance, REQUEST_WORDS, WHOLE))
        assert process.get("/healthz").status == 200
        oracle.check_recovery()
    assert process.rss_mib() <= memory + 40.0
    assert process.open_files() <= 256 + 40
    allowed = {"/TraceSegments", "/GetSamplingRules", "/SamplingTargets"}
    assert {request.path for request in fake_xray.requests()} <= allowed
    for request in fake_xray.requests("/TraceSegments"):
        assert all(isinstance(d, str) for d in json.loads(request.body)["TraceSegmentDocuments"])
    process.sigterm()
    assert process.wait(30) == 0
    process.wait_for_line("Stopped: .*difference=0")
