"""What a segment costs: CPU, memory, loss and start of the relay, on loopback.

    python tests/bench/relay.py [--rates 1000,10000,0] [--size 1024] [--seconds 5] [--runs 3]

A rate of 0 is a flood, as fast as the sender can. Every run starts a fresh daemon with a memory of
400 MB; medians are printed. Compare figures of one run only: machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from fakes.documents import HEADER, make_document
from fakes.process import Xrayd, free_port
from sink import SinkConnection

PLACE = b"0123456789abcdef"


class Sink:
    """An endpoint that counts documents and checks nothing, in a thread of its own."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.documents = 0
        self.url = ""
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        open_ones: set[asyncio.BaseTransport] = set()
        server = await loop.create_server(
            lambda: SinkConnection(self.take, open_ones), "127.0.0.1", 0
        )
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await server.serve_forever()

    def take(self, documents: Sequence[str]) -> None:
        self.documents += len(documents)
        self.ids.update(document[7:23] for document in documents)


def send(port: int, size: int, rate: float, seconds: float, sent: Any, *, train: int) -> None:
    """Send paced datagrams; the id of each is its number. `train` sends so many at once, twice."""
    document = make_document(id=None, trace_id="1-65a1b2c3-" + "0" * 24, size=size - 23)
    body = b'{"id":"' + PLACE + b'",' + document.encode()[1:]
    start, end = HEADER + body[:7], body[23:]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sock.connect(("127.0.0.1", port))
    count, begun = 0, time.perf_counter()

    def one() -> None:
        nonlocal count
        sock.send(start + b"%016x" % count + end)
        count += 1

    if train:
        for _ in range(2):
            for _ in range(train):
                one()
            time.sleep(0.5)
    else:
        while (elapsed := time.perf_counter() - begun) < seconds:
            due = int(elapsed * rate) - count if rate else 100
            for _ in range(min(due, 100)):
                one()
            if rate and due <= 0:
                time.sleep(0.0005)
    sent.value = count


def trial(size: int, rate: float, seconds: float, train: int = 0, buffer_mb: int = 16) -> dict:
    """One fresh daemon under one load."""
    sink = Sink()
    with tempfile.TemporaryDirectory() as home:
        Path(home, "cfg.yaml").write_text(
            json.dumps({"Endpoint": sink.url, "Socket": {"ReceiveBufferMB": buffer_mb}})
        )
        port = free_port()
        address = f"127.0.0.1:{port}"
        begun = time.perf_counter()
        process = Xrayd(
            *("-o", "-n", "us-east-1", "-c", "cfg.yaml", "-m", "400", "-b", address, "-t", address),
            home=Path(home),
            port=port,
            env={"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8)},
        )
        with process:
            ready_s = time.perf_counter() - begun
            time.sleep(1.0)
            idle_mib, before = process.rss_mib(), process.cpu_seconds()
            sent = multiprocessing.Value("q", 0)
            sender = multiprocessing.Process(
                target=send, args=(port, size, rate, seconds, sent), kwargs={"train": train}
            )
            sender.start()
            sender.join()
            seen, quiet = -1, 0.0
            while sink.documents < sent.value and quiet < 3.0:
                quiet = 0.0 if sink.documents != seen else quiet + 0.1
                seen = sink.documents
                time.sleep(0.1)
            cpu = process.cpu_seconds() - before
            row = {
                "sent": sent.value,
                "delivered": len(sink.ids),
                "loss %": 100 * (1 - len(sink.ids) / max(1, sent.value)),
                "kernel drops": process.udp_drops(),
                "cpu µs/segment": 1e6 * cpu / max(1, sink.documents),
                "idle MiB": idle_mib,
                "peak MiB": process.peak_rss_mib(),
                "healthy after ms": 1000 * ready_s,
            }
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return row


def median(rows: list[dict]) -> dict:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def show(name: str, row: dict) -> None:
    print(f"{name:<28}" + "".join(f"{value:>17.1f}" for value in row.values()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", default="1000,10000,0")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    version = subprocess.run(
        [sys.executable, "-m", "xrayd", "-v"], capture_output=True, text=True, check=True
    )
    print(
        f"{version.stdout.strip()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},", end=""
    )
    print(f" documents of {options.size} bytes, medians of {options.runs}")
    names = ("sent", "delivered", "loss %", "kernel drops", "cpu µs/segment", "idle MiB",
             "peak MiB", "healthy after ms")  # fmt: skip
    print(f"{'':<28}" + "".join(f"{name:>17}" for name in names))
    for rate in (int(part) for part in options.rates.split(",")):
        rows = [trial(options.size, rate, options.seconds) for _ in range(options.runs)]
        show(f"{rate}/s" if rate else "flood", median(rows))
    for train, buffer_mb in ((5000, 16), (200, 0)):
        rows = [trial(options.size, 0, 0, train, buffer_mb) for _ in range(options.runs)]
        show(f"train of {train}, buffer {buffer_mb or 'default'}", median(rows))


if __name__ == "__main__":
    main()
