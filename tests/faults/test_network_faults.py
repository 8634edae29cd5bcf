"""Faults that need a network or a memory limit of their own (E-17, E-18, E-20, E-54).

Each test runs in a network namespace of its own, so that what iptables drops is nobody else's.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.documents import HEADER
from fakes.factory import XraydFactory
from fakes.verdict import Verdict
from fakes.xray import TRACE_SEGMENTS, FakeXRay
from groups import Group, own_group
from oracle import QUICK_EXIT, Oracle

pytestmark = pytest.mark.root

CLONE_NEWNET = 0x40000000
MIB = 1024 * 1024


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    """Threads and processes started from here on live in a namespace with nothing but loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        run("ip", "link", "set", "lo", "up")
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)


@contextlib.contextmanager
def dropping(port: int, *match: str) -> Iterator[None]:
    """Drop packets from and to a TCP port."""
    rules = [["INPUT", "-p", "tcp", way, str(port), *match] for way in ("--dport", "--sport")]
    try:
        for rule in rules:
            run("iptables", "-w", "-A", *rule, "-j", "DROP")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no iptables: {error}")
    try:
        yield
    finally:
        for rule in rules:
            run("iptables", "-w", "-D", *rule, "-j", "DROP")


@pytest.mark.parametrize(
    "seconds",
    [8.0, pytest.param(30.0, marks=[pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(200)])],
)
def test_a_black_hole_is_noticed_and_outlived(
    xrayd: XraydFactory, fake_xray: FakeXRay, seconds: float
) -> None:
    """E-17: dead connections are not waited for when packets pass again."""
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    with dropping(fake_xray.port):
        oracle.stream(seconds, 200.0)
    oracle.check_recovery()
    oracle.check_nothing_lost(duplicates_max=8 * 50)


def test_packet_loss_is_tcps_business(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-18: a tenth of the packets; hardly a request is repeated."""
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    with dropping(fake_xray.port, "-m", "statistic", "--mode", "random", "--probability", "0.1"):
        oracle.stream(10.0, 300.0)
        oracle.wait_all()
    oracle.check_recovery()
    account = oracle.check_nothing_lost(duplicates_max=2 * 50)
    assert account.ledger["sent"] == len(oracle.sent)
    assert len(fake_xray.requests(TRACE_SEGMENTS)) <= 1.2 * len(oracle.sent) / 50 + 40


def answer_names(server: socket.socket, mood: dict[str, str]) -> None:
    """A name server that knows one address, says there is none, or says nothing."""
    while True:
        try:
            query, peer = server.recvfrom(512)
        except OSError:
            return
        if mood["now"] == "silent" or len(query) < 17:
            continue
        end = query.index(b"\x00", 12) + 5
        question = query[12:end]
        is_a = question[-4:-2] == b"\x00\x01"
        code, answers = (3, 0) if mood["now"] == "nxdomain" else (0, 1 if is_a else 0)
        head = (
            query[:2] + bytes([0x81, 0x80 | code]) + b"\x00\x01\x00" + bytes([answers, 0, 0, 0, 0])
        )
        data = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + socket.inet_aton(mood["to"])
        server.sendto(head + question + (data if answers else b""), peer)


@pytest.mark.parametrize("fault", ["nxdomain", "silent", "moved"])
def test_names_may_fail_or_move(xrayd: XraydFactory, tmp_path: Path, fault: str) -> None:
    """E-20: asked beside the loop, and again for each connection."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    mood = {"now": "well", "to": "127.0.0.1"}
    in_own_mounts = [
        "unshare", "--mount", "sh", "-c",
        f'mount --bind {conf} "$(readlink -f /etc/resolv.conf)" && exec "$@"', "sh",
        sys.executable, "-m", "xrayd",
    ]  # fmt: skip
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        FakeXRay(host="0.0.0.0") as fake,
    ):
        server.bind(("127.0.0.1", 53))
        thread = threading.Thread(target=answer_names, args=(server, mood), daemon=True)
        thread.start()
        process = xrayd(
            endpoint=f"http://xray.example.test:{fake.port}",
            command=in_own_mounts,
            config=QUICK_EXIT,
        )
        oracle = Oracle(process, fake)
        oracle.warm_up()
        if fault == "moved":
            mood["to"] = "127.0.0.2"
        else:
            mood["now"] = fault
        fake.reset_connections()
        before = process.udp_drops()
        oracle.stream(4.0, 200.0)
        assert process.udp_drops() == before
        assert process.get("/healthz").status == 200
        mood["now"] = "well"
        oracle.check_recovery()
        oracle.check_nothing_lost(duplicates_max=8 * 50)
        mood["now"] = "silent"


@pytest.fixture
def memory_group() -> Iterator[Group]:
    with own_group("memory") as group:
        yield group


@pytest.mark.parametrize(
    "seconds", [8.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.long])]
)
@pytest.mark.parametrize("hung", [False, True], ids=["well", "hung"])
def test_a_container_of_64_mib_is_enough(
    xrayd: XraydFactory, fake_xray: FakeXRay, memory_group: Group, hung: bool, seconds: float
) -> None:
    """A thousand segments a second; under 60 MiB, the endpoint hung or not."""
    memory_group.limit_memory(64 * MIB)
    oracle = Oracle(xrayd(command=memory_group.command(), config=QUICK_EXIT), fake_xray)
    if hung:
        fake_xray.answer(Verdict(hang=True, stored=False))
    oracle.stream(seconds, 1000.0)
    assert oracle.process.peak_rss_mib() < 60.0
    account = oracle.close()
    if not hung:
        assert account.lost == 0


def test_a_container_of_96_mib_survives_the_largest_datagrams(
    xrayd: XraydFactory, fake_xray: FakeXRay, memory_group: Group
) -> None:
    """E-54: not killed for its memory, whatever comes."""
    memory_group.limit_memory(96 * MIB)
    fake_xray.answer(Verdict(hang=True, stored=False))
    process = xrayd(command=memory_group.command(), config=QUICK_EXIT)
    for _ in range(40):
        process.send(*[HEADER + b"x" * 65_000] * 100)
        process.get("/healthz")
    assert process.running
    process.sigterm()
    assert process.wait(30) == 0
    process.wait_for_line("Stopped: .*difference=0")
