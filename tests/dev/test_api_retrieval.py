"""Trace retrieval: a job elsewhere, here done at once."""

from __future__ import annotations

import json

import pytest
from api_endpoint import NOW, endpoint, segment, served_endpoint, trace_id
from botocore.exceptions import ClientError

from xrayd.dev.operations.retrieval import RETRIEVALS_KEPT

WINDOW = {"StartTime": NOW - 60, "EndTime": NOW + 60}


@pytest.fixture
def shared():
    with endpoint() as made:
        yield made


def start(shared, *numbers: int, **more) -> str:
    ids = [trace_id(number) for number in numbers]
    return shared.ask("/StartTraceRetrieval", TraceIds=ids, **{**WINDOW, **more})["RetrievalToken"]


def test_a_retrieval_is_complete_at_once_and_comes_in_pages_of_five():
    with served_endpoint() as (shared, client):
        shared.put(*(segment(number, number, "api", 0) for number in range(1, 8)))
        token = client.start_trace_retrieval(
            TraceIds=[trace_id(number) for number in range(1, 9)], **WINDOW
        )["RetrievalToken"]
        first = client.list_retrieved_traces(RetrievalToken=token, TraceFormat="XRAY")
        second = client.list_retrieved_traces(RetrievalToken=token, NextToken=first["NextToken"])
        assert first["RetrievalStatus"] == second["RetrievalStatus"] == "COMPLETE"
        traces = first["Traces"] + second["Traces"]
        assert [trace["Id"] for trace in traces] == [trace_id(number) for number in range(1, 8)]
        assert len(first["Traces"]) == 5
        assert "NextToken" not in second
        assert json.loads(traces[0]["Spans"][0]["Document"])["name"] == "api"
        graph = client.get_retrieved_traces_graph(RetrievalToken=token)
        assert {one["Service"]["Name"] for one in graph["Services"]} == {"api"}


def test_it_is_limited_to_its_window(shared):
    shared.put(segment(1, 1, "api", 0), segment(2, 2, "api", 500))
    token = start(shared, 1, 2)
    traces = shared.ask("/ListRetrievedTraces", RetrievalToken=token)["Traces"]
    assert [trace["Id"] for trace in traces] == [trace_id(1)]


def test_a_cancelled_retrieval_gives_nothing_more(shared):
    shared.put(segment(1, 1, "api", 0))
    token = start(shared, 1)
    shared.ask("/CancelTraceRetrieval", RetrievalToken=token)
    answer = shared.ask("/ListRetrievedTraces", RetrievalToken=token)
    assert (answer["RetrievalStatus"], answer["Traces"]) == ("CANCELLED", [])
    assert shared.ask("/GetRetrievedTracesGraph", RetrievalToken=token)["Services"] == []


def test_an_unknown_token_is_not_found():
    with served_endpoint() as (_, client):
        for call in (
            client.list_retrieved_traces,
            client.get_retrieved_traces_graph,
            client.cancel_trace_retrieval,
        ):
            with pytest.raises(client.exceptions.ResourceNotFoundException):
                call(RetrievalToken="t")


def test_other_formats_and_too_many_ids_are_refused(shared):
    token = start(shared, 1)
    request = {"RetrievalToken": token, "TraceFormat": "OTEL"}
    assert shared.post("/ListRetrievedTraces", request)[0] == 400
    ids = [trace_id(1)] * 101
    assert shared.post("/StartTraceRetrieval", {"TraceIds": ids, **WINDOW})[0] == 400
    turned = {"StartTime": NOW, "EndTime": NOW - 1}
    assert shared.post("/StartTraceRetrieval", {"TraceIds": [], **turned})[0] == 400


def test_the_oldest_retrievals_are_forgotten(shared):
    tokens = []
    for _ in range(RETRIEVALS_KEPT + 1):
        shared.clock.now += 1
        tokens.append(start(shared, 1))
    assert shared.post("/ListRetrievedTraces", {"RetrievalToken": tokens[0]})[0] == 404
    assert shared.post("/ListRetrievedTraces", {"RetrievalToken": tokens[1]})[0] == 200


def test_botocore_knows_the_error():
    with served_endpoint() as (_, client), pytest.raises(ClientError, match="retrieval"):
        client.cancel_trace_retrieval(RetrievalToken="t")
