"""Sampling.Apply: the daemon's own decision, seen from outside. No trace may be torn."""

import base64
import json
import random
import re
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes.captures import Captures
from fakes.factory import XraydFactory
from fakes.process import Xrayd, free_port
from fakes.sampling import SamplingService, make_rule, statistics
from fakes.xray import FakeXRay
from live.daemon import wait_until
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from xrayd.sampling.otlp import read_otlp

RULES = [
    make_rule("keep", Priority=1, ServiceName="keep*", FixedRate=1.0, ReservoirSize=0),
    make_rule("half", Priority=2, URLPath="/half/*", FixedRate=0.5, ReservoirSize=0),
    make_rule("post", Priority=3, HTTPMethod="POST", Host="*.shop", FixedRate=0.0, ReservoirSize=0),
    make_rule("Default", Priority=10000, FixedRate=0.0, ReservoirSize=0),
]


def new_trace() -> str:
    return f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"


def documents_of(trace_id: str, name: str = "web", *, url: str = "", **root: Any) -> list[str]:
    """A root in progress, two subsegments, a downstream segment, and the complete root."""
    now = time.time()
    root_id, sub_id = secrets.token_hex(8), secrets.token_hex(8)
    http = {"http": {"request": {"url": url or "http://a.shop/x", "method": "GET"}}}
    head = {"trace_id": trace_id, "start_time": now - 1}
    part = {**head, "type": "subsegment", "parent_id": root_id, "end_time": now}
    made = [
        {**head, "id": root_id, "name": name, "in_progress": True, **http, **root},
        {**part, "id": sub_id, "name": "a", "namespace": "remote"},
        {**part, "id": secrets.token_hex(8), "name": "b"},
        {**head, "id": secrets.token_hex(8), "name": "db", "parent_id": sub_id, "end_time": now},
        {**head, "id": root_id, "name": name, "end_time": now, **http, **root},
    ]
    return [json.dumps(each) for each in made]


@pytest.fixture
def rules_file(tmp_path: Path) -> str:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(RULES))
    return str(path)


def sampling(apply: str, rules_file: str, **more: Any) -> dict[str, Any]:
    return {
        "Sampling": {"Apply": apply, "RulesFile": rules_file, "HoldSeconds": 1.0, **more},
        "Drain": {"QuietSeconds": 0.2},
    }


def end(process: Xrayd) -> dict[str, int]:
    """Stop it in order; where every document went."""
    process.sigterm()
    assert process.wait(30) == 0
    line = process.wait_for_line(r"Stopped: (.*)")[1]
    summary = {name: int(count) for name, count in re.findall(r"(\w+)=(-?\d+)", line)}
    assert summary["difference"] == summary["queued"] == summary["in_flight"] == 0
    return summary


def traces_of(documents: list[str]) -> Counter[str]:
    return Counter(json.loads(document)["trace_id"] for document in documents)


def is_kept_at_half(trace_id: str) -> bool:
    return int(trace_id[-14:], 16) >= 2**55


@pytest.mark.parametrize("seed", range(3))
def test_all_traces_are_decided_whole_in_any_order(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str, seed: int
) -> None:
    process = xrayd(config=sampling("all", rules_file, HoldSeconds=20))  # every root comes
    halves = [new_trace() for _ in range(120)]
    keeps = [new_trace() for _ in range(20)]
    drops = [new_trace() for _ in range(20)]
    documents = [
        *(each for trace in halves for each in documents_of(trace, url="http://h/half/1")),
        *(each for trace in keeps for each in documents_of(trace, "Keep-this")),
        *(each for trace in drops for each in documents_of(trace)),
    ]
    if seed:  # 0 is the order of a real application, in progress first
        random.Random(seed).shuffle(documents)
    expected = {trace for trace in halves if is_kept_at_half(trace)} | set(keeps)
    for start in range(0, len(documents), 100):
        process.send_document(*documents[start : start + 100])
    fake_xray.wait_documents(5 * len(expected))
    summary = end(process)
    assert traces_of(fake_xray.documents) == dict.fromkeys(expected, 5)
    assert summary["received"] == len(documents)
    assert summary["sampled_out"] == len(documents) - 5 * len(expected)


def test_a_root_in_progress_still_arrives_before_the_complete_one(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str
) -> None:
    process = xrayd(config=sampling("all", rules_file))
    documents = documents_of(new_trace(), "keep")
    process.send_document(*documents)
    arrived = fake_xray.wait_documents(5)
    assert arrived.index(documents[0]) < arrived.index(documents[-1])


