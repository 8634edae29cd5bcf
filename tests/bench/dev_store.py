"""The embedded endpoint with a million segments: what ingest and the reads of a page cost.

Run it by hand: `python tests/bench/dev_store.py [--traces 250000] [--data FILE]`. It writes a file
of about two gigabytes (removed at the end unless named) and prints one table. It is no test:
figures depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from xrayd.dev.api import XRayApi
from xrayd.dev.database import Database
from xrayd.dev.store import Store

HOURS = 6
NOW = 1_795_350_000.0
BATCH = 50
PAD = "metadata that nobody looks at, but that has to be kept all the same. " * 7


def make_trace(chance: random.Random, at: float) -> list[str]:
    """Four segments of a request: a web tier, two services, and a worker; 1 KB each or so."""
    trace_id = f"1-{int(at):08x}-{chance.getrandbits(96):024x}"
    web, call_a, call_b, call_c, table = (f"{chance.getrandbits(64):016x}" for _ in range(5))
    took = chance.lognormvariate(-1.5, 0.9)
    fails = chance.random() < 0.02
    status = 502 if fails else 200

    def document(name: str, start: float, end: float, **more: object) -> str:
        common = {
            "name": name,
            "id": f"{chance.getrandbits(64):016x}",
            "trace_id": trace_id,
            "start_time": at + start * took,
            "end_time": at + end * took,
            "metadata": {"default": {"pad": PAD}},
        }
        return json.dumps({**common, **more})

    def call(id_: str, name: str, start: float, end: float, **more: object) -> dict[str, object]:
        return {
            "id": id_,
            "name": name,
            "namespace": "remote",
            "start_time": at + start * took,
            "end_time": at + end * took,
            **more,
        }

    return [
        document("worker", 0.5, 0.6, parent_id=call_c),
        document(
            "a",
            0.1,
            0.4,
            parent_id=call_a,
            fault=fails,
            http={"response": {"status": status}},
            annotations={"tenant": f"t{chance.randrange(50)}"},
            subsegments=[
                call(table, "DynamoDB", 0.2, 0.3, namespace="aws", aws={"table_name": "items"})
            ],
        ),
        document(
            "b", 0.45, 0.9, parent_id=call_b, subsegments=[call(call_c, "worker", 0.48, 0.62)]
        ),
        document(
            "web",
            0.0,
            1.0,
            id=web,
            fault=fails,
            user=f"user{chance.randrange(1000)}",
            origin="AWS::ECS::Container",
            annotations={"x": "y" if chance.random() < 0.05 else "n", "build": 17},
            http={
                "request": {"method": "GET", "url": "http://web/items", "client_ip": "10.0.0.1"},
                "response": {"status": status},
            },
            subsegments=[call(call_a, "a", 0.05, 0.42), call(call_b, "b", 0.43, 0.95)],
        ),
    ]


def make_batches(traces: int, chance: random.Random) -> Iterator[bytes]:
    """Bodies of PutTraceSegments with documents of traces spread over the hours before `NOW`."""
    documents: list[str] = []
    for number in range(traces):
        documents += make_trace(chance, NOW - HOURS * 3600 * (1 - number / traces))
        while len(documents) >= BATCH:
            yield json.dumps({"TraceSegmentDocuments": documents[:BATCH]}).encode()
            del documents[:BATCH]
    if documents:
        yield json.dumps({"TraceSegmentDocuments": documents}).encode()


def measure(
    label: str, times: int, call: Callable[[], object], limit_ms: float | None = None
) -> None:
    """Print some calls' durations, and their processor time, which a busy machine spoils less."""
    taken, spent = [], []
    for _ in range(times):
        started, worked = time.perf_counter(), time.process_time()
        call()
        taken.append((time.perf_counter() - started) * 1000)
        spent.append((time.process_time() - worked) * 1000)
    taken.sort()
    p95 = taken[min(len(taken) - 1, int(len(taken) * 0.95))]
    verdict = ""
    if limit_ms is not None:
        verdict = f"  (<= {limit_ms:.0f}: {'ok' if p95 <= limit_ms else 'TOO SLOW'})"
    print(
        f"{label:60} median {statistics.median(taken):7.1f}  p95 {p95:7.1f}"
        f"  max {taken[-1]:7.1f} ms  cpu {statistics.median(spent):7.1f} ms{verdict}",
        flush=True,
    )


