"""Recorded traffic of real clients, as somebody sees it."""

import base64
import json
import re
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from browser import DevXrayd
from fakes.captures import DIRECTORY, load_captures
from fakes.process import PATIENCE_S
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from selenium.webdriver.common.keys import Keys

ROWS = ".rows > .row"
REFUSED = {
    "nan_infinity_metadata",
    "sqlalchemy_core",
    "names",
    "unicode",
    "explicit_ids_and_parent",
}
"""Scenarios with documents that X-Ray refuses."""


def recorded_until() -> float:
    """When the last datagram came, in epoch seconds."""
    texts = [path.read_text() for path in DIRECTORY.glob("*.udp.jsonl")]
    return max(json.loads(line)["recv_time"] for text in texts for line in text.splitlines())


def later(data: bytes, by_s: int) -> bytes:
    """A datagram as its client would have sent it so many seconds later; trace ids stay."""
    header, _, body = data.partition(b"\n")
    if body[:3] in (b"T1S", b"T1U"):
        request = ExportTraceServiceRequest.FromString(base64.b64decode(body[3:]))
        for spans in (scope.spans for one in request.resource_spans for scope in one.scope_spans):
            for span in spans:
                span.start_time_unix_nano += by_s * 1_000_000_000
                span.end_time_unix_nano += by_s * 1_000_000_000
        body = body[:3] + base64.b64encode(request.SerializeToString())
    elif not body.startswith(b"M1"):
        seconds = rb'("(?:start|end)_time"\s*:\s*)(\d+)'  # as many digits as before
        body = re.sub(seconds, lambda m: b"%s%d" % (m[1], int(m[2]) + by_s), body)
    return header + b"\n" + body


def names_in(entity: dict) -> Iterator[str]:
    yield entity["name"]
    for one in entity.get("subsegments") or ():
        yield from names_in(one)


def documents_in(body: bytes) -> list[dict]:
    try:
        found = json.loads(body)
    except ValueError:
        return []
    return found if isinstance(found, list) else [found]


@pytest.fixture(scope="module")
def replayed(dev: DevXrayd) -> list[tuple[str, str, str, set[str]]]:
    """Client, scenario, trace id and the names in it, for each trace of segments sent as JSON."""
    captured = load_captures().datagrams
    by_s = int(time.time() - 30 - recorded_until())
    traces: dict[str, tuple[str, str, str, set[str]]] = {}
    for number, one in enumerate(captured):
        dev.send(later(one.data, by_s))
        if number % 20 == 19:  # the kernel's buffer may be as small as 208 KB
            wait_for(lambda: dev.udp_queued_bytes() == 0)
        for entity in documents_in(one.body):
            if one.scenario not in REFUSED and "trace_id" in entity:
                trace_id = entity["trace_id"]
                known = traces.setdefault(trace_id, (one.client, one.scenario, trace_id, set()))
                known[3].update(names_in(entity))
    health = lambda: json.loads(dev.get("/_xrayd/health").body)  # noqa: E731
    wait_for(lambda: health()["ledger"]["received_udp"] == len(captured))
    wait_for(lambda: health()["buffer"]["queued_documents"] == 0)
    wait_for(lambda: health()["store"]["traces_to_compile"] == 0)
    return list(traces.values())


def wait_for(condition) -> None:
    deadline = time.monotonic() + 3 * PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("expression", "seen"),
    [
        ('service("flask-svc")', "http://"),
        ('service("express-svc") { fault }', "Fault"),
        ("throttle", "Throttle"),
        ('service(id(name: "n-orders", type: "AWS::DynamoDB::Table"))', "OK"),
        ('service("adot-py")', "adot-py"),
        ('service("max-udp")', "max-udp"),
    ],
)
def test_a_filter_finds_the_traces_of_a_client(replayed, page, expression, seen):
    page.open(f"#/traces?filter={quote(expression)}")
    page.find(ROWS, seen)


def test_the_list_shows_every_trace(dev, replayed, page):
    page.open("#/traces")
    page.find(ROWS)
    page.wait(lambda: int(page.find(".status", "traces").text.split()[0]) > 250)
    page.find(".scroll").send_keys(Keys.END)
    last = page.find(".status").text.split()[0]
    page.find(f"{ROWS}[aria-rowindex='{last}']")
    others = "fault = false AND throttle = false AND error"
    for kind, expression in {
        "ok": "ok", "fault": "fault", "throttle": "fault = false AND throttle",
        "error": others, "partial": f"{others} = false AND partial",
    }.items():  # fmt: skip
        page.open(f"#/traces?filter={quote(expression)}")
        page.find(f"{ROWS} .state.{kind}")


def test_a_trace_of_every_scenario_opens_and_shows_what_the_client_named(replayed, page):
    first = {(client, scenario): (trace_id, names)
             for client, scenario, trace_id, names in reversed(replayed)}  # fmt: skip
    assert len(first) > 50
    page.resize(1280, 9000)  # every row is in sight
    page.open("#/health")
    for (client, scenario), (trace_id, names) in first.items():
        page.run("location.hash = arguments[0]", f"#/trace/{trace_id}")
        page.find("code", trace_id)
        page.find(ROWS)
        waterfall = "\n".join(page.texts(f"{ROWS} .name"))
        wanted = sorted(name for name in names if name.isascii())[:20]
        assert [name for name in wanted if name not in waterfall] == [], (client, scenario)


def test_the_map_shows_the_services_and_what_they_called(replayed, page):
    page.open("#/map")
    page.find(".graph .node")
    said = int(page.find(".status", "services").text.split()[0])
    page.wait(lambda: len(page.all(".graph .node")) == said)
    nodes = set(
        page.run("return [...document.querySelectorAll('.node')].map((e) => e.dataset.node)")
    )
    assert nodes >= {
        "flask-svc||", "django-svc||", "express-svc||", "node-pg-svc||", "eb-svc|"
        "AWS::ElasticBeanstalk::Environment|", "ecs-svc|AWS::ECS::Container|",
        "adot-py|AWS::Lambda::Function|", "n-orders|AWS::DynamoDB::Table|", "jobs|AWS::SQS::Queue|",
        "my-bucket|AWS::S3::Bucket|", "Straße-Ünï-øæ||",
    }  # fmt: skip
    assert len(page.all(".graph .edge.fault")) > 3
    page.find("[data-node='n-orders|AWS::DynamoDB::Table|']").send_keys(Keys.ENTER)
    page.find(".detail h2", "n-orders")
    page.find(".detail .plot .bar")


def test_sql_and_exceptions_of_clients_can_be_read(replayed, page):
    by_scenario = {(client, scenario): trace_id for client, scenario, trace_id, _ in replayed}
    page.open(f"#/trace/{by_scenario['node-aws-xray-sdk-3.12.0-postgres', 'node_pg']}")
    page.find(f"{ROWS} .name", "postgres@127").click()
    page.find(".detail dd", "postgres")
    faults = quote('service("exc-svc")')
    page.open(f"#/traces?filter={faults}")
    page.find(ROWS, "Fault").click()
    page.find(f"{ROWS} .state.fault")
    page.run("[...document.querySelectorAll('.rows > .row')]"
             ".filter((e) => e.querySelector('.state.fault')).pop().click()")  # fmt: skip
    page.find(".detail .exception .error")
    assert page.texts(".detail .stack li")
