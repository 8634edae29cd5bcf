"""CPU of sampling: `python tests/bench/sampling.py` prints tables, asserts nothing.

First the pure room, then a whole process: TCP 2000's answers, 200 clients that poll every ten
seconds (scaled down in time, the same number of calls), and what Sampling.Apply adds to a document.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from fakes.documents import make_document
from fakes.process import Xrayd
from fakes.sampling import SamplingService
from fakes.xray import CREDENTIALS, FakeXRay

from xrayd.relay.request import FullHead, Http, HttpRequest
from xrayd.sampling.broker import Broker
from xrayd.sampling.decision import Apply, Sampler
from xrayd.sampling.matching import Dialect, Matcher, host_and_path
from xrayd.sampling.rule import SamplingRule, SamplingRuleRecord, default_record
from xrayd.sampling.verdicts import Verdict

NOW = 1_800_000_000.0
OWN_ID = "0" * 24
CLIENTS = 200
REPEATS = 5

RULES = [
    SamplingRule(
        rule_name=f"rule-{number:02}",
        priority=number + 1,
        fixed_rate=0.1,
        reservoir_size=5,
        service_name="*" if number % 3 else f"service-{number}*",
        host="*.example.com" if number % 2 else "*",
        http_method="*" if number % 4 else "POST",
        url_path=f"/api/v?/{number}/*" if number % 5 == 0 else f"/api/v1/{number}/*",
    )
    for number in range(24)
] + [default_record().sampling_rule]
RECORDS = [SamplingRuleRecord(sampling_rule=rule, modified_at=NOW) for rule in RULES]


def best(work: Callable[[], int]) -> float:
    """Microseconds of CPU per unit, the best of a few runs; `work` returns the units it did."""
    took = []
    for _ in range(REPEATS):
        before = time.process_time()
        units = work()
        took.append((time.process_time() - before) / units)
    return min(took) * 1e6


def client_body(client: int, now: float) -> bytes:
    rows = [
        {
            "RuleName": rule.rule_name,
            "ClientID": f"{client:024x}",
            "Timestamp": now,
            "RequestCount": 100 + client,
            "SampledCount": 12,
            "BorrowCount": 1,
        }
        for rule in RULES
    ]
    return json.dumps({"SamplingStatisticsDocuments": rows}).encode()


def documents(count: int, paths: int) -> list[FullHead]:
    chance = random.Random(1)
    made = []
    for number in range(count):
        trace = f"1-6b02e009-{chance.getrandbits(96):024x}"
        url = f"http://a.example.com/api/v1/{number % 30}/{chance.randrange(paths)}"
        request = Http(HttpRequest(url, "GET"))
        made.append(FullHead(trace_id=trace, name="shop", http=request))
    return made


def rules_answer() -> tuple[float, float]:
    broker = Broker(OWN_ID)
    broker.absorb_rules(RECORDS, NOW)

    def serve() -> int:
        for _ in range(100_000):
            broker.rules_answer()
        return 100_000

    def absorb() -> int:
        broker.absorb_rules(RECORDS, NOW)
        return 1

    return best(serve), best(absorb)


def report(*, is_authority: bool) -> float:
    """All clients poll once every ten seconds of simulated time, upstream answers every round."""
    broker = Broker(OWN_ID, is_authority=is_authority)
    broker.absorb_rules(RECORDS, NOW)
    bodies = [client_body(client, NOW) for client in range(CLIENTS)]
    answer = json.dumps(
        {
            "SamplingTargetDocuments": [
                {
                    "RuleName": rule.rule_name,
                    "FixedRate": 0.1,
                    "ReservoirQuota": 100,
                    "ReservoirQuotaTTL": NOW + 10_000,
                    "Interval": 10,
                }
                for rule in RULES
            ],
            "LastRuleModification": NOW,
        }
    ).encode()
    clock = [NOW]

    def poll() -> int:
        for _ in range(5):
            for body in bodies:
                clock[0] += 10 / CLIENTS
                broker.report(body, clock[0])
                for call in broker.due_round(clock[0]):
                    broker.absorb_targets(call, answer, clock[0])
        return 5 * CLIENTS

    poll()
    return best(poll)


def match(paths: int) -> float:
    matcher = Matcher(RULES, Dialect.DAEMON)
    values = []
    for each in documents(50_000, paths):
        request = each.http.request
        host, path = host_and_path(request.url)
        values.append((each.name, None, host, request.method, path, None))

    def run() -> int:
        for each in values:
            matcher.find(each)
        return len(values)

    return best(run)


def decide(paths: int, per_trace: int) -> float:
    """Each trace a root and further documents, all decided by 25 rules."""
    heads = []
    for root in documents(50_000 // per_trace, paths):
        part = FullHead(trace_id=root.trace_id, parent_id="0" * 16, type="subsegment")
        heads += [root, *[part] * (per_trace - 1)]

    def run() -> int:
        sampler = Sampler(OWN_ID, Apply.ALL)
        sampler.load_rules(RULES)

        def keep(_: bytes, head: FullHead, came_at: float) -> None:
            pass

        def drop(verdict: Verdict) -> None:
            pass

        def otherwise(_: bytes, head: FullHead, came_at: float) -> None:
            sampler.decide(head, 1_000, came_at)

        for first in range(0, len(heads), 100):
            now = NOW + first * 0.0001
            together = heads[first : first + 100]
            take = sampler.taker(together, FullHead, now, keep=keep, drop=drop, otherwise=otherwise)
            for head in together:
                take(b"", head, now)
        return len(heads)

    return best(run)


def hold() -> float:
    """The root last: every other document is held and released."""
    roots = documents(5_000, 20)
    parts = [
        FullHead(trace_id=each.trace_id, parent_id="0" * 16, type="subsegment") for each in roots
    ]

    def run() -> int:
        sampler = Sampler(OWN_ID, Apply.ALL)
        sampler.load_rules(RULES)
        for root, part in zip(roots, parts, strict=True):
            for _ in range(9):
                sampler.decide(part, 1_000, NOW)
            sampler.decide(root, 1_000, NOW)
            sampler.take_releases(NOW)
        return 10 * len(roots)

    return best(run)


def poll_in_real_time(seconds: int = 30) -> tuple[float, int]:
    """The share of a core that all clients take of a process before a fake X-Ray, and the calls it
    made there. Each client has a connection of its own and polls every ten seconds, whatever the
    others do.
    """
    with tempfile.TemporaryDirectory() as home, FakeXRay() as fake:
        service = SamplingService(fake, *map(msgspec.to_builtins, RULES[:-1]))
        service.quotas = dict.fromkeys((rule.rule_name for rule in RULES), 100)
        address = "127.0.0.1:{port}"
        (Path(home) / "cfg.yaml").write_text(json.dumps({"Endpoint": fake.url}))
        flags = ("-o", "-n", "us-east-1", "-b", address, "-t", address, "-c", "cfg.yaml")
        with Xrayd(*flags, home=Path(home), env=CREDENTIALS) as process:
            connections = [
                http.client.HTTPConnection("127.0.0.1", process.port) for _ in range(CLIENTS)
            ]
            for connection in connections:
                connection.request("POST", "/GetSamplingRules", b"{}")
                connection.getresponse().read()
            before, began = process.cpu_seconds(), time.monotonic()
            for turn in range(seconds * CLIENTS // 10):
                time.sleep(max(0.0, began + turn * 10 / CLIENTS - time.monotonic()))
                connection = connections[turn % CLIENTS]
                if turn >= CLIENTS:  # the answer to its last poll has come long ago
                    connection.getresponse().read()
                connection.request(
                    "POST", "/SamplingTargets", client_body(turn % CLIENTS, time.time())
                )
            took = process.cpu_seconds() - before
            share = took / (time.monotonic() - began)
            for connection in connections:
                connection.close()
        return share, service.calls("/SamplingTargets")


def start(home: str, fake: FakeXRay, apply: str) -> Xrayd:
    """A process with the rules from a file; endpoint and credentials are a fake's."""
    rules = Path(home) / "rules.json"
    # Everything is kept, so that processes with and without Sampling.Apply send the same.
    kept = [msgspec.structs.replace(rule, fixed_rate=1.0) for rule in RULES]
    rules.write_bytes(msgspec.json.encode(kept))
    settings = {
        "Endpoint": fake.url,
        "TotalBufferSizeMB": 400,
        "Sampling": {"RulesFile": str(rules), "Apply": apply},
    }
    (Path(home) / "cfg.yaml").write_text(json.dumps(settings))
    address = "127.0.0.1:{port}"
    return Xrayd(
        *("-o", "-n", "us-east-1", "-b", address, "-t", address, "-c", "cfg.yaml"),
        home=Path(home),
        env=CREDENTIALS,
    )


