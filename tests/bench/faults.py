"""What each fault costs: `python tests/bench/faults.py` prints the README's table.

Every row is a process of its own that gets 200 segments of 1 KB a second before, during and after
the fault. Lost: sent, and never stored by the endpoint. Uncounted: lost, and in none of the counts
of the last line. To recover: from the fault's end to the delivery of a segment sent then.
The other columns are AWS X-Ray daemon 3.6.6, measured on the original daemon beforehand.

`--seconds 30` is the length of each fault; rows may be chosen by a part of their names.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

from fakes.documents import document_id, make_datagram, make_document  # noqa: E402
from fakes.factory import XraydFactory  # noqa: E402
from fakes.metadata import FakeContainerCredentials  # noqa: E402
from fakes.process import Xrayd  # noqa: E402
from fakes.xray import (  # noqa: E402
    FakeXRay,
    Reply,
    Request,
    Unprocessed,
    Verdict,
    refuse_containing,
)
from oracle import LOST, Flood, Oracle, flood  # noqa: E402

PER_S = 200.0


@dataclass(frozen=True)
class Result:
    sent: int
    lost: int
    uncounted: int
    recovered_s: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    name: str
    measure: Callable[[XraydFactory, FakeXRay, float], Result]
    reference: str
    """Lost and uncounted, of the X-Ray daemon."""


def settle(oracle: Oracle, recovered_s: float | None = None, note: str = "") -> Result:
    """Stop the process and compare what arrived with what it says."""
    with contextlib.suppress(AssertionError):
        oracle.wait_all(60.0)
    oracle.process.sigterm()
    oracle.process.wait(40.0)
    return compare(oracle, recovered_s, note)


def compare(oracle: Oracle, recovered_s: float | None, note: str) -> Result:
    stored = Counter(oracle.fake.documents)
    lost = sum(1 for document in oracle.sent if document not in stored)
    line = oracle.process.wait_for_line(r"Stopped: (.*)")[1]
    ledger = dict(pair.split("=") for pair in line.split())
    counted = sum(int(ledger[name]) for name in LOST)
    duplicates = sum(max(0, stored[document] - 1) for document in oracle.sent)
    notes = [note] if note else []
    notes += [f"{duplicates} twice"] if duplicates else []
    return Result(len(oracle.sent), lost, max(0, lost - counted), recovered_s, ", ".join(notes))


def outage(reply: Callable[[], Reply | None]) -> Callable[..., Result]:
    """The service answers so (None: is down) for a while."""

    def measure(start: XraydFactory, fake: FakeXRay, seconds: float) -> Result:
        oracle = Oracle(start(), fake)
        oracle.stream(3.0, PER_S)
        made = reply()
        if made is None:
            fake.down()
        else:
            fake.answer(made)
        oracle.stream(seconds, PER_S)
        fake.up()
        fake.answer(None)
        recovered_s = oracle.time_to_deliver()
        oracle.stream(3.0, PER_S)
        return settle(oracle, recovered_s)

    return measure


def throttle_some() -> Reply:
    count = 0

    def reply(_: Request) -> Verdict | None:
        nonlocal count
        count += 1
        return Verdict(status=429, error="ThrottledException") if count % 10 < 3 else None

    return reply


def expire_token(start: XraydFactory, fake: FakeXRay, seconds: float) -> Result:
    nobody: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    with FakeContainerCredentials(accepted_by=fake) as container:
        oracle = Oracle(start(env={**nobody, **container.environment()}), fake)
        oracle.stream(3.0, PER_S)
        fake.expire(container.issued[-1].access_key)
        oracle.stream(seconds, PER_S)
        container.rotate()
        return settle(oracle, oracle.time_to_deliver())


def terminate_with(**config: Any) -> Callable[..., Result]:
    """SIGTERM with the endpoint hung; what is in the spool is sent by the next start."""

    def measure(start: XraydFactory, fake: FakeXRay, _: float) -> Result:
        oracle = Oracle(start(config=config), fake)
        fake.answer(Verdict(hang=True, stored=False))
        oracle.stream(7.5, PER_S)
        started = time.monotonic()
        oracle.process.sigterm()
        oracle.process.wait(40.0)
        note = f"exit after {time.monotonic() - started:.1f} s"
        if not config:
            return compare(oracle, None, note)
        fake.answer(None)
        again = start(config=config, home=oracle.process.home)
        with contextlib.suppress(AssertionError):
            oracle.wait_all(10.0)
        again.sigterm()
        again.wait(40.0)
        return compare(oracle, None, note)

    return measure


def burst(start: XraydFactory, fake: FakeXRay, _: float) -> Result:
    oracle = Oracle(start("-m", "100"), fake)
    oracle.sent += flood(oracle.process, 20_000)
    return settle(oracle)


def outflood(start: XraydFactory, fake: FakeXRay, seconds: float) -> Result:
    oracle = Oracle(start("-m", "40"), fake)
    with Flood(oracle.process, 200_000, make_datagram(make_document(size=300))) as another:
        oracle.stream(seconds, PER_S)
    recovered_s = oracle.time_to_deliver()
    result = settle(oracle, recovered_s)
    line = oracle.process.wait_for_line(r"received=(\d+) .*kernel_dropped=(\d+)")
    counted = int(line[1]) + int(line[2])
    return replace(result, uncounted=len(oracle.sent) + another.sent - counted)


def poison(start: XraydFactory, fake: FakeXRay, _: float) -> Result:
    fake.answer(refuse_containing("POISON"))
    oracle = Oracle(start(), fake)
    documents = [make_document(size=1024) for _ in range(49)]
    documents.insert(20, make_document(size=1024, name="POISON"))
    oracle.process.send_document(*documents)
    fake.wait_ids(*(document_id(d) for d in documents if "POISON" not in d))
    oracle.sent += documents
    oracle.process.wait_for_line("Unprocessed segment")
    oracle.process.sigterm()
    oracle.process.wait(40.0)
    return compare(oracle, None, "the bad one")


def unread_pipe(start: XraydFactory, fake: FakeXRay, _: float) -> Result:
    model = start()
    model.sigterm()
    model.wait()
    reader, writer = os.pipe()
    command = [*model.args, "-l", "dev"]
    child = subprocess.Popen(command, env=model.env, cwd=model.home, stdout=writer, stderr=writer)
    os.close(writer)
    probe = Xrayd(home=model.home, port=model.port)
    probe._process = child
    try:
        probe.wait_healthy()
        probe.send(*(b"junk %d" % n + b"\n" * 2 for n in range(5000)))
        oracle = Oracle(probe, fake)
        oracle.stream(2.5, PER_S)
        with contextlib.suppress(AssertionError):
            oracle.wait_all(60.0)
        stored = set(fake.documents)
        lost = sum(1 for document in oracle.sent if document not in stored)
        return Result(len(oracle.sent), lost, lost)
    finally:
        os.close(reader)
        probe.stop()


def kill_with(**config: Any) -> Callable[..., Result]:
    def measure(start: XraydFactory, fake: FakeXRay, _: float) -> Result:
        oracle = Oracle(start(config=config), fake)
        fake.down()
        oracle.stream(7.5, PER_S)
        oracle.process.kill()
        fake.up()
        began = time.monotonic()
        oracle.process.start()
        recovered_s = time.monotonic() - began + oracle.time_to_deliver()
        with contextlib.suppress(AssertionError):
            oracle.wait_all(10.0)
        oracle.process.sigterm()
        oracle.process.wait(40.0)
        stored = set(fake.documents)
        lost = sum(1 for document in oracle.sent if document not in stored)
        return Result(len(oracle.sent), lost, lost, recovered_s)

    return measure


def unprocessed(start: XraydFactory, fake: FakeXRay, _: float) -> Result:
    turn = itertools.count()
    seen: set[str] = set()

    def fails_once(document: str) -> bool:
        is_new = document not in seen
        seen.add(document)
        return is_new and next(turn) % 10 == 0

    fake.answer(Verdict(unprocessed=Unprocessed(match=fails_once, code="InternalFailure")))
    oracle = Oracle(start(), fake)
    oracle.stream(5.0, PER_S)
    return settle(oracle)


def outgrow_memory(start: XraydFactory, fake: FakeXRay, seconds: float) -> Result:
    oracle = Oracle(start("-m", "3", config={"Spool": {"Directory": "spool"}}), fake)
    oracle.stream(3.0, PER_S)
    fake.down()
    oracle.stream(seconds, 5 * PER_S)
    fake.up()
    return settle(oracle, oracle.time_to_deliver())


ALL = "all of it"
SPOOL = {"Spool": {"Directory": "spool"}}
ROWS = [
    Row("connection refused", outage(lambda: None), f"99-100 % | {ALL}"),
    Row("500", outage(lambda: Verdict(status=500)), f"99-100 % | {ALL}"),
    Row(
        "429", outage(lambda: Verdict(status=429, error="ThrottledException")), f"99-100 % | {ALL}"
    ),
    Row("hang", outage(lambda: Verdict(hang=True, stored=False)), "– | –"),
    Row("30 % throttled", outage(throttle_some), f"12 % | {ALL}"),
    Row("answers take 2.5 s", outage(lambda: Verdict(delay_s=2.5)), "998 of 1,000 twice | –"),
    Row("expired token", expire_token, f"100 % | {ALL}"),
    Row("one in ten not processed", unprocessed, "each of them | counted sent and rejected"),
    Row("one bad document (400)", poison, "50 of 50 | –"),
    Row("20,000 back to back", burst, f"63 % | {ALL}"),
    Row("another sender floods, 200,000/s", outflood, "– | –"),
    Row("log pipe nobody reads", unread_pipe, "100 % | –"),
    Row("SIGTERM, endpoint hung", terminate_with(), "100 %, exit after 19.7 s | –"),
    Row("the same, with the spool", terminate_with(**SPOOL), "– | –"),
    Row("kill -9 in an outage", kill_with(), "all it holds | –"),
    Row("the same, with the spool", kill_with(**SPOOL), "– | –"),
    Row("outage at 1,000/s, 3 MB and the spool", outgrow_memory, "– | –"),
]


@contextlib.contextmanager
def world() -> Iterator[tuple[XraydFactory, FakeXRay]]:
    processes: list[Xrayd] = []
    with tempfile.TemporaryDirectory() as home, FakeXRay() as fake:
        try:
            yield XraydFactory(Path(home), fake, processes), fake
        finally:
            for process in processes:
                process.stop()


def describe(result: Result) -> str:
    note = f", {result.note}" if result.note else ""
    took = "–" if result.recovered_s is None else f"{result.recovered_s:.1f} s"
    return f"{result.lost:,} of {result.sent:,}{note} | {result.uncounted:,} | {took}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a fault")
    parser.add_argument("rows", nargs="*", help="parts of names; none for all")
    wanted = parser.parse_args()
    print("| fault | lost | uncounted | to recover | X-Ray daemon: lost | uncounted |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in ROWS:
        if wanted.rows and not any(part in row.name for part in wanted.rows):
            continue
        with world() as (start, fake):
            result = row.measure(start, fake, wanted.seconds)
        print(f"| {row.name} | {describe(result)} | {row.reference} |", flush=True)
    print(
        f"\nFaults of {wanted.seconds:g} s. X-Ray daemon: 3.6.6, measured on the original daemon."
    )


if __name__ == "__main__":
    main()
