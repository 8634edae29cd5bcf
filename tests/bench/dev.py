"""`xrayd dev` with a million segments: what a real process takes in, and how fast it answers.

    python tests/bench/dev.py [--data FILE] [--traces 250000] [--seconds 20] [--moto moto_server]

Fills a data file of some gigabytes with 250,000 traces of the last six hours (removed at the end;
with `--data` it is kept, and used again next time), then measures over real sockets: reads while
nothing comes in, batches of fifty over HTTP while reading, datagrams of 1 KB over UDP while
reading. Senders and readers are processes of their own; what the senders cost is printed, because
they take it from the same machine. With `--moto` the same calls are made of moto's server
(`pip install 'moto[server]'`, into an environment of its own) as far as it has them. It is no test:
figures depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from dev_load import (
    HEADER,
    HOURS,
    SLOW,
    Api,
    Call,
    Reads,
    Sent,
    make_documents,
    make_requests,
    p95,
    post_all,
    read_while,
    send_all,
    show_reads,
)
from fakes.process import Xrayd

ADDRESS = "127.0.0.1:{port}"
KEPT = ("--keep-mb", "100000")
SETTLE_S = 300.0


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=250_000)
    parser.add_argument("--data", help="keep the filled file under this name, or use it again")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each flow, about")
    parser.add_argument("--rate", type=float, default=15_000.0, help="documents/s over UDP")
    parser.add_argument("--connections", type=int, default=4, help="that post at once")
    parser.add_argument("--parts", default="idle,http,udp")
    parser.add_argument("--moto", help="the program moto_server")
    options = parser.parse_args()
    parts = options.parts.split(",")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        filled = Path(options.data or home / "filled.sqlite")
        if not filled.exists():
            fill(home, filled, options.traces)
        for part in parts:
            data = home / f"{part}.sqlite"
            shutil.copy(filled, data)
            with Xrayd(
                "-b", ADDRESS, "-t", ADDRESS, "dev", "--data", str(data), *KEPT, home=home
            ) as process:
                api = Api(process.port)
                reads = look(api)
                print(f"{part}: {api_state(api)}, resident {memory(process)}", flush=True)
                if part == "idle":
                    idle(process, reads)
                else:
                    flow(process, reads, part, options)
                print(f"  resident {memory(process)}", flush=True)
            data.unlink()
    if options.moto:
        beside_moto(options.moto)


def fill(home: Path, path: Path, traces: int) -> None:
    """Store a quarter of a million traces, and have them put together."""
    end = time.time()
    with Xrayd(
        "-b", ADDRESS, "-t", ADDRESS, "dev", "--data", str(path), *KEPT, home=home
    ) as process:
        api = Api(process.port)
        documents = make_documents(traces, random.Random(7), end, HOURS * 3600)
        sent = post_all(process.port, make_requests(documents), 2)
        print(f"filled with {sent.documents:,} documents in {sent.seconds:.0f} s", flush=True)
        settle(api)
        process.sigterm()
        assert process.wait(60) == 0, process.output


def settle(api: Api) -> None:
    """Wait until every trace is put together."""
    began = reported = time.monotonic()
    while left := health(api)["store"]["traces_to_compile"]:
        now = time.monotonic()
        assert now < began + SETTLE_S, f"{left} traces are not put together"
        if now >= reported + 10:
            print(f"  {left:,} traces to put together", flush=True)
            reported = now
        time.sleep(0.2)
    print(f"  all put together after {time.monotonic() - began:.0f} s more", flush=True)


def look(api: Api) -> Reads:
    """Where the stored traces lie, and some ids of them."""
    now = time.time()
    reads = Reads(now, HOURS * 3600, random.Random(5))
    day = 24 * 3600
    while not reads.ids:
        found: Any = api.post("/TraceSummaries", {"StartTime": now - day, "EndTime": now})
        reads.ids = [one["Id"] for one in found["TraceSummaries"]]
        now -= day
    newest = max(float(one["StartTime"]) for one in found["TraceSummaries"])
    ids = reads.ids
    reads = Reads(newest, HOURS * 3600, random.Random(5))
    reads.ids = ids
    return reads


def health(api: Api) -> dict[str, Any]:
    """What `xrayd dev` says of itself."""
    return api.get("/_xrayd/health")


def api_state(api: Api) -> str:
    """What is stored."""
    stored = health(api)["store"]
    return f"{stored['traces']:,} traces, {stored['bytes'] / 2**20:,.0f} MiB"


def memory(process: Xrayd) -> str:
    """Its memory now and at its greatest."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    now, peak = (
        int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("VmRSS", "VmHWM")
    )
    return f"{now:.0f} MiB, at most {peak:.0f} MiB"