def rss_mib() -> tuple[float, float]:
    """Resident memory now and at its greatest, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize() / 2**20, peak / 1024


def main() -> None:
    """Fill a store, then read from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=250_000)
    parser.add_argument(
        "--data", help="keep the file under this name; one that exists is read only"
    )
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    chance = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(options.data or f"{folder}/bench.sqlite")
        is_filled = path.exists()
        store = Store(Database(str(path)))
        api = XRayApi(store, clock=lambda: NOW + 10)
        print(f"resident after start {rss_mib()[0]:.0f} MiB")
        if not is_filled:
            fill(api, options.traces, chance)
        read(api, chance)
        if not is_filled:
            flow(api, options.traces // 10, chance)
        print(f"resident {rss_mib()[0]:.0f} MiB, at most {rss_mib()[1]:.0f} MiB")
        print(f"data {store.database.used_bytes() / 2**20:.0f} MiB")
        store.close()


def post(api: XRayApi, path: str, request: dict[str, object]) -> dict[str, object]:
    """An answer, which must be a 200."""
    answer = api.handle(path, json.dumps(request).encode())
    assert answer.status == 200, answer
    return json.loads(answer.body)


def fill(api: XRayApi, traces: int, chance: random.Random) -> None:
    """Store everything while it is compiled in another thread, as the daemon does it."""
    stop = threading.Event()

    def compile_on() -> None:
        while not stop.is_set():
            if api.compile_due(limit=200, budget_s=0.2) < 200:
                stop.wait(0.05)

    compiler = threading.Thread(target=compile_on)
    compiler.start()
    spent = 0.0
    slowest = 0.0
    count = 0
    for body in make_batches(traces, chance):
        started = time.perf_counter()
        answer = api.handle("/TraceSegments", body)
        taken = time.perf_counter() - started
        assert answer.status == 200
        spent += taken
        slowest = max(slowest, taken)
        count += 1
    print(
        f"ingest beside compiling: {traces * 4 / spent:,.0f} documents/s"
        f" ({spent / count * 1e3:.2f} ms a batch, slowest {slowest * 1e3:.0f} ms)"
    )
    stop.set()
    compiler.join()
    started = time.perf_counter()
    compiled = 0
    while done := api.compile_due(limit=1000, budget_s=10):
        compiled += done
    taken = time.perf_counter() - started
    if compiled:
        print(f"compiled afterwards: {compiled:,} traces at {compiled / taken:,.0f}/s")


def flow(api: XRayApi, traces: int, chance: random.Random) -> None:
    """Store as fast as it goes, with a thread that compiles and one that reads beside it."""
    stop = threading.Event()
    waits: list[float] = []

    def read_on() -> None:
        window = {"StartTime": NOW - 1800, "EndTime": NOW, "FilterExpression": 'annotation.x = "y"'}
        while not stop.wait(0.1):
            started = time.perf_counter()
            post(api, "/TraceSummaries", window)
            waits.append((time.perf_counter() - started) * 1000)

    def compile_on() -> None:
        while not stop.is_set():
            if api.compile_due(limit=200, budget_s=0.2) < 200:
                stop.wait(0.05)

    bodies = list(make_batches(traces, chance))
    others = [threading.Thread(target=read_on), threading.Thread(target=compile_on)]
    for other in others:
        other.start()
    started = time.perf_counter()
    for body in bodies:
        assert api.handle("/TraceSegments", body).status == 200
    taken = time.perf_counter() - started
    stop.set()
    for other in others:
        other.join()
    waits.sort()
    print(
        f"ingest beside compiling and reading: {traces * 4 / taken:,.0f} documents/s;"
        f" {len(waits)} reads, median {statistics.median(waits):.0f} ms,"
        f" p95 {waits[int(len(waits) * 0.95)]:.0f} ms"
    )


def read(api: XRayApi, chance: random.Random) -> None:
    """The reads of the page and of Grafana's data source, at random places of the hours."""

    def window(seconds: float) -> dict[str, object]:
        start = NOW - chance.uniform(seconds, HOURS * 3600)
        return {"StartTime": start, "EndTime": start + seconds}

    def summaries(expression: str | None, seconds: float = 3600) -> Callable[[], object]:
        more = {} if expression is None else {"FilterExpression": expression}
        return lambda: post(api, "/TraceSummaries", {**window(seconds), **more})

    measure("GetTraceSummaries 1 h", 40, summaries(None))
    for expression, limit_ms in [
        ('annotation.x = "y" AND responsetime > 1', 100),
        ('annotation.x = "absent"', None),
        ('service("a") { fault }', 200),
        ('service("absent")', None),
        ('user = "user7"', None),
        ('edge("web", "a") { fault }', None),
        ('rootcause.fault.service { name = "a" }', None),
    ]:
        measure(f"GetTraceSummaries 1 h {expression}", 40, summaries(expression), limit_ms)
    measure("GetTraceSummaries 6 h user", 5, summaries('user = "user7"', 6 * 3600))
    some = post(api, "/TraceSummaries", window(3600))
    ids = [one["Id"] for one in some["TraceSummaries"]]

    def batch() -> object:
        return post(api, "/Traces", {"TraceIds": chance.sample(ids, 5)})

    measure("BatchGetTraces of five", 200, batch, 20)
    six = {"StartTime": NOW - HOURS * 3600, "EndTime": NOW}
    measure("GetServiceGraph 6 h", 5, lambda: post(api, "/ServiceGraph", six), 2000)
    measure("GetServiceGraph 5 min", 20, lambda: post(api, "/ServiceGraph", window(300)))
    series = {**six, "Period": 60, "EntitySelectorExpression": 'service("a")'}
    measure(
        "GetTimeSeriesServiceStatistics 6 h",
        5,
        lambda: post(api, "/TimeSeriesServiceStatistics", series),
    )


if __name__ == "__main__":
    main()
