"""Faults of the spool's disk and kills, in the daemon (E-33, E-34, E-38, E-46 … E-52, E-56)."""

import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.documents import document_id
from fakes.factory import XraydFactory
from fakes.mounts import fill, tmpfs
from fakes.process import Xrayd, free_port
from fakes.verdict import Verdict
from fakes.xray import FakeXRay, Unprocessed
from oracle import QUICK_EXIT, Account, Oracle, scrape, table

MIB = 1024 * 1024
KILL_WINDOW_S = 0.05
"""What arrived so shortly before a kill may not be in the spool yet …"""
SCHEDULER_S = 0.5
"""… and this much earlier where the process did not get to run."""


class Spooled:
    """A process with a spool, its oracle, and its metrics."""

    def __init__(
        self,
        xrayd: XraydFactory,
        fake: FakeXRay,
        *args: str,
        directory: str = "spool",
        **spool: int,
    ) -> None:
        self.metrics_port = free_port()
        config = {
            **QUICK_EXIT,
            "Spool": {"Directory": directory, **spool},
            "Metrics": {"Address": f"127.0.0.1:{self.metrics_port}"},
        }
        self.process = xrayd(*(args or ("-m", "3")), config=config)
        self.oracle = Oracle(self.process, fake)
        self.directory = self.process.home / directory

    def metric(self, name: str) -> float:
        return scrape(self.process, self.metrics_port)[name]

    def wait_metric(self, name: str, holds: Callable[[float], bool], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not holds(value := self.metric(name)):
            assert time.monotonic() < deadline, f"{name} is {value}"
            time.sleep(0.05)  # the pace of asking

    def wait_spooled(self) -> None:
        """Wait until everything sent so far is on disk, with the endpoint down from the start."""
        size = sum(len(document) for document in self.oracle.sent)
        self.wait_metric("spool_bytes", lambda value: value >= size)

    def wait_on_disk(self, documents: list[str]) -> None:
        """Wait until the spool's files hold these documents."""
        deadline = time.monotonic() + 30.0
        missing = [document.encode() for document in documents]
        while missing:
            assert time.monotonic() < deadline, f"{len(missing)} documents are not on disk"
            time.sleep(0.05)  # the pace of asking
            data = b"".join(path.read_bytes() for path in segments(self.directory))
            missing = [document for document in missing if document not in data]

    def wait_drained(self) -> None:
        """Wait until nothing is left, neither on disk nor in memory."""
        self.wait_metric("spooled_documents", lambda value: value == 0.0)
        self.wait_metric("queued_documents", lambda value: value == 0.0)

    def send_in_parts(self, times: int, count: int) -> None:
        """Send documents, each part once the one before was read."""
        for _ in range(times):
            self.oracle.send(count)
            self.process.get("/healthz")

    def kill_and_start(self) -> None:
        """Kill it, and start it again with the endpoint up."""
        self.process.kill()
        self.oracle.fake.up()
        self.process.start()

    def check_nothing_lost(self, **limits: int) -> Account:
        """Of the last process: everything sent at all has arrived."""
        self.oracle.wait_all()
        account = self.oracle.close()
        assert account.lost == account.counted_lost == 0, account
        assert account.duplicates <= limits.get("duplicates_max", 0), account
        return account


def in_outage(
    xrayd: XraydFactory, fake: FakeXRay, *args: str, seconds: float = 1.0, **options: Any
) -> Spooled:
    """A process whose endpoint is down, with so many seconds of traffic in its spool."""
    fake.down()
    spooled = Spooled(xrayd, fake, *args, **options)
    spooled.oracle.stream(seconds)
    spooled.wait_spooled()
    return spooled


def segments(spool: Path) -> list[Path]:
    return sorted(spool.glob("*.seg"))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "mount", 32) as path:
        yield path


