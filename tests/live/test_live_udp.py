"""Unmodified clients send the order trace (tests/clients/README.md) over UDP."""

import base64

import pytest
from live.conftest import RunClient
from live.daemon import DaemonUnderTest, daemon_address, wait_for_ids

NOTE = "Grüße 🚚"


@pytest.mark.parametrize("client", ["python", "node", "java", "go"])
def test_an_xray_sdk_delivers_a_segment_with_its_subsegments(
    client: str, daemon: DaemonUnderTest, run_client: RunClient
) -> None:
    sent = run_client(client, "udp", daemon_address=daemon_address(daemon))
    ids = sent["ids"]
    received = wait_for_ids(daemon, set(ids.values()))

    entities = {name: received.by_id[identity] for name, identity in ids.items()}
    assert {name: entity.name for name, entity in entities.items()} == {name: name for name in ids}
    assert {entity.trace_id for entity in entities.values()} == {sent["trace_id"]}
    assert {name: entity.parent_id for name, entity in entities.items()} == {
        "shop": None,
        "lookup": ids["shop"],
        "lookup.cache": ids["lookup"],
        "payment": ids["shop"],
    }

    shop, payment = entities["shop"].body, entities["payment"].body
    assert shop["annotations"] == {"order": 7, "note": NOTE}
    assert shop["metadata"]["live"] == {"cart": {"items": ["book", "pen"]}}
    assert shop["http"]["request"]["url"] == "http://shop.example/orders/7"
    assert shop["http"]["response"]["status"] == 500
    assert shop["fault"] is True
    assert shop["start_time"] <= payment["start_time"] <= payment["end_time"] <= shop["end_time"]
    assert payment["namespace"] == "remote"
    assert payment["http"]["response"]["status"] == 500
    assert payment["fault"] is True
    assert payment["cause"]["exceptions"][0]["message"] == "card declined"


@pytest.mark.parametrize("client", ["powertools-python", "powertools-node"])
def test_powertools_delivers_subsegments_of_a_parent_that_never_arrives(
    client: str, daemon: DaemonUnderTest, run_client: RunClient
) -> None:
    sent = run_client(client, "udp", daemon_address=daemon_address(daemon))
    ids = sent["ids"]
    received = wait_for_ids(daemon, {*ids.values()})
    handler_id = received.by_id[ids["payment"]].parent_id
    received = wait_for_ids(daemon, {handler_id})

    trace = received.of_trace(sent["trace_id"])
    assert all(entity.is_subsegment for entity in trace)
    assert sent["parent_id"] not in received.by_id
    handler = received.by_id[handler_id]
    assert (handler.name, handler.parent_id) == ("## shop", sent["parent_id"])
    assert handler.body["annotations"] | {"order": 7, "note": NOTE} == handler.body["annotations"]
    assert received.by_id[ids["lookup"]].parent_id == handler_id
    assert received.by_id[ids["lookup.cache"]].parent_id == ids["lookup"]
    payment = received.by_id[ids["payment"]].body
    assert payment["http"]["response"]["status"] == 500


@pytest.mark.parametrize("daemon", ["recorder", "relay"], indirect=True)
def test_the_opentelemetry_distro_delivers_its_spans_as_otlp_payloads(
    daemon: DaemonUnderTest, run_client: RunClient
) -> None:
    sent = run_client("adot", "udp", daemon_address=daemon_address(daemon))
    received = daemon.wait_for_documents(lambda documents: len(documents) >= len(sent["ids"]))

    assert all(document.startswith("T1S") for document in received)
    payloads = [base64.b64decode(document[3:], validate=True) for document in received]
    trace_id = bytes.fromhex(sent["trace_id"].replace("-", "")[1:])
    assert all(trace_id in payload for payload in payloads)
    for name, identity in sent["ids"].items():
        marks = (bytes.fromhex(identity), name.encode())
        assert any(all(mark in payload for mark in marks) for payload in payloads), name