def test_undecided_keeps_what_an_sdk_decided_and_samples_the_rest(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str
) -> None:
    process = xrayd(config=sampling("undecided", rules_file))
    by_python = {"aws": {"xray": {"sampling_rule_name": "x", "sdk": "X-Ray for Python"}}}
    by_node = {"aws": {"xray": {"rule_name": "x"}}}
    decided = [new_trace() for _ in range(20)]
    others = [new_trace() for _ in range(20)]
    documents = [
        *(d for t in decided[:10] for d in documents_of(t, **by_python)),
        *(d for t in decided[10:] for d in documents_of(t, **by_node)),
        *(d for t in others for d in documents_of(t)),
    ]
    random.Random(7).shuffle(documents)
    process.send_document(*documents)
    fake_xray.wait_documents(100)
    summary = end(process)
    assert traces_of(fake_xray.documents) == dict.fromkeys(decided, 5)
    assert summary["sampled_out"] == 100


def test_a_trace_without_a_root_is_defaults_or_kept(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str
) -> None:
    process = xrayd(config=sampling("undecided", rules_file, KeepRootless=True))
    rootless = documents_of(new_trace())[1:4]
    process.send_document(*rootless, *documents_of(new_trace()))
    assert sorted(fake_xray.wait_documents(3)) == sorted(rootless)
    assert end(process)["sampled_out"] == 5


def test_off_takes_everything_and_asks_for_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, *RULES[:3])
    process = xrayd()
    documents = documents_of(new_trace())
    process.send_document(*documents)
    assert sorted(fake_xray.wait_documents(5)) == sorted(documents)
    assert end(process)["sampled_out"] == 0
    assert service.calls("/GetSamplingRules") == 0


def test_what_is_held_counts_as_queued_and_what_is_dropped_by_its_rule(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str
) -> None:
    port = free_port()
    process = xrayd(
        config={
            **sampling("all", rules_file, HoldSeconds=60),
            "Metrics": {"Address": f"127.0.0.1:{port}"},
        }
    )
    scraper = Xrayd(home=process.home, port=port)

    def shown(name: str) -> float:
        text = scraper.get("/metrics").body.decode()
        assert re.search(r"^xrayd_ledger_difference 0\.0$", text, re.MULTILINE), text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    rootless = documents_of(new_trace())[1:4]
    process.send_document(*rootless)
    wait_until(lambda: shown("xrayd_queued_documents") == 3, "three held")
    post = documents_of(
        new_trace(), http={"request": {"url": "https://B.shop/y", "method": "POST"}}
    )
    process.send_document(*post)
    wait_until(lambda: shown('xrayd_sampled_out_total{rule="post"}') == 5, "a trace sampled out")
    assert shown("xrayd_queued_documents") == 3
    process.sigterm()
    assert process.wait(30) == 0
    process.wait_for_line(r"sampled_out=8 queued=0 .*difference=0")
    scraper.stop()
    assert fake_xray.documents == []


def test_a_document_with_a_nan_shares_the_fate_of_its_trace(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str
) -> None:
    process = xrayd(config=sampling("all", rules_file))

    def odd(documents: list[str]) -> list[str]:
        odd_metadata = documents[1][:-1] + ',"metadata":{"a":{"b":NaN}}}'
        odd_progress = documents[0][:-1] + ',"resource_arn":["no text"]}'
        return [odd_progress, odd_metadata, *documents[2:]]

    kept, dropped = odd(documents_of(new_trace(), "keep")), odd(documents_of(new_trace()))
    process.send_document(*dropped, *kept)
    assert sorted(fake_xray.wait_documents(5)) == sorted(kept)
    assert end(process)["sampled_out"] == 5


def test_a_document_that_is_no_utf_8_shares_the_fate_of_its_trace(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str
) -> None:
    process = xrayd(config=sampling("all", rules_file))

    def odd(documents: list[str]) -> list[bytes]:
        root = documents[4].encode().replace(b"http://a.shop/x", b"http://a.shop/\xe9")
        part = documents[2].encode().replace(b'"name": "b"', b'"name": "b\xe9"')
        indented = b"\n " + documents[1][:-1].encode() + b',"metadata":{"a":{"b":NaN}}}'
        return [documents[0].encode(), indented, part, documents[3].encode(), root]

    kept, dropped = odd(documents_of(new_trace(), "keep")), odd(documents_of(new_trace()))
    process.send_document(*dropped, *kept)
    arrived = fake_xray.wait_documents(5)
    assert sorted(arrived) == sorted(document.decode("utf-8", "replace") for document in kept)
    assert end(process)["sampled_out"] == 5


