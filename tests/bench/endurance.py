"""What xrayd bears, as figures: `python tests/bench/endurance.py [run …]`; no name for all.

    memory  an outage of --outage seconds at 1,000 segments a second, held in 80 MB
    spool   the same with a spool of 512 MiB and 16 MB of memory; how fast the backlog drains while
            live segments go on coming
    kills   --kills times kill -9 under load, every other time with the endpoint down
    burst   20,000 segments back to back, five times
    steady  --steady seconds at 5,000 segments a second with the spool: drops and CPU
    open    start on 1 GB of backlog, to the first upload

Segments of 1 KB, loopback only; the endpoint answers after 20 ms. Sender, endpoint and xrayd are
processes of their own. Needs 1.2 GB of disk in --directory and removes it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from fakes.documents import HEADER, make_document
from fakes.process import Xrayd, free_port
from sink import SinkConnection

from xrayd.spool.spool import Spool

SIZE = 1024
ANSWER_S = 0.02
NUMBERS = 2_000_000


def template() -> tuple[bytes, bytes]:
    """What stands before and behind a document's number, which is its id.

    It begins in an hour, so as not to have begun before a restart: those may have to wait.
    """
    fields = {"trace_id": "1-65a1b2c3-" + "0" * 24, "start_time": time.time() + 3600}
    document = make_document(id=None, **fields, size=SIZE - 24)
    return b'{"id":"', b'",' + document.encode()[1:]


class Shared:
    """What sender and endpoint saw of each number, and whether the endpoint is up."""

    def __init__(self) -> None:
        self.sent_at = multiprocessing.RawArray("d", NUMBERS)
        self.came_at = multiprocessing.RawArray("d", NUMBERS)
        self.times = multiprocessing.RawArray("B", NUMBERS)
        self.sent: Synchronized[int] = multiprocessing.Value("q", 0)
        self.came: Synchronized[int] = multiprocessing.Value("q", 0)
        self.is_up: Synchronized[int] = multiprocessing.Value("b", 1)
        self.stop: Synchronized[int] = multiprocessing.Value("b", 0)
        self.port = free_port()

    def take(self, documents: Sequence[str]) -> None:
        """The endpoint got these."""
        now = time.monotonic()
        for document in documents:
            number = int(document[7:23], 16)
            self.came_at[number] = self.came_at[number] or now
            self.came.value += not self.times[number]
            self.times[number] = min(255, self.times[number] + 1)

    def lost(self) -> list[int]:
        return [n for n in range(self.sent.value) if not self.times[n]]

    def duplicates(self) -> int:
        return sum(self.times[n] - 1 for n in range(self.sent.value) if self.times[n])


async def serve(shared: Shared) -> None:
    """The endpoint: listens while it is up, refuses while it is not."""
    loop, open_ones = asyncio.get_running_loop(), set[asyncio.BaseTransport]()
    server: asyncio.Server | None = None
    while not shared.stop.value:
        if shared.is_up.value and server is None:
            server = await loop.create_server(
                lambda: SinkConnection(shared.take, open_ones, ANSWER_S), "127.0.0.1", shared.port
            )
        elif not shared.is_up.value and server is not None:
            server.close()
            server = None
            for transport in list(open_ones):
                transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0.02)


def send(shared: Shared, port: int, rate: float, seconds: float) -> None:
    """Send numbered documents at a rate, 0 for as fast as can be (then `seconds` is a count)."""
    before, behind = template()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sock.connect(("127.0.0.1", port))
    first, begun = shared.sent.value, time.monotonic()
    number = first
    while not shared.stop.value:
        elapsed = time.monotonic() - begun
        if (elapsed if rate else number - first) >= seconds:
            break
        due = first + int(elapsed * rate) - number if rate else int(seconds)
        for _ in range(due):
            shared.sent_at[number] = time.monotonic()
            with contextlib.suppress(OSError):  # nobody listens just now
                sock.send(HEADER + before + b"%016x" % number + behind)
            number += 1
        shared.sent.value = number
        time.sleep(0.002)


class World:
    """Endpoint, sender and process of one run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.shared = Shared()
        self._children: list[multiprocessing.Process] = []
        self.spawn(lambda: asyncio.run(serve(self.shared)))

    def spawn(self, work: Callable[[], None]) -> multiprocessing.Process:
        child = multiprocessing.Process(target=work, daemon=True)
        child.start()
        self._children.append(child)
        return child

    def xrayd(self, *args: str, **config: Any) -> Xrayd:
        settings = {"Endpoint": f"http://127.0.0.1:{self.shared.port}", **config}
        (self.home / "cfg.yaml").write_text(json.dumps(settings))
        port = free_port()
        at = f"127.0.0.1:{port}"
        return Xrayd(
            *("-o", "-n", "us-east-1", "-c", "cfg.yaml", "-b", at, "-t", at, "-l", "error", *args),
            home=self.home,
            port=port,
            env={"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8)},
        )

    def send(self, process: Xrayd, rate: float, seconds: float) -> multiprocessing.Process:
        return self.spawn(lambda: send(self.shared, process.port, rate, seconds))

    def wait_all(self, seconds: float) -> None:
        """Wait until all that was sent has come, or nothing has for a while."""
        shared = self.shared
        end, seen = time.monotonic() + seconds, -1
        while shared.came.value < shared.sent.value and time.monotonic() < end:
            if shared.came.value != seen:
                seen, end = shared.came.value, time.monotonic() + seconds
            progress(f"{shared.came.value:,} of {shared.sent.value:,} delivered")
            time.sleep(0.1)

    def close(self) -> None:
        self.shared.stop.value = 1
        for child in self._children:
            child.join(5.0)
            if child.is_alive():
                child.kill()


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def wait(child: multiprocessing.Process, what: str) -> None:
    begun = time.monotonic()
    while child.is_alive():
        progress(f"{what}: {time.monotonic() - begun:.0f} s")
        child.join(0.5)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def pass_outage(world: World, process: Xrayd, seconds: float) -> tuple[range, float]:
    """1,000 a second before and in an outage; the numbers sent in it, and when it was over."""
    shared = world.shared
    wait(world.send(process, 1000, 2), "before")
    shared.is_up.value = 0
    begun = shared.sent.value
    wait(world.send(process, 1000, seconds), "outage")
    shared.is_up.value = 1
    return range(begun, shared.sent.value), time.monotonic()


def hold_in_memory(world: World, options: argparse.Namespace) -> str:
    shared = world.shared
    with world.xrayd("-m", "80") as process:
        _, up_at = pass_outage(world, process, options.outage)
        back = shared.came.value
        world.wait_all(15.0)
        took = time.monotonic() - up_at
        peak = process.peak_rss_mib()
    return (
        f"{len(shared.lost())} of {shared.sent.value:,} lost in {options.outage:.0f} s;"
        f" {shared.came.value - back:,} delivered {took:.1f} s after it, peak {peak:.0f} MiB"
    )


def hold_in_spool(world: World, options: argparse.Namespace) -> str:
    shared = world.shared
    with world.xrayd("-m", "16", Spool={"Directory": "spool", "MaxMB": 512}) as process:
        backlog, up_at = pass_outage(world, process, options.outage)
        begun, end = backlog.start, backlog.stop
        live = world.send(process, 1000, options.outage + 60)
        old = 0
        while old < len(backlog) and live.is_alive():
            old = sum(map(bool, shared.times[begun:end]))
            progress(f"backlog: {old:,} of {len(backlog):,}")
            time.sleep(0.25)
        came_at = [at for at in shared.came_at[begun:end] if at >= up_at]
        first, drained_at = min(came_at), max(came_at)
        time.sleep(3.0)
        live.kill()
        live.join()
        world.wait_all(10.0)
        waits = [
            shared.came_at[n] - shared.sent_at[n]
            for n in range(end, shared.sent.value)
            if first <= shared.sent_at[n] < drained_at and shared.times[n]
        ]
        drops = process.udp_drops()
    return (
        f"{len(shared.lost())} of {shared.sent.value:,} lost in {options.outage:.0f} s, {drops}"
        f" dropped by the kernel; first delivery after {first - up_at:.1f} s,"
        f" {len(came_at):,} drained at {len(came_at) / max(drained_at - first, 1e-3):,.0f}/s,"
        f" live p99 {percentile(waits, 0.99):.2f} s"
    )


def kill_often(world: World, options: argparse.Namespace) -> str:
    shared = world.shared
    chance = random.Random(options.seed)
    process = world.xrayd("-m", "16", Spool={"Directory": "spool"}).start()
    sender = world.send(process, 1000, options.kills * 60.0)
    kills: list[tuple[float, float]] = []
    try:
        for number in range(options.kills):
            shared.is_up.value = number % 2
            time.sleep(chance.uniform(0.2, 0.8))
            killed_at = time.monotonic()
            process.kill()
            process.start()
            kills.append((killed_at, time.monotonic()))
            progress(f"kill {number + 1} of {options.kills}")
        shared.is_up.value = 1
        sender.kill()
        sender.join()
        world.wait_all(5.0)
    finally:
        process.stop()
    windows = []
    for n in shared.lost():
        at = shared.sent_at[n]
        before = [killed - at for killed, ready in kills if killed <= ready and at <= ready]
        windows.append(max(0.0, before[0]) if before else float("inf"))
    late = [w for w in windows if w > 0.05]
    return (
        f"{options.kills} kills, {shared.sent.value:,} sent, {len(late)} lost that came more than"
        f" 50 ms before a kill, the oldest {1000 * max(windows, default=0):.0f} ms;"
        f" {shared.duplicates() / options.kills:.0f} duplicates a kill"
    )


def burst(world: World, _: argparse.Namespace) -> str:
    shared = world.shared
    with world.xrayd("-m", "100") as process:
        rates = []
        for _trial in range(5):
            first = shared.sent.value
            wait(world.send(process, 0, 20_000), "burst")
            times = shared.sent_at[first : shared.sent.value]
            rates.append(20_000 / (times[-1] - times[0]))
            world.wait_all(5.0)
        drops = process.udp_drops()
    return (
        f"{len(shared.lost())} of 5 × 20,000 lost, {drops} dropped by the kernel, at"
        f" {min(rates):,.0f}/s or more"
    )


def go_steady(world: World, options: argparse.Namespace) -> str:
    shared = world.shared
    with world.xrayd("-m", "80", Spool={"Directory": "spool"}) as process:
        wait(world.send(process, 5000, 3), "before")
        before, begun = process.cpu_seconds(), time.monotonic()
        wait(world.send(process, 5000, options.steady), "steady")
        share = (process.cpu_seconds() - before) / (time.monotonic() - begun)
        world.wait_all(5.0)
        drops = process.udp_drops()
    return (
        f"{len(shared.lost())} of {shared.sent.value:,} lost in {options.steady:.0f} s,"
        f" {drops} dropped by the kernel, {100 * share:.0f} % of one core"
    )


def write_backlog(directory: Path, count: int) -> None:
    """Fill a spool and end as a kill would: the newest file has no trailer."""
    before, behind = template()
    now = time.time()
    spool = Spool.open(directory, now=now, bytes_max=2 << 30, sync="off")
    for first in range(0, count, 50):
        spool.append([before + b"%016x" % n + behind for n in range(first, first + 50)], now)
    os.sync()
    os.kill(os.getpid(), signal.SIGKILL)


def open_backlog(world: World, _: argparse.Namespace) -> str:
    shared = world.shared
    count = (1 << 30) // (SIZE + 28) // 50 * 50
    wait(world.spawn(lambda: write_backlog(world.home / "spool", count)), "writing 1 GB")
    for entry in (world.home / "spool").iterdir():  # nothing cached
        fd = os.open(entry, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    shared.sent.value = count
    begun = time.monotonic()
    process = world.xrayd("-m", "80", Spool={"Directory": "spool", "MaxMB": 2048}).start()
    try:
        healthy = time.monotonic() - begun
        while not shared.came.value:
            time.sleep(0.001)
        first_at = min(filter(None, shared.came_at[:50_000])) - begun
    finally:
        process.stop()
    return (
        f"{count:,} segments found; answers on TCP after {healthy:.2f} s, first upload after"
        f" {first_at:.2f} s"
    )


RUNS: dict[str, tuple[str, Callable[[World, argparse.Namespace], str]]] = {
    "memory": ("60 s at 1,000/s in 80 MB: 0 lost", hold_in_memory),
    "spool": ("8 min: 0 lost, drained at 2,000/s, live p99 2 s at most", hold_in_spool),
    "kills": ("0 spooled lost, 50 ms unspooled at most, 400 duplicates a kill", kill_often),
    "burst": ("20,000 back to back: 0 lost", burst),
    "steady": ("5,000/s: no kernel drops, 25 % of one core at most", go_steady),
    "open": ("1 GB opens within 1 s", open_backlog),
}


@contextlib.contextmanager
def world_in(directory: str | None) -> Iterator[World]:
    home = Path(tempfile.mkdtemp(prefix="xrayd-endurance-", dir=directory))
    world = World(home)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", choices=[[], *RUNS], help="which; none for all")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steady", type=float, default=60.0, help="seconds")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--directory", help="where the spools lie for the time being")
    options = parser.parse_args()
    multiprocessing.set_start_method("fork")
    for name in options.runs or RUNS:
        target, run = RUNS[name]
        with world_in(options.directory) as world:
            figures = run(world, options)
        progress("")
        print(f"{name:7} {target}\n        {figures}", flush=True)
    print(f"seed {options.seed}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
