"""Faults of the process itself, its signals and its resources (E-31 … E-37, E-53, E-55)."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from fakes.documents import make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd
from fakes.verdict import Verdict
from fakes.xray import TELEMETRY_RECORDS, FakeXRay
from groups import own_group
from oracle import QUICK_EXIT, Oracle, flood, table

EXIT_S = 10.0

ENDPOINTS: dict[str, Callable[[FakeXRay], None]] = {
    "well": lambda fake: fake.answer(None),
    "down": lambda fake: fake.down(),
    "hung": lambda fake: fake.answer(Verdict(hang=True, stored=False)),
    "500": lambda fake: fake.answer(Verdict(status=500)),
    "429": lambda fake: fake.answer(Verdict(status=429, error="ThrottledException")),
    "slow": lambda fake: fake.answer(Verdict(delay_s=2.5)),
}


@pytest.mark.parametrize("begin", table(ENDPOINTS, ["well", "down", "hung"]))
def test_sigterm_under_load_is_over_in_ten_seconds_and_counts_what_it_loses(
    xrayd: XraydFactory, fake_xray: FakeXRay, begin: Callable[[FakeXRay], None]
) -> None:
    """E-31, without a spool."""
    oracle = Oracle(xrayd(), fake_xray)
    oracle.warm_up()
    begin(fake_xray)
    oracle.stream(1.5)
    account = oracle.close(exit_s=EXIT_S)
    assert account.ledger["received"] == len(oracle.sent)
    assert account.ledger["spilled"] == account.lost
    if begin in (ENDPOINTS["well"], ENDPOINTS["slow"]):
        assert account.lost == 0
    if fake_xray.telemetry_records:  # the endpoint may be down for them too
        records = fake_xray.telemetry_records
        assert sum(r["SegmentsSpilloverCount"] for r in records) == account.lost
        assert sum(r["SegmentsReceivedCount"] for r in records) == len(oracle.sent)


def test_sigterm_while_idle(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-31."""
    Oracle(xrayd(), fake_xray).close(exit_s=EXIT_S)


@pytest.mark.parametrize("spool", [False, True], ids=["memory", "spool"])
def test_what_comes_while_the_rest_is_sent_is_counted(
    xrayd: XraydFactory, fake_xray: FakeXRay, spool: bool
) -> None:
    """E-31: the port is open to the end, so senders see nothing of an exit that takes long."""
    config = {**QUICK_EXIT, **({"Spool": {"Directory": "spool"}} if spool else {})}
    oracle = Oracle(xrayd(config=config), fake_xray)
    oracle.warm_up()
    fake_xray.answer(Verdict(hang=True, stored=False))
    oracle.send(100)
    oracle.process.sigterm()
    oracle.stream(4.0, 50.0)
    assert oracle.process.wait(EXIT_S) == 0
    kept = f"spilled=0 .*spooled={len(oracle.sent) - 20}" if spool else "spilled=.*spooled=0"
    oracle.process.wait_for_line(rf"Stopped: received={len(oracle.sent)} .*{kept} .*difference=0")


@pytest.mark.parametrize("listen_s", [9.0, 60.0])
def test_listening_for_long_leaves_time_to_send_what_came(
    xrayd: XraydFactory, fake_xray: FakeXRay, listen_s: float
) -> None:
    """E-31: senders that end seconds after xrayd was told to, as in a task of ECS."""
    fake_xray.answer(Verdict(delay_s=0.3))
    process = xrayd(config={"Drain": {"QuietSeconds": 1.0, "ListenSeconds": listen_s}})
    oracle = Oracle(process, fake_xray)
    oracle.warm_up()
    process.sigterm()
    process.wait_for_line("Got shutdown signal")
    oracle.stream(5.0)
    assert process.wait(EXIT_S) == 0
    account = oracle.account()
    assert account.lost == account.counted_lost == 0
    assert account.ledger["received"] == len(oracle.sent)


def junk_until(stop: threading.Event, process: Xrayd, payload: bytes) -> None:
    """Send as fast as one thread can, until told to stop or the port is closed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", process.port))
        while not stop.is_set():
            with contextlib.suppress(OSError):
                sock.send(payload)


@contextlib.contextmanager
def senders(process: Xrayd, payload: bytes, count: int = 2) -> Iterator[None]:
    """Threads that flood the process for as long as the block runs."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=junk_until, args=(stop, process, payload)) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_what_comes_behind_the_last_telemetry_record_is_counted(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-31: a sender that does not stop, and a service that takes its time with the record."""
    process = xrayd(config=QUICK_EXIT)
    oracle = Oracle(process, fake_xray)
    oracle.warm_up()
    fake_xray.scripted_path = TELEMETRY_RECORDS
    fake_xray.answer(Verdict(hang=True))
    process.sigterm()
    fake_xray.wait_requests(1, TELEMETRY_RECORDS)
    oracle.send(100)
    assert process.wait(20) == 0
    account = oracle.account()
    assert account.ledger["received"] == len(oracle.sent)
    assert account.ledger["spilled"] == account.lost == 100