@pytest.mark.root
def test_a_disk_full_of_its_own_data_gives_up_the_oldest_and_drains(
    xrayd: XraydFactory, fake_xray: FakeXRay, mount: Path
) -> None:
    """E-46."""
    fake_xray.down()
    spooled = Spooled(xrayd, fake_xray, directory=str(mount / "spool"))
    spooled.oracle.size = 20_000
    spooled.send_in_parts(25, 100)
    spooled.wait_metric("spooled_documents", lambda value: value > 500)
    fake_xray.up()
    spooled.oracle.check_recovery()
    spooled.wait_drained()
    account = spooled.oracle.close()
    assert account.lost == account.ledger["spilled"] > 500
    assert account.ledger["sent"] + account.ledger["spilled"] == len(spooled.oracle.sent)
    assert account.ledger["sent"] * 20_000 > 16 * MIB
    kept = set(fake_xray.documents)
    gone = [number for number, one in enumerate(spooled.oracle.sent) if one not in kept]
    assert max(gone) < len(spooled.oracle.sent) - 800  # the oldest, not the latest


@pytest.mark.root
def test_a_disk_that_others_fill_stops_neither_what_comes_nor_what_goes(
    xrayd: XraydFactory, fake_xray: FakeXRay, mount: Path
) -> None:
    """E-47: 80 batches of backlog drain from a disk on which nothing can be written."""
    fake_xray.down()
    spooled = Spooled(xrayd, fake_xray, directory=str(mount / "spool"))
    spooled.send_in_parts(16, 250)
    spooled.wait_spooled()
    filler = fill(mount)
    spooled.oracle.send(50)
    spooled.wait_metric("spool_degraded", lambda value: value == 1.0)
    fake_xray.up()
    spooled.oracle.check_recovery()
    spooled.oracle.wait_all()
    filler.unlink()
    spooled.wait_metric("spool_degraded", lambda value: value == 0.0)
    spooled.oracle.check_recovery()
    spooled.check_nothing_lost()


def spool_thread(process: Xrayd) -> str:
    """The thread that has written most: the other one that writes is the log's."""

    def written(task: Path) -> int:
        found = re.search(r"^wchar: (\d+)$", (task / "io").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    tasks = [t for t in Path(f"/proc/{process.pid}/task").iterdir() if t.name != str(process.pid)]
    return max(tasks, key=written).name


@contextlib.contextmanager
def tampering(process: Xrayd, *injections: str) -> Iterator[None]:
    """Let system calls of the spool's thread fail or take their time."""
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    strace = subprocess.Popen(
        ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        + [word for one in injections for word in ("-e", f"inject={one}")]
        + ["-p", spool_thread(process)],
        stderr=subprocess.PIPE,
    )
    status = Path(f"/proc/{process.pid}/task/{spool_thread(process)}/status")
    try:
        deadline = time.monotonic() + 20.0
        while "TracerPid:\t0\n" in status.read_text():
            if strace.poll() is not None:
                pytest.skip(f"may not trace: {strace.communicate()[1].decode()}")
            assert time.monotonic() < deadline
            time.sleep(0.02)  # the pace of asking
        yield
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=20.0)


