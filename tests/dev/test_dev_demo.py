"""The demo's shop: its documents are what X-Ray takes, and all of it can be seen."""

import json
import random
import re
import time
from pathlib import Path

import pytest
from dev_process import DevProcess
from fakes.process import PATIENCE_S

from xrayd.dev.demo import Shop
from xrayd.dev.documents import Accepted, parse_documents

NODES = {
    ("web", "client"),
    ("worker", "client"),
    ("web", "AWS::ECS::Container"),
    ("orders", "AWS::ECS::Container"),
    ("catalog", "AWS::ECS::Container"),
    ("worker", "AWS::ECS::Container"),
    ("products", "AWS::DynamoDB::Table"),
    ("shop@db.internal", "Database::SQL"),
    ("payments.example", "remote"),
    ("shipping", "AWS::SQS::Queue"),
}


def counts(services, name, *path):
    return sum(reach(one["SummaryStatistics"], path) for one in services if one["Name"] == name
               and "SummaryStatistics" in one)  # fmt: skip


def reach(value, path):
    for key in path:
        value = value[key]
    return value


def node_keys(services):
    return {(one["Name"], one["Type"]) for one in services}


def make_requests(seed, count=200):
    shop = Shop(random.Random(seed))
    now = time.time() - 60
    return [shop.request(now + number / 10) for number in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_every_document_of_the_shop_is_one_that_xray_takes(seed):
    for documents in make_requests(seed):
        for document in documents:
            (verdict,) = parse_documents(json.dumps(document))
            assert isinstance(verdict, Accepted), verdict
            assert document["end_time"] >= document["start_time"]


def readme_lines():
    """What the README says `xrayd dev --demo` prints."""
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert blocks[0].strip().endswith(".venv/bin/pip install . && .venv/bin/xrayd dev --demo")
    return blocks[1].splitlines()


def shape_of(line):
    """A trace's line without its moment, id and duration."""
    return re.sub(r"^\d\d:\d\d:\d\d  1-[0-9a-f]{8}-[0-9a-f]{24}  (.{12})  .{5} ms  ", r"\1|", line)


def test_the_demo_prints_what_the_readme_shows(tmp_path):
    shown = readme_lines()
    with DevProcess(tmp_path, "--demo", ready="  data  ") as dev:
        printed = [line.replace(str(dev.port), "2000") for line in dev.lines[:3]]
        assert printed == shown[:3]
        for requests in make_requests(seed=2, count=60):
            dev.put(*map(json.dumps, requests))
        for line in shown[4:]:
            services, status = shape_of(line).split("|")[1], shape_of(line).split("|")[0]
            dev.wait_for_line(rf"  {re.escape(status)}  .{{5}} ms  {re.escape(services)}$")


def test_the_same_chance_makes_the_same_shop():
    first, second = (Shop(random.Random(7)).request(1e9) for _ in range(2))
    assert first == second


def test_summaries_and_graph_show_every_service_faults_and_throttles(tmp_path):
    """As many of the shop's requests as a newcomer sees within some minutes, at once."""
    requests = make_requests(seed=1)
    flat = [document for documents in requests for document in documents]
    roots = {document["trace_id"] for document in flat}
    with DevProcess(tmp_path) as dev:
        for first in range(0, len(flat), 50):
            assert dev.put(*map(json.dumps, flat[first : first + 50])) == []
        summaries = dev.wait_for_summaries(len(roots))
        assert {one["Id"] for one in summaries} == roots
        status = [one["Http"].get("HttpStatus") for one in summaries]
        assert {200, 201, 404, 429, 502, None} == set(status)
        assert sum(one["HasFault"] for one in summaries) == status.count(502) > 0
        assert sum(one["HasThrottle"] for one in summaries) == status.count(429) > 0

        window = {"StartTime": time.time() - 3600, "EndTime": time.time() + 60}
        services = dev.call("/ServiceGraph", **window)["Services"]
        assert node_keys(services) == NODES
        by_name = {"web": len(requests)} | {
            name: sum(document["name"] == name for document in flat)
            for name in ("orders", "catalog", "worker")
        }
        for name, count in by_name.items():
            assert counts(services, name, "TotalCount") == count
        assert counts(services, "payments.example", "FaultStatistics", "TotalCount") == (
            status.count(502)
        )
        assert counts(services, "products", "ErrorStatistics", "ThrottleCount") == (
            status.count(429)
        )
        dev.end()


def test_the_running_demo_shows_itself_in_terminal_summaries_and_graph(tmp_path):
    with DevProcess(tmp_path, "--demo") as dev:
        for services in ("web$", "web → catalog → products$", "web → orders → .* → payments"):
            dev.wait_for_line(rf"^\S+  1-\S+  .* ms  {services}", PATIENCE_S)
        assert dev.wait_for_summaries(3)
        services = dev.call(
            "/ServiceGraph", StartTime=time.time() - 600, EndTime=time.time() + 60
        )["Services"]  # fmt: skip
        assert node_keys(services) <= NODES
        assert ("orders", "AWS::ECS::Container") in node_keys(services)
        ledger = dev.end()
    assert ledger["received"] == ledger["sent"] > 0
    assert ledger["unprocessed"] == ledger["difference"] == 0