@pytest.mark.parametrize(
    "times",
    [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_sigterm_in_a_flood_ends_in_time(
    xrayd: XraydFactory, fake_xray: FakeXRay, times: int
) -> None:
    """E-32: senders that never stop, and a buffer that is always full."""
    payload = b'{"format":"json","version":1}\n' + make_document(size=200).encode()
    for _ in range(times):
        process = xrayd("-m", "3", config=QUICK_EXIT)
        with senders(process, payload):
            process.wait_for_line("Segment dropped|Successfully sent")
            process.sigterm()
            assert process.wait(EXIT_S + 10.0) == 0
        line = process.wait_for_line("Stopped: .*")[0]
        assert "difference=0" in line
        assert "queued=0 spooled=0 in_flight=0" in line


@pytest.mark.parametrize(
    ("seconds", "per_s"),
    [
        (3.0, 200.0),
        pytest.param(12.0, 200.0, marks=pytest.mark.slow),
        pytest.param(
            120.0, 50.0, marks=[pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(200)]
        ),
    ],
)
def test_a_stopped_process_goes_on_where_it_was(
    xrayd: XraydFactory, fake_xray: FakeXRay, seconds: float, per_s: float
) -> None:
    """E-35: the kernel's buffer absorbs; requests under way are at most repeated once."""
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    oracle.send(200)
    oracle.process.signal(signal.SIGSTOP)
    oracle.stream(seconds, per_s)
    oracle.process.signal(signal.SIGCONT)
    oracle.check_recovery()
    oracle.check_nothing_lost(duplicates_max=8 * 50)


@pytest.mark.root
@pytest.mark.parametrize("spool", [False, True], ids=["memory", "spool"])
def test_a_starved_process_is_slow_and_loses_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay, spool: bool
) -> None:
    """E-36: a hundredth of one processor; answers it reads too late are asked for again."""
    config = {**QUICK_EXIT, **({"Spool": {"Directory": "spool"}} if spool else {})}
    oracle = Oracle(xrayd(config=config), fake_xray)
    oracle.warm_up()
    with own_group("cpu") as group:
        group.limit_cpu(0.01)
        group.take(oracle.process.pid)
        before = oracle.process.cpu_seconds()
        oracle.stream(10.0)
        assert oracle.process.cpu_seconds() - before < 0.5
        assert group.times_throttled() > 10
        group.free_cpu()
        oracle.check_recovery()
        oracle.check_nothing_lost(duplicates_max=8 * 50)


def test_a_second_start_fails_and_leaves_the_first_alone(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-37."""
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    second = xrayd(port=oracle.process.port, ready=None)
    oracle.stream(1.0)
    assert second.wait(20) == 1
    oracle.check_recovery()
    oracle.check_nothing_lost()


def test_a_hangup_loses_nothing(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-37: log rotation and service managers send it."""
    oracle = Oracle(xrayd(config=QUICK_EXIT), fake_xray)
    oracle.warm_up()
    fake_xray.answer(Verdict(status=500))
    oracle.stream(1.0)
    oracle.process.signal(signal.SIGHUP)
    oracle.stream(1.0)
    fake_xray.answer(None)
    oracle.check_recovery()
    oracle.check_nothing_lost()


def test_few_descriptors_are_kept_for_the_way_to_x_ray(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-53: 64 in all, and a hundred callers on TCP that say nothing."""
    limited = [
        sys.executable, "-c",
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "os.execv(sys.executable, [sys.executable, '-m', 'xrayd', *sys.argv[1:]])",
    ]  # fmt: skip
    oracle = Oracle(xrayd(config=QUICK_EXIT, command=limited), fake_xray)
    assert resource.prlimit(oracle.process.pid, resource.RLIMIT_NOFILE)[0] == 64
    idle: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            with contextlib.suppress(OSError):
                idle.append(stack.enter_context(oracle.process.tcp(timeout=5.0)))
        fake_xray.reset_connections()
        oracle.stream(2.0)
        oracle.check_recovery()
        assert oracle.process.open_files() < 64
    assert len(idle) > 50
    oracle.check_nothing_lost()


@pytest.mark.parametrize("flags", [("-l", "dev", "--log-format", "json")])
def test_a_log_nobody_reads_costs_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay, flags: tuple[str, ...]
) -> None:
    """E-55: segments go on, and so does the exit."""
    model = xrayd(config=QUICK_EXIT)
    model.sigterm()
    model.wait()
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [*model.args, *flags], env=model.env, cwd=model.home, stdout=writer, stderr=writer
    )
    os.close(writer)
    probe = Xrayd(home=model.home, port=model.port)
    probe._process = child
    try:
        probe.wait_healthy()
        oracle = Oracle(probe, fake_xray)
        for _ in range(10):
            probe.send(*(b"junk %d" % n + b"\n" * 2 for n in range(300)))
            oracle.send(50)
        oracle.wait_all()
        oracle.check_recovery()
        probe.sigterm()
        assert child.wait(EXIT_S + 10.0) == 0
    finally:
        os.close(reader)
        probe.stop()


def test_a_train_is_taken_whole(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """The kernel's buffer of a process that has just started."""
    process = xrayd(config=QUICK_EXIT)
    oracle = Oracle(process, fake_xray)
    oracle.sent += flood(process, 1000)
    oracle.check_nothing_lost()