@contextlib.contextmanager
def refusing_writes(process: Xrayd, room: int = 0) -> Iterator[None]:
    """Let no file grow beyond `room` bytes: what does not fit is cut off, then refused."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


def fail_syncs(process: Xrayd, _: int) -> contextlib.AbstractContextManager[None]:
    return tampering(process, "fdatasync:error=EIO")


def fail_some_syncs(process: Xrayd, _: int) -> contextlib.AbstractContextManager[None]:
    return tampering(process, "fdatasync:error=EIO:when=1+2")


def fail_writes(process: Xrayd, _: int) -> contextlib.AbstractContextManager[None]:
    return refusing_writes(process)


def tear_writes(process: Xrayd, size: int) -> contextlib.AbstractContextManager[None]:
    return refusing_writes(process, size + 500)


@contextlib.contextmanager
def fail_both(process: Xrayd, _: int) -> Iterator[None]:
    with tampering(process, "fdatasync:error=EIO"), refusing_writes(process):
        yield


FAILURES: dict[str, Any] = {
    "writes": pytest.param(fail_writes, id="writes"),
    "torn writes": pytest.param(tear_writes, id="torn writes"),
    "syncs": pytest.param(fail_syncs, id="syncs", marks=pytest.mark.root),
    "some syncs": pytest.param(
        fail_some_syncs, id="some syncs", marks=[pytest.mark.root, pytest.mark.slow]
    ),
    "both": pytest.param(fail_both, id="both", marks=pytest.mark.root),
}


@pytest.mark.parametrize("fail", FAILURES.values())
def test_a_disk_that_fails_loses_nothing_and_is_taken_up_again(
    xrayd: XraydFactory,
    fake_xray: FakeXRay,
    fail: Callable[[Xrayd, int], contextlib.AbstractContextManager[None]],
) -> None:
    """E-48: what it could not write is in memory, and it writes again when it can."""
    spooled = in_outage(xrayd, fake_xray, "-m", "40")
    (file,) = segments(spooled.directory)
    with fail(spooled.process, file.stat().st_size):
        spooled.oracle.stream(0.3)
        spooled.wait_metric("spool_degraded", lambda value: value == 1.0)
        spooled.oracle.stream(1.5)
    spooled.wait_metric("spool_degraded", lambda value: value == 0.0)
    spooled.wait_on_disk(spooled.oracle.send(200))
    assert spooled.process.udp_drops() == 0
    fake_xray.up()
    spooled.oracle.check_recovery()
    spooled.check_nothing_lost()


def test_what_came_while_the_disk_failed_is_written_when_it_works_again(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-48: a kill after the disk's return loses none of what memory held by then."""
    spooled = in_outage(xrayd, fake_xray, "-m", "40", seconds=0.5)
    with refusing_writes(spooled.process):
        late = spooled.oracle.send(100)
        spooled.wait_metric("spool_degraded", lambda value: value == 1.0)
        late += spooled.oracle.send(3000)
        spooled.oracle.stream(1.5)
    spooled.wait_metric("spool_degraded", lambda value: value == 0.0)
    spooled.wait_on_disk(late + spooled.oracle.send(100))
    on_disk = b"".join(path.read_bytes() for path in segments(spooled.directory))
    places = [on_disk.rindex(document.encode()) for document in spooled.oracle.sent]
    assert places == sorted(places)
    spooled.kill_and_start()
    spooled.check_nothing_lost()


