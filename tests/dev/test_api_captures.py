"""Recorded calls of boto3, the AWS CLI and samplers, answered; recorded documents, read back."""

from __future__ import annotations

import base64
import json

import pytest
from api_endpoint import NOW, PATHS, SettableClock, endpoint
from recorded import ALL, CAPTURES, read_payloads

HTTP = sorted(path.name for path in CAPTURES.glob("*.http.jsonl"))

REFUSED = {
    # of what the calls before did not make
    "/CancelTraceRetrieval": "ResourceNotFoundException",
    "/GetRetrievedTracesGraph": "ResourceNotFoundException",
    "/ListRetrievedTraces": "ResourceNotFoundException",
    "/DeleteResourcePolicy": "InvalidRequestException",
    "/GetGroup": "InvalidRequestException",
    "/UpdateGroup": "InvalidRequestException",
    "/ServiceGraph": "InvalidRequestException",
    "/TimeSeriesServiceStatistics": None,
    "/InsightSummaries": "InvalidRequestException",
    "/ListTagsForResource": "ResourceNotFoundException",
    "/TagResource": "ResourceNotFoundException",
    "/UntagResource": "ResourceNotFoundException",
    # of what there never is
    "/Insight": "InvalidRequestException",
    "/InsightEvents": "InvalidRequestException",
    "/InsightImpactGraph": "InvalidRequestException",
}
"""What boto3's recorded session, one call of each operation by name, cannot be given: the group it
asks about is deleted by then, and the retrieval, policy and ARN it names never were."""


def read_calls(name: str):
    with (CAPTURES / name).open() as lines:
        for line in lines:
            record = json.loads(line)
            yield record["path"], base64.b64decode(record["body_b64"])


@pytest.mark.parametrize("name", HTTP)
def test_every_recorded_call_is_answered(name):
    with endpoint(clock=SettableClock(NOW)) as shared:
        for path, body in read_calls(name):
            if path == "/UpdateTraceSegmentDestination":
                assert body
            answer = shared.api.handle(path, body)
            refused = dict(answer.headers).get("x-amzn-ErrorType")
            expected = REFUSED.get(path) if name.startswith("api-boto3") else None
            assert refused == expected, (path, answer.body)
            assert answer.status == 200 or refused
            shared.post(path, body)  # a second time, checked by the model where it succeeds


def test_the_recorded_session_of_boto3_covers_every_operation():
    assert {path for path, _ in read_calls("api-boto3-1.44.5.http.jsonl")} == set(PATHS)


@pytest.mark.parametrize("client", ALL)
def test_recorded_documents_can_be_found_read_and_drawn(client):
    """Whatever clients really send, no read stumbles over it, and all of it can be read."""
    with endpoint(clock=SettableClock(NOW)) as shared:
        heard = set()
        for payloads in read_payloads(client).values():
            answer = shared.ask("/TraceSegments", TraceSegmentDocuments=payloads)
            heard |= {one["ErrorCode"] for one in answer["UnprocessedTraceSegments"]}
        assert heard <= {"InvalidName", "InvalidTraceId", "ParseError", "MissingName"}
        shared.clock.now += 10
        ids = []
        for start in (0, NOW - 3e8, NOW - 1e6):
            request = {"StartTime": start, "EndTime": NOW + 1e7, "TimeRangeType": "TraceId"}
            while True:
                page = shared.ask("/TraceSummaries", **request)
                ids += [summary["Id"] for summary in page["TraceSummaries"]]
                if "NextToken" not in page:
                    break
                request["NextToken"] = page["NextToken"]
        assert ids
        for first in range(0, len(ids), 5):
            asked = list(dict.fromkeys(ids[first : first + 5]))
            traces = shared.ask("/Traces", TraceIds=asked)["Traces"]
            assert [trace["Id"] for trace in traces] == asked
            for trace in traces:
                for one in trace["Segments"]:
                    assert json.loads(one["Document"])["id"] == one["Id"]
        assert shared.ask("/TraceGraph", TraceIds=ids[:1000])["Services"]
