"""Whatever a document holds, storing it must not make any later read fail."""

from __future__ import annotations

import json

import pytest
from api_endpoint import NOW, endpoint, segment, subsegment, trace_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EVER = {"StartTime": 0, "EndTime": 9e10}
NEAR = {"StartTime": NOW - 3600, "EndTime": NOW + 3600}

texts = st.sampled_from(["", "a", "\0", "é" * 300, "1-6b02e1cb-" + "0" * 24, "☃", "x" * 2000])
numbers = st.sampled_from([0, -1, 1.5, 2**31, 2**63, -(2**64), 10**30, 1e300, -1e300, 404, 500])
scalars = st.none() | st.booleans() | texts | numbers
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["id", "exceptions", "ec2", "table_name", "account_id", "x", "type"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=5,
)
times = st.sampled_from([0, 1, NOW, NOW + 0.5, NOW - 5000, 1e10, 9.9e10, 1e11, 1e18, 1e300, -7])
fields = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        [
            "http",
            "annotations",
            "metadata",
            "aws",
            "sql",
            "service",
            "cause",
            "user",
            "origin",
            "namespace",
            "resource_arn",
            "fault",
            "error",
            "throttle",
            "traced",
            "precursor_ids",
            "links",
            "in_progress",
        ],
        anything,
    ),
)


@st.composite
def odd_documents(draw):
    made = segment(1, draw(st.integers(1, 4)), draw(st.sampled_from(["a", "b"])), 0)
    made |= draw(fields)
    made["start_time"], made["end_time"] = draw(times), draw(times)
    if draw(st.booleans()):
        nested = subsegment(draw(st.integers(5, 9)), "c", 0) | draw(fields)
        nested["start_time"] = draw(times)
        made["subsegments"] = [nested]
    if draw(st.booleans()):
        made |= {"type": "subsegment", "parent_id": f"{draw(st.integers(1, 12)):016x}"}
    return made


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(odd_documents(), min_size=1, max_size=4))
def test_no_document_makes_a_read_fail(documents):
    with endpoint() as shared:
        shared.ask("/CreateGroup", GroupName="g", FilterExpression="fault OR annotation.x")
        texts = [json.dumps(document) for document in documents]
        shared.ask("/TraceSegments", TraceSegmentDocuments=texts)
        shared.clock.now += 10
        shared.ask("/TraceSummaries", **EVER)
        shared.ask("/TraceSummaries", **EVER, FilterExpression="rootcause.fault.service { first }")
        shared.ask("/Traces", TraceIds=[trace_id(1)])
        shared.ask("/TraceGraph", TraceIds=[trace_id(1)])
        shared.ask("/ServiceGraph", **NEAR)
        shared.ask("/ServiceGraph", StartTime=0, EndTime=3600, GroupName="g")
        shared.ask("/TimeSeriesServiceStatistics", **NEAR, Period=7)
        shared.put(segment(2, 1, "fine", 0))
        assert trace_id(2) in [
            one["Id"] for one in shared.ask("/TraceSummaries", **NEAR)["TraceSummaries"]
        ]


@pytest.mark.parametrize("field", ["start_time", "end_time", "nested"])
def test_times_in_milliseconds_are_refused(field):
    document = segment(1, 1, "api", 0)
    if field == "nested":
        document["subsegments"] = [{**subsegment(2, "x", 0), "start_time": NOW * 1000}]
    else:
        document[field] = NOW * 1000
    with endpoint() as shared:
        answer = shared.ask("/TraceSegments", TraceSegmentDocuments=[json.dumps(document)])
        (unprocessed,) = answer["UnprocessedTraceSegments"]
        assert unprocessed["Id"] == document["id"]
        assert unprocessed["ErrorCode"] == "MissingStartTime"


def test_what_is_stored_however_deep_can_be_read():
    """Readers stand deeper in the stack than who stored: what that could just decode, they could
    not.
    """
    with endpoint() as shared:
        for levels in range(900, 1000):
            deep = json.dumps(segment(levels, levels, "deep", 0))[:-1]
            deep += ', "metadata": ' + '{"a":' * levels + "1" + "}" * levels + "}"
            shared.ask("/TraceSegments", TraceSegmentDocuments=[deep])
            shared.ask("/Traces", TraceIds=[trace_id(levels)])
        assert shared.ask("/TraceSummaries", **NEAR)["TraceSummaries"] == []