def test_much_that_came_while_the_disk_failed_keeps_to_its_limits(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-48: what memory holds by then is many times what the disk may."""
    fake_xray.down()
    spooled = Spooled(xrayd, fake_xray, "-m", "80", MaxMB=4)
    spooled.oracle.size = 60_000
    with refusing_writes(spooled.process):
        spooled.oracle.send(1)
        spooled.wait_metric("spool_degraded", lambda value: value == 1.0)
        spooled.send_in_parts(110, 10)
        spooled.wait_metric("queued_documents", lambda value: value == 1101.0)
    last, deadline = spooled.oracle.sent[-1].encode(), time.monotonic() + 30.0
    while not any(last in path.read_bytes() for path in segments(spooled.directory)[-1:]):
        assert time.monotonic() < deadline
        assert spooled.metric("spool_bytes") <= (4 + 1) * MIB
    assert spooled.process.peak_rss_mib() <= 80 + 64
    fake_xray.up()
    spooled.check_nothing_lost()


@pytest.mark.root
def test_a_slow_disk_is_not_waited_for(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-56: every sync takes 200 ms, at 5,000 segments a second."""
    spooled = Spooled(xrayd, fake_xray, "-m", "80")
    spooled.oracle.stream(1.0)
    with tampering(spooled.process, "fdatasync:delay_exit=200000"):
        spooled.oracle.stream(5.0, 5000.0)
        assert spooled.process.udp_drops() == 0
    spooled.oracle.check_recovery()
    account = spooled.check_nothing_lost()
    assert account.ledger["received"] > 15_000


@pytest.mark.root
def test_a_disk_that_is_far_behind_catches_up(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-56: it stands still for seconds, and more arrives than may wait for it."""
    spooled = in_outage(xrayd, fake_xray, "-m", "80")
    with tampering(spooled.process, "fdatasync:delay_exit=4000000"):
        spooled.oracle.size = 5000
        spooled.oracle.stream(3.0, 1500.0)
    assert spooled.process.udp_drops() == 0
    spooled.wait_on_disk(spooled.oracle.sent)
    spooled.kill_and_start()
    spooled.check_nothing_lost()


@pytest.mark.root
@pytest.mark.parametrize(
    ("refused", "size", "traffic"),
    [
        pytest.param(True, 20_000, (15.0, 400.0), id="refused"),
        pytest.param(
            False, 200, (70.0, 4000.0), id="taken", marks=[pytest.mark.slow, pytest.mark.long]
        ),
    ],
)
def test_memory_holds_while_the_disk_hangs(
    xrayd: XraydFactory, fake_xray: FakeXRay, refused: bool, size: int, traffic: tuple[float, float]
) -> None:
    """E-56: what the spool's thread ought to be told piles up."""
    spooled = Spooled(xrayd, fake_xray)
    spooled.oracle.stream(1.0)
    spooled.oracle.wait_all()
    if refused:
        every = Unprocessed(match=lambda _: True, code="InvalidName")
        fake_xray.answer(Verdict(unprocessed=every))
    spooled.oracle.size = size
    with tampering(spooled.process, "fdatasync:delay_exit=100000000"):
        spooled.oracle.stream(*traffic)
        assert spooled.process.peak_rss_mib() <= 3 + 64
    spooled.process.kill()


def remove(spool: Path) -> None:
    shutil.rmtree(spool)


def cut(spool: Path) -> None:
    os.truncate(segments(spool)[-1], 100)


def exchange(spool: Path) -> None:
    file = segments(spool)[-1]
    copy = file.with_name("copy")
    shutil.copy(file, copy)
    copy.rename(file)


TAMPERINGS = {"removed": remove, "cut": cut, "exchanged": exchange}


@pytest.mark.parametrize("tamper", table(TAMPERINGS, TAMPERINGS))
def test_a_spool_that_others_meddle_with_is_begun_anew(
    xrayd: XraydFactory, fake_xray: FakeXRay, tamper: Callable[[Path], None]
) -> None:
    """E-49: memory has it all, and what comes after survives a kill."""
    spooled = in_outage(xrayd, fake_xray, "-m", "40")
    tamper(spooled.directory)
    spooled.oracle.stream(2.0)
    spooled.wait_metric("spool_degraded", lambda value: value == 0.0)
    assert spooled.process.udp_drops() == 0
    fake_xray.up()
    spooled.oracle.check_recovery()
    spooled.oracle.wait_all()
    fake_xray.down()
    spooled.wait_on_disk(spooled.oracle.send(200))
    spooled.kill_and_start()
    spooled.check_nothing_lost(duplicates_max=400)


# Not `write`: the thread wakes the event loop by one. No file may grow instead.
CHANGES = ("pwrite64", "renameat", "unlinkat", "ftruncate", "fdatasync")


@pytest.mark.root
def test_a_disk_that_turns_read_only_still_drains(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-49: most of it is on disk only; nothing can be changed there any more."""
    fake_xray.down()
    spooled = Spooled(xrayd, fake_xray)
    spooled.send_in_parts(10, 1000)
    spooled.wait_spooled()
    assert spooled.metric("spooled_documents") > 5000
    read_only = [f"{call}:error=EROFS" for call in CHANGES]
    with refusing_writes(spooled.process), tampering(spooled.process, *read_only):
        spooled.oracle.send(50)
        spooled.wait_metric("spool_degraded", lambda value: value == 1.0)
        fake_xray.up()
        spooled.oracle.check_recovery()
        spooled.oracle.wait_all()
    spooled.wait_metric("spool_degraded", lambda value: value == 0.0)
    spooled.check_nothing_lost()


def tear(file: Path, chance: random.Random) -> int:
    """Cut somewhere in the last record."""
    os.truncate(file, file.stat().st_size - chance.randrange(1, 1000))
    return 1


def flip(file: Path, chance: random.Random) -> int:
    data = bytearray(file.read_bytes())
    data[chance.randrange(100, len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)
    return 2


def spoil_sector(file: Path, chance: random.Random) -> int:
    data = bytearray(file.read_bytes())
    at = chance.randrange(1, len(data) // 512 - 1) * 512
    data[at : at + 512] = chance.randbytes(512)
    file.write_bytes(data)
    return 3


def lose_power(file: Path, chance: random.Random) -> int:
    """The end was never written: zeros there."""
    data = bytearray(file.read_bytes())
    data[-3000:] = bytes(3000)
    file.write_bytes(data)
    return 4


DAMAGES = {
    "E-50 torn tail": tear,
    "E-51 flipped bit": flip,
    "E-51 bad sector": spoil_sector,
    "E-52 power loss": lose_power,
}


@pytest.mark.parametrize("damage", table(DAMAGES, DAMAGES))
def test_damage_costs_the_records_it_hit(
    xrayd: XraydFactory, fake_xray: FakeXRay, damage: Callable[[Path, random.Random], int]
) -> None:
    """E-50 … E-52: the process starts, sends the rest, and nothing that nobody sent."""
    spooled = in_outage(xrayd, fake_xray, seconds=2.0)
    spooled.process.kill()
    seed = random.randrange(2**32)
    most = damage(segments(spooled.directory)[-1], random.Random(seed))
    fake_xray.up()
    spooled.process.start()
    spooled.oracle.check_recovery()
    sent = set(spooled.oracle.sent)
    fake_xray.wait_for(lambda: len(set(fake_xray.documents)) >= len(sent) - most)
    spooled.wait_metric("spooled_documents", lambda value: value == 0.0)
    spooled.process.sigterm()
    assert spooled.process.wait(30) == 0
    stored = set(fake_xray.documents)
    assert stored <= sent
    assert len(sent - stored) <= most, f"seed {seed}"
    line = spooled.process.wait_for_line("Stopped: .*")[0]
    assert "difference=0" in line
    assert any((spooled.directory / "quarantine").iterdir())


def test_a_file_of_another_version_is_kept_and_does_not_stop_the_rest(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-38, downgrade: what a later version wrote is moved aside whole."""
    fake_xray.down()
    spooled = Spooled(xrayd, fake_xray)
    spooled.oracle.send(100)
    spooled.wait_spooled()
    spooled.process.kill()
    (file,) = segments(spooled.directory)
    strange = spooled.directory / f"{1 << 30:016x}.seg"
    data = bytearray(file.read_bytes())
    data[4] += 1  # the version stands behind the four bytes of the magic
    strange.write_bytes(data)
    fake_xray.up()
    spooled.process.start()
    spooled.check_nothing_lost()
    kept = [path.read_bytes() for path in (spooled.directory / "quarantine").iterdir()]
    assert bytes(data) in kept


def test_a_spool_of_the_first_version_is_read(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    """E-38, upgrade: the files beside this one were written by version 1."""
    model = xrayd(config=QUICK_EXIT)
    model.sigterm()
    model.wait()
    spool = model.home / "spool"
    shutil.copytree(Path(__file__).with_name("spool_version_1"), spool)
    for path in [spool, *spool.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    config = {**QUICK_EXIT, "Spool": {"Directory": "spool"}, "Delivery": {"MaxAgeHours": 28 * 24}}
    process = xrayd(config=config, home=model.home)
    process.wait_for_line("Spool spool: 5 segments found")
    numbers = [int(document_id(document), 16) for document in fake_xray.wait_documents(5)]
    assert numbers == [3, 4, 5, 6, 7]


def kill_and_restart(spooled: Spooled, killed_at: list[float]) -> None:
    killed_at.append(time.monotonic())
    spooled.process.kill()
    spooled.process.start()


def kill_at_random(spooled: Spooled, fake: FakeXRay, times: int) -> None:
    """Kill under load; the traffic pauses while nobody listens."""
    chance = random.Random()
    oracle = spooled.oracle
    sent_at: dict[str, float] = {}
    killed_at: list[float] = []
    for number in range(times):
        if number % 4 == 3:
            fake.down()
        end = time.monotonic() + chance.uniform(0.1, 0.6)
        while time.monotonic() < end:
            sent_at |= dict.fromkeys(oracle.send(5), time.monotonic())
            time.sleep(0.01)  # the pace of the traffic
        kill_and_restart(spooled, killed_at)
        fake.up()
    oracle.check_recovery()
    spooled.wait_drained()
    spooled.process.sigterm()
    assert spooled.process.wait(30) == 0
    stored = fake.documents
    assert set(stored) <= set(oracle.sent)
    for document in set(sent_at) - set(stored):
        before_kill = min(at - sent_at[document] for at in killed_at if at >= sent_at[document])
        assert before_kill <= KILL_WINDOW_S + SCHEDULER_S
    assert len(stored) - len(set(stored)) <= 400 * times
    assert len(set(stored)) > 5 * times


@pytest.mark.parametrize(
    "times",
    [5, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_killed_again_and_again_what_was_spooled_arrives(
    xrayd: XraydFactory, fake_xray: FakeXRay, times: int
) -> None:
    """E-33."""
    kill_at_random(Spooled(xrayd, fake_xray), fake_xray, times)


POINTS = ["renameat:when=1", "renameat:when=2", "fdatasync:when=2", "pwrite64:when=3",
          "unlinkat:when=1", "ftruncate:when=1"]  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("point", table({point: point for point in POINTS}, POINTS[:4]))
def test_killed_in_a_system_call_of_the_spool_and_again_in_recovery(
    xrayd: XraydFactory, fake_xray: FakeXRay, point: str
) -> None:
    """E-34: the calls behind roll, sync, cursor and removal; no other part makes them."""
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    call, _, when = point.partition(":")
    killing = [
        "strace", "-D", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", f"trace={call}",
        "-e", f"inject={call}:signal=KILL:{when}", sys.executable, "-m", "xrayd",
    ]  # fmt: skip
    fake_xray.down()
    config = {**QUICK_EXIT, "Spool": {"Directory": "spool", "MaxMB": 64}}
    first = xrayd(config=config)
    oracle = Oracle(first, fake_xray)
    spooled = oracle.send(300)
    first.sigterm()
    assert first.wait(30) == 0
    fake_xray.up()
    for _ in range(2):
        victim = xrayd(config=config, home=first.home, command=killing, ready=None)
        with contextlib.suppress(AssertionError):
            victim.wait(3.0)
        if victim.running:
            victim.kill()
    last = xrayd(config=config, home=first.home)
    fake_xray.wait_for(lambda: set(spooled) <= set(fake_xray.documents))
    last.sigterm()
    assert last.wait(30) == 0
    assert last.wait_for_line("Stopped: .*difference=0")
    assert set(fake_xray.documents) == set(spooled)


def test_many_documents_survive_a_kill_with_a_hung_endpoint(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-33 in bulk: far more than memory holds, then a kill, then all of it."""
    fake_xray.down()
    spooled = Spooled(xrayd, fake_xray)
    spooled.oracle.size = 5000
    spooled.send_in_parts(20, 100)
    spooled.wait_spooled()
    spooled.kill_and_start()
    spooled.oracle.check_recovery()
    spooled.check_nothing_lost()