def test_posted_documents_are_sampled_too(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str
) -> None:
    process = xrayd(config=sampling("all", rules_file))
    kept = documents_of(new_trace(), "keep")
    body = {"TraceSegmentDocuments": [*documents_of(new_trace()), *kept]}
    assert process.post("/TraceSegments", json.dumps(body)).status == 200
    assert sorted(fake_xray.wait_documents(5)) == sorted(kept)
    assert end(process)["sampled_out"] == 5


def otlp(flag: str, *trace_ids: str) -> str:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for trace_id in trace_ids:
        spans.add(trace_id=bytes.fromhex(trace_id), span_id=secrets.token_bytes(8), name="s")
    return flag + base64.b64encode(request.SerializeToString()).decode()


def test_otlp_is_decided_by_its_flag_and_trace_id(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path
) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([make_rule("Default", FixedRate=0.5, ReservoirSize=0)]))
    low, high = secrets.token_hex(9) + "0" * 14, secrets.token_hex(9) + "f" * 14
    unsampled = [otlp("T1U", low), otlp("T1U", high)]
    kept, dropped = [otlp("T1S", high), otlp("T1S", low, high)], otlp("T1S", low)
    process = xrayd(config=sampling("all", str(path)))
    process.send_document(*unsampled, dropped, *kept, "M1aaaa")
    assert sorted(fake_xray.wait_documents(5)) == sorted([*unsampled, *kept, "M1aaaa"])
    assert end(process)["sampled_out"] == 1
    undecided = xrayd(config=sampling("undecided", str(path)))
    undecided.send_document(dropped)
    assert fake_xray.wait_documents(6)[-1] == dropped


def test_trace_ids_of_recorded_otlp_are_found(captures: Captures) -> None:
    payloads = [d.body for d in captures.datagrams if d.body[:3] in (b"T1S", b"T1U")]
    assert payloads
    for payload in payloads:
        request = ExportTraceServiceRequest.FromString(base64.b64decode(payload[3:]))
        expected = {
            span.trace_id.hex()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
        found = read_otlp(payload)
        assert found is not None
        assert set(found.trace_ids) == expected
        assert found.is_sampled == payload.startswith(b"T1S")
        for cut in range(3, len(payload), max(1, len(payload) // 20)):
            read_otlp(payload[:cut])  # says None or something, and raises nothing


def test_decisions_are_reported_to_aws_beside_the_clients(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, *RULES[:3])
    process = xrayd(config={"Sampling": {"Apply": "all"}})
    fake_xray.wait_requests(1, "/GetSamplingRules")
    view: dict[str, Any] = {}

    def knows_rules() -> bool:
        view.update(json.loads(process.get("/sampling").body))
        return len(view["rules"]) == 4

    wait_until(knows_rules, "the rules")
    assert view["applied"] == "all"
    for _ in range(7):
        process.send_document(*documents_of(new_trace(), "keep"))
    body = {"SamplingStatisticsDocuments": [statistics("keep", 1, 100)]}
    assert process.post("/SamplingTargets", json.dumps(body)).status == 200
    service.wait_counted("keep", 107)
    assert service.counted["keep"] == 107
    rows = [
        row
        for request in fake_xray.requests("/SamplingTargets")
        for row in json.loads(request.body)["SamplingStatisticsDocuments"]
    ]
    assert len({row["ClientID"] for row in rows}) == 1
    assert re.fullmatch("[0-9a-f]{24}", rows[0]["ClientID"])


def test_what_the_daemon_decided_last_is_reported_before_the_end(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, *RULES[:3])
    process = xrayd(config={"Sampling": {"Apply": "all"}})
    wait_until(lambda: json.loads(process.get("/sampling").body)["rules"], "the rules")
    for _ in range(7):
        process.send_document(*documents_of(new_trace(), "keep"))
    end(process)
    assert service.counted["keep"] == 7


def test_apply_needs_the_broker(xrayd: XraydFactory) -> None:
    config = {"Sampling": {"Proxy": "forward", "Apply": "all"}}
    process = xrayd(config=config, ready=None)
    assert process.wait() == 1
    assert "Sampling.Apply needs Sampling.Proxy: broker" in process.output
