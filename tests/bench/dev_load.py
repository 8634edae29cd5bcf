"""What the benchmark of `xrayd dev` sends: documents of 1 KB, over HTTP and UDP, and reads."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import resource
import socket
import statistics
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

HOURS = 6
BATCH = 50
DOCUMENT_BYTES = 1024
HEADER = b'{"format":"json","version":1}\n'
SLOW = 'annotation.x = "y" AND responsetime > 1'
FAULTS = 'service("a") { fault }'
SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/xray/aws4_request,"
    " SignedHeaders=host, Signature=0"
)
"""Nobody checks it; moto looks for the service in it."""

READS_S = 0.05
"""Pause between two reads: more of them than a page and a Grafana make together."""


def make_trace(chance: random.Random, at: float) -> list[str]:
    """Four segments of a request: a web tier, two services, and a worker; 1 KB each."""
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
        }
        text = json.dumps({**common, **more, "metadata": {"default": {"pad": ""}}})
        return text[:-4] + "m" * (DOCUMENT_BYTES - len(text)) + text[-4:]

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


def make_documents(traces: int, chance: random.Random, end: float, seconds: float) -> Iterator[str]:
    """Documents of traces spread evenly over the seconds before `end`."""
    for number in range(traces):
        yield from make_trace(chance, end - seconds * (1 - number / traces))


def make_requests(documents: Iterable[str]) -> Iterator[bytes]:
    """PutTraceSegments requests of fifty documents each, as they go over the wire."""
    source = iter(documents)
    while batch := list(itertools.islice(source, BATCH)):
        body = json.dumps({"TraceSegmentDocuments": batch}).encode()
        head = (
            "POST /TraceSegments HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


@dataclass
class Sent:
    """What a sender did."""

    documents: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    waits_ms: list[float] = field(default_factory=list)


def post_all(port: int, requests: Iterator[bytes], connections: int) -> Sent:
    """Send requests as fast as they are answered, over some connections at once."""
    waits: list[float] = []
    failures: list[BaseException] = []
    guard = threading.Lock()

    def work() -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
                while True:
                    with guard:
                        request = next(requests, None)
                    if request is None:
                        return
                    began = time.perf_counter()
                    sock.sendall(request)
                    _read_ok(sock)
                    waits.append((time.perf_counter() - began) * 1000)
        except (OSError, AssertionError) as error:
            failures.append(error)

    started, spent = time.perf_counter(), _cpu_s()
    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    taken = time.perf_counter() - started
    return Sent(len(waits) * BATCH, taken, _cpu_s() - spent, waits)


def _read_ok(sock: socket.socket) -> None:
    answer = b""
    while b'{"UnprocessedTraceSegments":[]}' not in answer:
        more = sock.recv(65536)
        assert more, f"answered {answer!r}"
        answer += more
    assert answer.startswith(b"HTTP/1.1 200 "), answer


def send_all(port: int, datagrams: Iterable[bytes], rate: float) -> Sent:
    """Send datagrams at a rate, at most 16 of them back to back."""
    sent, began, spent = 0, time.perf_counter(), _cpu_s()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        source = iter(datagrams)
        while burst := list(itertools.islice(source, 16)):
            ahead = sent / rate - (time.perf_counter() - began)
            if ahead > 0:
                time.sleep(ahead)
            for datagram in burst:
                sock.send(datagram)
            sent += len(burst)
    return Sent(sent, time.perf_counter() - began, _cpu_s() - spent)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Api:
    """Calls of one port over one connection."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def get(self, path: str) -> dict[str, object]:
        """What a GET is answered."""
        self._http.request("GET", path)
        return self._read()

    def post(self, path: str, members: dict[str, object]) -> dict[str, object]:
        """What an operation answers, which must be a 200."""
        headers = {"Content-Type": "application/json", "Authorization": SIGNATURE}
        self._http.request("POST", path, json.dumps(members), headers)
        return self._read()

    def _read(self) -> dict[str, object]:
        answer = self._http.getresponse()
        body = answer.read()
        assert answer.status == 200, body[:500]
        decoded: dict[str, object] = json.loads(body)
        return decoded


Call = tuple[str, dict[str, object]]
"""Path and members of an operation."""


class Reads:
    """The reads that have limits, at random places of the stored hours before `end`."""

    def __init__(self, end: float, seconds: float, chance: random.Random) -> None:
        self._end = end
        self._seconds = seconds
        self._chance = chance
        self.ids: list[str] = []

    def window(self, seconds: float) -> dict[str, object]:
        """A window of that length inside the hours."""
        start = self._end - self._chance.uniform(min(seconds, self._seconds), self._seconds)
        return {"StartTime": start, "EndTime": start + seconds}

    def summaries(self, expression: str) -> Call:
        """GetTraceSummaries over an hour."""
        return "/TraceSummaries", {**self.window(3600), "FilterExpression": expression}

    def five(self) -> Call:
        """BatchGetTraces."""
        return "/Traces", {"TraceIds": self._chance.sample(self.ids, 5)}

    def graph(self) -> Call:
        """GetServiceGraph over six hours."""
        start = self._end - self._seconds
        return "/ServiceGraph", {"StartTime": start, "EndTime": start + 6 * 3600}

    def limited(self) -> dict[str, tuple[Call, float]]:
        """One of each kind, with its limit in milliseconds."""
        return {
            f"GetTraceSummaries 1 h  {SLOW}": (self.summaries(SLOW), 100.0),
            f"GetTraceSummaries 1 h  {FAULTS}": (self.summaries(FAULTS), 200.0),
            "GetServiceGraph 6 h": (self.graph(), 2000.0),
            "BatchGetTraces of five": (self.five(), 20.0),
        }


def read_while(
    port: int, reads: Reads, goes_on: threading.Event, rounds: int = 10**9, pause_s: float = READS_S
) -> dict[str, list[float]]:
    """Milliseconds each read took, one after the other, as long as it goes on."""
    api = Api(port)
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, ((path, members), _) in reads.limited().items():
            if not goes_on.is_set():
                return taken
            began = time.perf_counter()
            api.post(path, members)
            taken.setdefault(name, []).append((time.perf_counter() - began) * 1000)
            time.sleep(pause_s)
    return taken


def p95(values: list[float]) -> float:
    """The value that 95 % of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]


def show_reads(taken: dict[str, list[float]], reads: Reads) -> None:
    """One line a kind of read."""
    limits = {name: limit for name, (_, limit) in reads.limited().items()}
    for name, values in taken.items():
        verdict = "ok" if p95(values) <= limits[name] else "TOO SLOW"
        print(
            f"  {name:66} {len(values):4} times, median {statistics.median(values):6.1f}"
            f"  p95 {p95(values):6.1f}  max {max(values):6.1f} ms"
            f"  (<= {limits[name]:.0f}: {verdict})",
            flush=True,
        )
