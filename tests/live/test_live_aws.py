"""A Flask application with boto3 against moto: what `xrayd dev` makes of it, to the numbers."""

import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from live.conftest import StartClient
from live.daemon import daemon_address, wait_until
from live.dev import Dev

PATHS = ["/orders/1", "/orders/2", "/orders/3", "/absent", "/absent", "/broken"]
TABLE, QUEUE = "AWS::DynamoDB::Table", "AWS::SQS::Queue"


def get(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=60) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def find(dev: Dev, expression: str) -> list[dict[str, Any]]:
    now = time.time()
    window = {"StartTime": now - 600, "EndTime": now + 60}
    return dev.call("/TraceSummaries", **window, FilterExpression=expression)["TraceSummaries"]


def took(document: dict[str, Any]) -> float:
    return document["end_time"] - document["start_time"]


def check(found: dict[str, Any], calls: list[dict[str, Any]], errors: int, faults: int) -> None:
    """Counts, and the time that these documents took together."""
    assert found["TotalCount"] == len(calls)
    assert found["OkCount"] == len(calls) - errors - faults
    assert found["ErrorStatistics"] == {
        "ThrottleCount": 0,
        "OtherCount": errors,
        "TotalCount": errors,
    }
    assert found["FaultStatistics"] == {"OtherCount": faults, "TotalCount": faults}
    assert found["TotalResponseTime"] == pytest.approx(sum(map(took, calls)), abs=0.002)


def test_a_flask_application_on_aws_is_stored_summarised_and_drawn(
    dev: Dev, start_client: StartClient
) -> None:
    with start_client("flask-aws", "serve", daemon_address=daemon_address(dev)) as shop:
        url = f"http://127.0.0.1:{shop.report()['port']}"
        statuses = [get(url + path) for path in PATHS]
        assert statuses == [200, 200, 200, 404, 404, 500]
        wait_until(lambda: len(find(dev, "!partial")) == len(PATHS), "all traces are complete")

    summaries = sorted(find(dev, ""), key=lambda one: one["StartTime"])
    roots: list[dict[str, Any]] = []
    calls: dict[str, list[dict[str, Any]]] = {"orders": [], "mail": [], "absent": []}
    for summary, path, status in zip(summaries, PATHS, statuses, strict=True):
        (root,) = [one for one in dev.trace(summary["Id"]) if not one.get("inferred")]
        roots.append(root)
        assert (root["name"], root["http"]["response"]["status"]) == ("shop", status)
        assert summary["Http"]["HttpURL"] == url + path
        assert summary["ResponseTime"] == pytest.approx(took(root), abs=0.0011)
        assert (summary["HasError"], summary["HasFault"]) == (status == 404, status == 500)
        for call in root.get("subsegments", ()):
            where = call["aws"].get("table_name") or call["aws"]["queue_url"].rpartition("/")[2]
            calls[where].append(call)
            assert call["namespace"] == "aws"
    assert {name: len(made) for name, made in calls.items()} == {
        "orders": 3,
        "mail": 3,
        "absent": 2,
    }
    assert [call["aws"]["operation"] for call in calls["mail"]] == ["SendMessage"] * 3
    assert all(call["cause"]["exceptions"] for call in calls["absent"])

    now = time.time()
    drawn = dev.call("/ServiceGraph", StartTime=now - 600, EndTime=now + 60)["Services"]
    nodes = {(one["Name"], one["Type"]): one for one in drawn}
    assert nodes.keys() == {
        ("shop", "client"),
        ("shop", ""),
        ("orders", TABLE),
        ("absent", TABLE),
        ("mail", QUEUE),
    }
    check(nodes["shop", ""]["SummaryStatistics"], roots, errors=2, faults=1)
    targets = {one["ReferenceId"]: (one["Name"], one["Type"]) for one in drawn}
    edges = {targets[one["ReferenceId"]]: one for one in nodes["shop", ""]["Edges"]}
    (entry,) = nodes["shop", "client"]["Edges"]
    assert targets[entry["ReferenceId"]] == ("shop", "")
    check(entry["SummaryStatistics"], roots, errors=2, faults=1)
    for key, errors in {("orders", TABLE): 0, ("absent", TABLE): 2, ("mail", QUEUE): 0}.items():
        check(edges.pop(key)["SummaryStatistics"], calls[key[0]], errors, faults=0)
        check(nodes[key]["SummaryStatistics"], calls[key[0]], errors, faults=0)
    assert edges == {}

    counts = {
        "annotation.order = 2": 1,
        "annotation.order": 3,
        "annotation[order] > 1": 2,
        "http.status = 404": 2,
        "error": 2,
        "fault": 1,
        'service("orders")': 3,
        f'service(id(name: "absent", type: "{TABLE}")) {{ error }}': 2,
        'edge("shop", "mail") { ok }': 3,
        'rootcause.fault.exception { message = "out of paper" }': 1,
    }
    assert {expression: len(find(dev, expression)) for expression in counts} == counts
