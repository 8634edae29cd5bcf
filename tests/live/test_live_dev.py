"""What `xrayd dev` makes of the traces of unmodified clients: documents, summary, graph."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from live.chain import SERVICES, chain
from live.conftest import RunClient, StartClient
from live.daemon import daemon_address, wait_for_ids, wait_until
from live.dev import Dev
from live.documents import Documents


def outline(document: dict[str, Any]) -> dict[str, Any]:
    """The names in a document, nested as they are."""
    inner = [outline(one) for one in document.get("subsegments", ())]
    return {document["name"]: inner}


def summary_of(dev: Dev, trace_id: str) -> dict[str, Any]:
    now = time.time()
    answer = dev.call("/TraceSummaries", StartTime=now - 600, EndTime=now + 60)
    (summary,) = [one for one in answer["TraceSummaries"] if one["Id"] == trace_id]
    return summary


def test_spans_of_the_opentelemetry_distro_read_back_as_one_trace(
    dev: Dev, run_client: RunClient
) -> None:
    sent = run_client("adot", "udp", daemon_address=daemon_address(dev))
    ids = sent["ids"]
    received = wait_for_ids(dev, set(ids.values()))
    assert {received.by_id[identity].name for identity in ids.values()} >= {"shop", "lookup"}

    own = [one for one in dev.trace(sent["trace_id"]) if not one.get("inferred")]
    assert [outline(one) for one in own] == [
        {"shop": [{"lookup": [{"lookup.cache": []}]}, {"payment": []}]}
    ]
    entities = Documents(json.dumps(one) for one in own).by_id
    assert entities.keys() == set(ids.values())
    shop, payment = entities[ids["shop"]].body, entities[ids["payment"]].body
    assert shop["http"]["response"]["status"] == 500
    assert payment["cause"]["exceptions"][0]["message"] == "card declined"
    assert summary_of(dev, sent["trace_id"])["HasFault"] is True


@pytest.mark.parametrize("client", ["powertools-python", "powertools-node"])
def test_subsegments_without_their_parent_read_back_below_a_placeholder(
    client: str, dev: Dev, run_client: RunClient
) -> None:
    sent = run_client(client, "udp", daemon_address=daemon_address(dev))
    wait_for_ids(dev, set(sent["ids"].values()))

    wait_until(lambda: dev.trace(sent["trace_id"]) != [], "its parent is given up")
    own = [one for one in dev.trace(sent["trace_id"]) if not one.get("inferred")]
    assert [one["id"] for one in own] == [sent["parent_id"]]
    assert [outline(one) for one in own[0]["subsegments"]] == [
        {"## shop": [{"lookup": [{"lookup.cache": []}]}, {"payment": []}]}
    ]
    summary = summary_of(dev, sent["trace_id"])
    assert summary["IsPartial"] is True
    assert summary["Annotations"].keys() >= {"order", "note"}


@pytest.mark.parametrize(("path", "status"), [("/orders/7", 200), ("/orders/fail", 500)])
def test_three_services_are_stored_summarised_and_drawn(
    path: str, status: int, dev: Dev, start_client: StartClient
) -> None:
    with chain(start_client, daemon_address(dev)) as get:
        first = get(path)
    answers = [first, first["next"], first["next"]["next"]]
    ids = [answer["segment_id"] for answer in answers]
    stored = wait_for_ids(dev, set(ids))
    trace_id = first["trace_id"]
    names = [service for service, _ in SERVICES]

    assert len(dev.documents()) == len(names)
    segments = [stored.by_id[identity].body for identity in ids]
    asked = segments[0]
    calls = [
        asked,
        stored.by_id[segments[1]["parent_id"]].body,
        stored.by_id[segments[2]["parent_id"]].body,
    ]
    shown = [one for one in dev.trace(trace_id) if not one.get("inferred")]
    assert [(one["name"], one["id"]) for one in shown] == list(zip(names, ids, strict=True))
    assert Documents(map(json.dumps, shown)).by_id.keys() == stored.by_id.keys()

    summary = summary_of(dev, trace_id)
    took = max(map(end_of, segments)) - asked["start_time"]
    assert summary["Duration"] == pytest.approx(took, abs=0.0011)
    assert summary["ResponseTime"] == pytest.approx(took_of(asked), abs=0.0011)
    assert (summary["HasFault"], summary["HasError"]) == (status == 500, False)
    assert (summary["Revision"], summary["IsPartial"]) == (len(names), False)
    assert summary["Http"]["HttpStatus"] == status
    assert summary["Http"]["HttpURL"].endswith(path)
    assert [(one["Name"], one["Type"]) for one in summary["ServiceIds"]] == [
        (names[0], "client"),
        *((name, "") for name in names),
    ]

    now = time.time()
    drawn = dev.call("/ServiceGraph", StartTime=now - 600, EndTime=now + 60)["Services"]
    for services in (drawn, dev.call("/TraceGraph", TraceIds=[trace_id])["Services"]):
        by_key = {(one["Name"], one["Type"]): one for one in services}
        chained = [by_key.pop((names[0], "client")), *(by_key.pop((name, "")) for name in names)]
        assert by_key == {}
        for segment, service in zip(segments, chained[1:], strict=True):
            check_statistics(service["SummaryStatistics"], segment, status)
        assert "SummaryStatistics" not in chained[0]
        for call, (caller, callee) in zip(calls, pairwise(chained), strict=True):
            (edge,) = caller["Edges"]
            assert edge["ReferenceId"] == callee["ReferenceId"]
            check_statistics(edge["SummaryStatistics"], call, status)
        assert chained[-1]["Edges"] == []
        assert [one.get("Root", False) for one in chained] == [False, True, False, False]


def end_of(document: dict[str, Any]) -> float:
    return document["end_time"]


def took_of(document: dict[str, Any]) -> float:
    return document["end_time"] - document["start_time"]


def check_statistics(found: dict[str, Any], call: dict[str, Any], status: int) -> None:
    """One request that took what its document says, a fault where it was one."""
    faults = int(status == 500)
    assert found["TotalCount"] == 1
    assert found["OkCount"] == 1 - faults
    assert found["FaultStatistics"] == {"OtherCount": faults, "TotalCount": faults}
    assert found["ErrorStatistics"] == {"OtherCount": 0, "ThrottleCount": 0, "TotalCount": 0}
    assert found["TotalResponseTime"] == pytest.approx(took_of(call), abs=0.0011)