def tcp_calls(path: str, bodies: list[bytes], repeats: int) -> float:
    """Microseconds of CPU of the process for a call, over one connection."""
    with (
        tempfile.TemporaryDirectory() as home,
        FakeXRay() as fake,
        start(home, fake, "off") as process,
    ):
        connection = http.client.HTTPConnection("127.0.0.1", process.port)
        before = 0.0
        for round_ in range(repeats + 1):
            if round_ == 1:
                before = process.cpu_seconds()
            for body in bodies:
                connection.request("POST", path, body)
                connection.getresponse().read()
        took = process.cpu_seconds() - before
        connection.close()
        return took / (repeats * len(bodies)) * 1e6


def apply_in_process(apply: str, per_trace: int, paths: int, count: int = 40_000) -> float:
    """Microseconds of CPU of the process for a 1 KB document, all of them kept.

    Each of 30 kinds of URL has as many paths; where they are many, every URL is new.
    The endpoint verifies nothing and keeps ids only.
    """
    datagrams = []
    for number in range(count // per_trace):
        url = f"http://a.example.com/api/v1/{number % 30}/{number % paths}"
        root = make_document(
            size=1024, name="shop", http={"request": {"url": url, "method": "GET"}}
        )
        trace_id = json.loads(root)["trace_id"]
        rest = [
            make_document(size=1024, trace_id=trace_id, parent_id="0" * 16, type="subsegment")
            for _ in range(per_trace - 1)
        ]
        datagrams += [root, *rest]
    with (
        tempfile.TemporaryDirectory() as home,
        FakeXRay(keep=lambda _: "") as fake,
        start(home, fake, apply) as process,
    ):
        fake.verify_signatures = False
        before = process.cpu_seconds()
        for first in range(0, len(datagrams), 100):
            process.send_document(*datagrams[first : first + 100])
            time.sleep(0.01)
        fake.wait_documents(len(datagrams))
        return (process.cpu_seconds() - before) / len(datagrams) * 1e6


def process_table() -> None:
    """Print what whole processes cost."""
    rules = tcp_calls("/GetSamplingRules", [b"{}"], 5_000)
    bodies = [client_body(client, time.time()) for client in range(CLIENTS)]
    targets = tcp_calls("/SamplingTargets", bodies, 10)
    print(f"{'GetSamplingRules through a process':<55} {rules:10.2f} µs")
    print(f"{'GetSamplingTargets of 25 rows through a process':<55} {targets:10.2f} µs")
    print(f"{CLIENTS} clients every 10 s: {targets * CLIENTS / 10 / 1e6:.2%} of a core")
    share, calls = poll_in_real_time()
    print(f"the same in real time before X-Ray: {share:.2%} of a core, {calls} calls in 30 s")
    for per_trace, paths, what in (
        (1, 20, "600 URLs"),
        (1, 10**9, "new URLs"),
        (5, 20, "600 URLs"),
    ):
        costs: dict[str, list[float]] = {"off": [], "all": []}
        for _ in range(5):
            for apply, took in costs.items():
                took.append(apply_in_process(apply, per_trace, paths))
        off, all_ = (sorted(took)[2] for took in costs.values())
        print(
            f"a 1 KB document, {per_trace} a trace, {what}, Sampling.Apply off {off:.1f} µs,"
            f" all {all_:.1f} µs: {all_ - off:+.1f} µs"
        )


def main() -> None:
    """Print the tables."""
    served, absorbed = rules_answer()
    upstream, authority = report(is_authority=False), report(is_authority=True)
    rows = [
        ("GetSamplingRules answer from memory", served),
        ("absorb 25 unchanged rules", absorbed),
        (f"report of 25 rows, {CLIENTS} clients, rounds included", upstream),
        ("the same as the authority", authority),
        ("match against 25 rules, 600 paths", match(20)),
        ("match against 25 rules, every path new", match(10**9)),
        ("decide, root only, 600 paths", decide(20, 1)),
        ("decide, root only, every path new", decide(10**9, 1)),
        ("decide, 10 documents a trace, root first", decide(20, 10)),
        ("decide, 10 documents a trace, root last (held)", hold()),
    ]
    for what, microseconds in rows:
        print(f"{what:<55} {microseconds:10.2f} µs")
    share = upstream * CLIENTS / 10 / 1e6
    print(f"{CLIENTS} clients every 10 s: {share:.2%} of a core")
    process_table()


if __name__ == "__main__":
    main()
