"""What the spool costs: `python tests/bench/spool.py [directory]`. Medians of three runs.

Documents of 1 KB. Needs 1.1 GB in the directory (by default a temporary one) and removes it again.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from xrayd.spool.spool import Spool

RUNS = 3
APPENDED = 200_000
BACKLOG_BYTES = 1 << 30
NOW = 1_700_000_000.0


def document(number: int) -> bytes:
    head = b'{"trace_id":"1-%08x-0123456789abcdef01234567","id":"%016x","name":"' % (number, number)
    return head.ljust(1022, b"n") + b'"}'


def tick(spool: Spool, last: float) -> float:
    """Sync as the daemon does, every 100 ms."""
    now = time.perf_counter()
    if now - last < 0.1:
        return last
    spool.sync(NOW)
    return now


def append(path: Path, *, batch: int, sync, records: int) -> dict[str, float]:
    documents = [document(n) for n in range(batch)]
    spool = Spool.open(path, now=NOW, sync=sync, bytes_max=1 << 31)
    longest = []
    began, cpu, last = time.perf_counter(), time.process_time(), time.perf_counter()
    for _ in range(records // batch):
        start = time.perf_counter()
        spool.append(documents, NOW)
        longest.append(time.perf_counter() - start)
        last = tick(spool, last)
    spool.sync(NOW)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    spool.close(NOW)
    return {
        "records/s": records / took,
        "CPU µs/record": cpu / records * 1e6,
        "p99 append ms": sorted(longest)[len(longest) * 99 // 100] * 1e3,
    }


def steady(path: Path) -> dict[str, float]:
    """Append and acknowledge, as when the service takes everything at once."""
    documents = [document(n) for n in range(50)]
    spool = Spool.open(path, now=NOW)
    began, cpu, last = time.perf_counter(), time.process_time(), time.perf_counter()
    for _ in range(APPENDED // 50):
        spool.acknowledge(spool.append(documents, NOW))
        last = tick(spool, last)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    spool.close(NOW)
    return {"records/s": APPENDED / took, "CPU µs/record": cpu / APPENDED * 1e6}


def drain(path: Path, *, acknowledges: bool) -> dict[str, float]:
    spool = Spool.open(path, now=NOW)
    began, cpu, last = time.perf_counter(), time.process_time(), time.perf_counter()
    count = seq = 0
    while records := spool.read(seq, 50, 1 << 20):
        seq = records[-1].seq + 1
        count += len(records)
        if acknowledges:
            spool.acknowledge(range(records[0].seq, seq))
            last = tick(spool, last)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    spool.close(NOW)
    return {"records/s": count / took, "CPU µs/record": cpu / count * 1e6}


def open_backlog(path: Path) -> dict[str, float]:
    """Open a backlog as a kill leaves it: the newest file has no trailer and must be read."""
    newest = max(path.glob("*.seg"))
    with newest.open("r+b") as file:
        file.truncate(newest.stat().st_size - 28)
    for entry in path.iterdir():
        fd = os.open(entry, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    began = time.perf_counter()
    spool = Spool.open(path, now=NOW, bytes_max=1 << 31)
    opened = time.perf_counter() - began
    assert len(spool.read(0, 50, 1 << 20)) == 50
    first = time.perf_counter() - began
    size = spool.figures().bytes_on_disk
    spool.close(NOW)
    return {"open ms": opened * 1e3, "open and first batch ms": first * 1e3, "MiB": size / 2**20}


def report(name: str, runs: list[dict[str, float]]) -> None:
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    print(f"{name:42}", "  ".join(f"{key} {value:,.2f}" for key, value in medians.items()))


def main() -> None:
    base = Path(tempfile.mkdtemp(prefix="xrayd-spool-", dir=(sys.argv[1:] or [None])[0]))
    path = base / "spool"

    def fresh() -> Path:
        shutil.rmtree(path, ignore_errors=True)
        return path

    try:
        for sync in ("interval", "off", "batch"):
            runs = [append(fresh(), batch=50, sync=sync, records=APPENDED) for _ in range(RUNS)]
            report(f"append 50 at a time, sync={sync}", runs)
        runs = [append(fresh(), batch=1, sync="interval", records=20_000) for _ in range(RUNS)]
        report("append 1 at a time, sync=interval", runs)
        report("append and acknowledge", [steady(fresh()) for _ in range(RUNS)])
        append(fresh(), batch=50, sync="interval", records=APPENDED)
        report("read back", [drain(path, acknowledges=False) for _ in range(RUNS)])
        runs = []
        for _ in range(RUNS):
            append(fresh(), batch=50, sync="interval", records=APPENDED)
            runs.append(drain(path, acknowledges=True))
        report("read back and acknowledge", runs)
        append(fresh(), batch=50, sync="off", records=BACKLOG_BYTES // 1052 // 50 * 50)
        report("open a backlog after a kill, cold cache", [open_backlog(path) for _ in range(RUNS)])
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