def cpu_s(process: Xrayd) -> float:
    """Processor seconds it has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def going() -> threading.Event:
    """An event that is set."""
    event = threading.Event()
    event.set()
    return event


def idle(process: Xrayd, reads: Reads) -> None:
    """Reads, one after the other, while nothing comes in."""
    show_reads(read_while(process.port, reads, going(), rounds=40, pause_s=0.01), reads)


def flow(process: Xrayd, reads: Reads, way: str, options: argparse.Namespace) -> None:
    """Documents as fast as they are taken, or at the rate, with a reader beside them."""
    api = Api(process.port)
    before = health(api)["intake"]["documents"]
    traces = int(options.seconds * options.rate / 4)
    end = time.time() + options.seconds
    documents = make_documents(traces, random.Random(time.time_ns()), end, options.seconds)
    if way == "http":
        requests = list(make_requests(documents))

        def send() -> Sent:
            return post_all(process.port, iter(requests), options.connections)
    else:
        datagrams = [HEADER + document.encode() for document in documents]

        def send() -> Sent:
            return send_all(process.port, datagrams, options.rate)

    began, spent = time.perf_counter(), cpu_s(process)
    sent, taken = beside_each_other(send, process.port, reads)
    ended = time.perf_counter()
    stored = wait_stored(api, before + sent.documents) - before
    behind = time.perf_counter() - ended
    seconds = time.perf_counter() - began
    used = cpu_s(process) - spent
    print(
        f"  {sent.documents:,} documents sent at {sent.documents / sent.seconds:,.0f}/s;"
        f" {stored:,} stored within {seconds:.2f} s: {stored / seconds:,.0f}/s,"
        f" the last {behind:.2f} s after it was sent;"
        f" xrayd {used / stored * 1e6:.0f} µs of processor a document;"
        f" the sender took {100 * sent.cpu_s / sent.seconds:.0f} % of a processor",
        flush=True,
    )
    if sent.waits_ms:
        print(
            f"  a batch of fifty: median {statistics.median(sent.waits_ms):.1f}"
            f"  p95 {p95(sent.waits_ms):.1f}  max {max(sent.waits_ms):.0f} ms"
        )
    lost = sent.documents - stored
    if lost:
        print(f"  LOST {lost:,} of {sent.documents:,}: {health(api)['ledger']}")
    print(f"  not yet put together: {health(api)['store']['traces_to_compile']:,} traces")
    show_reads(taken, reads)


def beside_each_other(
    send: Callable[[], Sent], port: int, reads: Reads
) -> tuple[Sent, dict[str, list[float]]]:
    """A sender and, until it has ended, a reader, each a process of its own."""
    processes = multiprocessing.get_context("fork")
    results: Any = processes.SimpleQueue()
    over = processes.Event()

    def send_on() -> None:
        results.put(send())
        over.set()

    def read_on() -> None:
        goes_on = going()
        threading.Thread(target=lambda: (over.wait(), goes_on.clear())).start()
        results.put(read_while(port, reads, goes_on))

    children = [processes.Process(target=send_on), processes.Process(target=read_on)]
    for child in children:
        child.start()
    got = [results.get(), results.get()]
    for child in children:
        child.join()
    (sent,) = [one for one in got if isinstance(one, Sent)]
    (taken,) = [one for one in got if isinstance(one, dict)]
    return sent, taken


def wait_stored(api: Api, wanted: int) -> int:
    """How many documents are stored once it is enough, or nothing more has come for seconds."""
    last, changed = -1, time.perf_counter()
    while (stored := health(api)["intake"]["documents"]) < wanted:
        if stored != last:
            last, changed = stored, time.perf_counter()
        if time.perf_counter() - changed > 3:
            break
        time.sleep(0.02)
    return int(stored)


def beside_moto(program: str) -> None:
    """The calls that moto's server has, made of it and of `xrayd dev`, with 2,500 traces each."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with Xrayd("-b", ADDRESS, "-t", ADDRESS, "dev", home=home) as process:
            calls_of_both("xrayd dev", process.port)
        arguments = ("-H", "127.0.0.1", "-p", "{port}")
        with Xrayd(*arguments, home=home, command=[program], ready="Running on") as process:
            calls_of_both("moto", process.port)


def calls_of_both(name: str, port: int) -> None:
    """Batches of fifty one after the other, then reads."""
    api = Api(port)
    end = time.time()
    documents = list(make_documents(2500, random.Random(9), end, 3600))
    waits = []
    for first in range(0, len(documents), 50):
        began = time.perf_counter()
        batch = documents[first : first + 50]
        answer = api.post("/TraceSegments", {"TraceSegmentDocuments": batch})
        assert answer == {"UnprocessedTraceSegments": []}, answer
        waits.append((time.perf_counter() - began) * 1000)
    print(f"{name}: {len(documents) / sum(waits) * 1000:,.0f} documents/s over one connection")
    if name != "moto":
        settle(api)
    window = {"StartTime": int(end) - 1800, "EndTime": int(end) + 10}
    ids = [json.loads(document)["trace_id"] for document in documents[:20:4]]
    calls: list[Call] = [
        ("/TraceSummaries", window),
        ("/TraceSummaries", {**window, "FilterExpression": SLOW}),
        ("/Traces", {"TraceIds": ids}),
        ("/ServiceGraph", window),
    ]
    for path, members in calls:
        taken = []
        try:
            for _ in range(20):
                began = time.perf_counter()
                answer = api.post(path, members)
                taken.append((time.perf_counter() - began) * 1000)
        except AssertionError as error:
            print(f"  {path} {members.get('FilterExpression', '')}: refused: {error}")
            continue
        size = {key: len(value) for key, value in answer.items() if isinstance(value, list)}
        expression = members.get("FilterExpression", "")
        print(
            f"  {path} {expression:44} median {statistics.median(taken):7.1f}"
            f"  p95 {p95(taken):7.1f} ms, answers {size}"
        )


if __name__ == "__main__":
    main()
