"""Documents in, traces and summaries out, through the API."""

from __future__ import annotations

import json

import pytest
from api_endpoint import NOW, endpoint, segment, served_endpoint, subsegment, trace_id
from botocore.exceptions import ClientError
from recorded import NODE_ADOT, PYTHON_ADOT, read_payloads

from xrayd.dev.search import EXAMINED_MAX, PAGE_TRACES

HOUR = {"StartTime": NOW - 3600, "EndTime": NOW + 3600}


@pytest.fixture
def shared():
    with endpoint() as made:
        yield made


def store_many(shared, count: int, **more) -> None:
    """One-segment traces 1 … `count`, begun one after the other."""
    for first in range(1, count + 1, 500):
        shared.put(
            *(
                segment(number, number, "api", number / 100, **more)
                for number in range(first, min(first + 500, count + 1))
            )
        )
    shared.compile_all()


def found_ids(shared, **request) -> list[str]:
    answer = shared.ask("/TraceSummaries", **HOUR, **request)
    return [summary["Id"] for summary in answer["TraceSummaries"]]


class TestPutTraceSegments:
    def test_one_bad_document_hurts_no_other(self, shared):
        good = segment(1, 1, "api", 0)
        answer = shared.ask(
            "/TraceSegments",
            TraceSegmentDocuments=[
                "not json",
                json.dumps({**good, "trace_id": "not-a-trace-id"}),
                json.dumps(good),
                "[]",
                json.dumps({**good, "subsegments": [{"id": "2" * 16, "name": "x"}]}),
            ],
        )
        assert [(one["Id"], one["ErrorCode"]) for one in answer["UnprocessedTraceSegments"]] == [
            (None, "ParseError"),
            (good["id"], "InvalidTraceId"),
            (None, "MissingId"),
            (good["id"], "MissingStartTime"),
        ]
        assert found_ids(shared) == [trace_id(1)]
        assert (shared.api.backend.intake.documents, shared.api.backend.intake.refused) == (1, 4)

    def test_an_array_is_many_documents(self, shared):
        text = json.dumps([segment(1, 1, "a", 0), segment(2, 2, "b", 1)])
        shared.ask("/TraceSegments", TraceSegmentDocuments=[text])
        assert found_ids(shared) == [trace_id(2), trace_id(1)]

    def test_nothing_is_a_fine_batch(self, shared):
        assert shared.ask("/TraceSegments", TraceSegmentDocuments=[]) == {
            "UnprocessedTraceSegments": []
        }

    def test_the_listener_hears_of_each_trace_once(self):
        heard = []
        with endpoint(on_traces=heard.append) as shared:
            shared.put(segment(2, 1, "a", 0), segment(1, 2, "a", 0), segment(2, 3, "b", 0))
            shared.ask("/TraceSegments", TraceSegmentDocuments=["{}"])
        assert heard == [[trace_id(2), trace_id(1)]]

    def test_complete_beats_in_progress_in_any_order(self, shared):
        begun, done = segment(1, 1, "begun", 0, None), segment(1, 1, "done", 0)
        for order in ([begun, done], [done, begun], [begun, done, begun]):
            shared.put(*order)
            (trace,) = shared.ask("/Traces", TraceIds=[trace_id(1)])["Traces"]
            (document,) = [json.loads(one["Document"]) for one in trace["Segments"]]
            assert document["name"] == "done"

    def test_telemetry_spans_become_traces_and_unsampled_ones_do_not(self, shared):
        for client in (PYTHON_ADOT, NODE_ADOT):
            for payloads in read_payloads(client).values():
                answer = shared.ask("/TraceSegments", TraceSegmentDocuments=payloads)
                assert answer["UnprocessedTraceSegments"] == []
        intake = shared.api.backend.intake
        assert intake.unsampled >= 2
        assert intake.metrics == 1
        assert intake.documents > 10
        span = {"StartTime": NOW - 1e6, "EndTime": NOW + 1e6}
        assert shared.ask("/TraceSummaries", **span)["TraceSummaries"]

    def test_unreadable_telemetry_is_named(self, shared):
        answer = shared.ask("/TraceSegments", TraceSegmentDocuments=["T1S!!!", "T1SAAAA"])
        codes = {one["ErrorCode"] for one in answer["UnprocessedTraceSegments"]}
        assert codes == {"ParseError"}


class TestBatchGetTraces:
    def test_streamed_subsegments_are_nested_again(self, shared):
        shared.put(
            subsegment(3, "inner", 0.2, 0.1, trace=1, parent=2),
            subsegment(2, "outer", 0.1, 0.5, trace=1, parent=1),
            segment(1, 1, "api", 0),
        )
        (trace,) = shared.ask("/Traces", TraceIds=[trace_id(1)])["Traces"]
        assert (trace["Id"], trace["Duration"], trace["LimitExceeded"]) == (trace_id(1), 1.0, False)
        (only,) = trace["Segments"]
        document = json.loads(only["Document"])
        assert document["subsegments"][0]["subsegments"][0]["name"] == "inner"
        assert "parent_id" not in document["subsegments"][0]

    def test_five_are_the_most(self, shared):
        status, answer = shared.post("/Traces", {"TraceIds": [trace_id(1)] * 6})
        assert (status, answer["Message"]) == (400, "Exceeding maximum query size: 5")

    def test_a_token_is_refused(self, shared):
        status, answer = shared.post("/Traces", {"TraceIds": [], "NextToken": "x"})
        assert (status, answer["Message"]) == (400, "NextToken is currently not supported")

    def test_unknown_ids_are_left_out_and_unreadable_ones_unprocessed(self, shared):
        shared.put(segment(1, 1, "api", 0))
        w3c = trace_id(1)[2:].replace("-", "").upper()
        answer = shared.ask("/Traces", TraceIds=[trace_id(9), "junk", w3c, trace_id(1)])
        assert [trace["Id"] for trace in answer["Traces"]] == [trace_id(1)]
        assert answer["UnprocessedTraceIds"] == ["junk"]

    def test_boto3_pages_once(self):
        with served_endpoint() as (shared, client):
            shared.put(segment(1, 1, "api", 0))
            pages = list(client.get_paginator("batch_get_traces").paginate(TraceIds=[trace_id(1)]))
            assert [len(page["Traces"]) for page in pages] == [1]


class TestSummaries:
    def test_an_empty_store_has_none(self, shared):
        assert shared.ask("/TraceSummaries", **HOUR) == {
            "TraceSummaries": [],
            "ApproximateTime": HOUR["StartTime"],
            "TracesProcessedCount": 0,
        }

    def test_a_summary_has_every_member(self, shared):
        shared.put(
            segment(
                1,
                1,
                "api",
                0,
                2.5,
                origin="AWS::EC2::Instance",
                user="alice",
                fault=True,
                annotations={"age": 7, "name": "x", "new": True},
                aws={"ec2": {"instance_id": "i-1", "availability_zone": "az"}},
                resource_arn="arn:aws:ec2:::i-1",
                http={
                    "request": {"url": "http://x/", "method": "GET"},
                    "response": {"status": 500},
                },
                cause={"exceptions": [{"id": "e" * 16, "type": "Boom", "message": "m"}]},
            )
        )
        (summary,) = shared.ask("/TraceSummaries", **HOUR)["TraceSummaries"]
        assert summary["Duration"] == summary["ResponseTime"] == 2.5
        assert summary["StartTime"] == NOW
        assert (summary["HasFault"], summary["HasError"], summary["HasThrottle"]) == (
            True,
            False,
            False,
        )
        assert summary["Http"] == {
            "HttpURL": "http://x/",
            "HttpMethod": "GET",
            "HttpStatus": 500,
        }
        assert summary["Annotations"]["age"][0]["AnnotationValue"] == {"NumberValue": 7}
        assert summary["Users"][0]["UserName"] == "alice"
        assert summary["EntryPoint"]["Type"] == "AWS::EC2::Instance"
        assert summary["InstanceIds"] == [{"Id": "i-1"}]
        assert summary["FaultRootCauses"][0]["Services"][0]["EntityPath"][0]["Exceptions"]
        assert summary["ResponseTimeRootCauses"]
        assert summary["Revision"] == 1
        assert not summary["IsPartial"]

    def test_what_arrives_later_changes_the_summary(self, shared):
        shared.put(segment(1, 1, "api", 0, None))
        assert shared.ask("/TraceSummaries", **HOUR)["TraceSummaries"][0]["IsPartial"]
        assert found_ids(shared, FilterExpression="partial") == [trace_id(1)]
        shared.put(segment(1, 1, "api", 0, annotations={"k": "v"}))
        (summary,) = shared.ask("/TraceSummaries", **HOUR)["TraceSummaries"]
        assert (summary["IsPartial"], summary["Revision"]) == (False, 2)
        assert found_ids(shared, FilterExpression="partial") == []
        assert found_ids(shared, FilterExpression='annotation.k = "v"') == [trace_id(1)]
        shared.put(segment(1, 1, "api", 0, annotations={"k": "w"}))
        assert found_ids(shared, FilterExpression='annotation.k = "v"') == []

    def test_parents_that_stay_away_are_made_up_after_a_while(self, shared):
        shared.put(subsegment(2, "handler", 0, trace=1, parent=1))
        (early,) = shared.ask("/TraceSummaries", **HOUR)["TraceSummaries"]
        assert "EntryPoint" not in early
        shared.clock.now += 10
        (late,) = shared.ask("/TraceSummaries", **HOUR)["TraceSummaries"]
        assert late["EntryPoint"]["Name"] == "(missing parent)"
        assert late["IsPartial"]
        shared.put(segment(1, 1, "function", 0))
        (real,) = shared.ask("/TraceSummaries", **HOUR)["TraceSummaries"]
        assert real["EntryPoint"]["Name"] == "function"

    def test_pages_are_newest_first_and_stable_while_traces_arrive(self, shared):
        total = 2 * PAGE_TRACES + 50
        store_many(shared, total)
        first = shared.ask("/TraceSummaries", **HOUR)
        shared.put(segment(5000, 5000, "new", 100), segment(5001, 5001, "old", -100))
        second = shared.ask("/TraceSummaries", **HOUR, NextToken=first["NextToken"])
        third = shared.ask("/TraceSummaries", **HOUR, NextToken=second["NextToken"])
        assert "NextToken" not in third
        pages = [first, second, third]
        ids = [summary["Id"] for page in pages for summary in page["TraceSummaries"]]
        assert ids == [*(trace_id(number) for number in range(total, 0, -1)), trace_id(5001)]
        assert sum(page["TracesProcessedCount"] for page in pages) == total + 1
        assert [len(page["TraceSummaries"]) for page in pages] == [PAGE_TRACES, PAGE_TRACES, 51]
        assert first["ApproximateTime"] == first["TraceSummaries"][-1]["StartTime"]

    def test_traces_that_began_together_are_paged_once_each(self, shared):
        shared.put(*(segment(number, number, "api", 0) for number in range(1, 131)))
        first = shared.ask("/TraceSummaries", **HOUR)
        second = shared.ask("/TraceSummaries", **HOUR, NextToken=first["NextToken"])
        ids = {one["Id"] for page in (first, second) for one in page["TraceSummaries"]}
        assert len(ids) == 130

    def test_boto3_pages_through_all_of_them(self):
        with served_endpoint() as (shared, client):
            store_many(shared, 230)
            paginator = client.get_paginator("get_trace_summaries")
            pages = list(paginator.paginate(**HOUR, FilterExpression="ok"))
            assert sum(len(page["TraceSummaries"]) for page in pages) == 230

    @pytest.mark.parametrize(
        ("time_range", "window", "is_found"),
        [
            ("TraceId", (-1, 1), True),
            ("TraceId", (0, 1), True),
            ("TraceId", (-1, 0), False),
            ("TraceId", (1, 20), False),
            ("Event", (1, 2), True),
            ("Event", (9, 20), True),
            ("Event", (-5, 0), False),
            ("Event", (11, 20), False),
            ("Service", (9, 11), True),
            ("Service", (0, 9), False),
        ],
    )
    def test_a_window_means_what_its_type_says(self, shared, time_range, window, is_found):
        shared.put(segment(1, 1, "api", 0, 10))
        start, end = window
        answer = shared.ask(
            "/TraceSummaries", StartTime=NOW + start, EndTime=NOW + end, TimeRangeType=time_range
        )
        assert bool(answer["TraceSummaries"]) is is_found
        for summary in answer["TraceSummaries"]:
            assert summary.get("MatchedEventTime") == (NOW if time_range == "Event" else None)

    def test_a_window_does_not_end_before_it_begins(self, shared):
        status, answer = shared.post("/TraceSummaries", {"StartTime": NOW, "EndTime": NOW - 1})
        assert (status, answer["Message"]) == (400, "StartTime must not be after EndTime.")

    def test_a_share_is_always_the_same_share(self, shared):
        store_many(shared, 90)

        def sampled(value):
            return found_ids(shared, Sampling=True, SamplingStrategy=strategy(value))

        def strategy(value):
            return {"Name": "FixedRate", "Value": value}

        assert len(sampled(1)) == 90
        assert sampled(0) == []
        half = sampled(0.5)
        assert 20 < len(half) < 70
        assert half == sampled(0.5)
        assert set(sampled(0.25)) < set(half)
        scan = {"Name": "PartialScan", "Value": 0.5}
        assert len(found_ids(shared, Sampling=True, SamplingStrategy=scan)) == 90


class TestFilters:
    def test_an_expression_selects(self, shared):
        shared.put(
            segment(1, 1, "api", 0, 3, annotations={"x": "y"}),
            segment(2, 2, "api", 0, 1, annotations={"x": "y"}),
            segment(3, 3, "web", 0, 3, fault=True, annotations={"x": 1}),
        )
        for expression, numbers in [
            ('annotation.x = "y" AND responsetime > 1', [1]),
            ('service("web") { fault }', [3]),
            ('service("api")', [2, 1]),
            ("!fault", [2, 1]),
            ("rootcause.fault.service { name = web }", [3]),
            (" ", [3, 2, 1]),
        ]:
            assert found_ids(shared, FilterExpression=expression) == [
                trace_id(number) for number in numbers
            ], expression

    def test_groups_stand_for_their_expressions(self, shared):
        shared.put(segment(1, 1, "api", 0, 3), segment(2, 2, "api", 0, 1))
        arn = shared.ask("/CreateGroup", GroupName="slow", FilterExpression="responsetime > 2")[
            "Group"
        ]["GroupARN"]
        assert found_ids(shared, FilterExpression='group.name = "slow"') == [trace_id(1)]
        assert found_ids(shared, FilterExpression=f'group.arn != "{arn}"') == [trace_id(2)]
        assert found_ids(shared, FilterExpression='group.name = "Default"') == [
            trace_id(2),
            trace_id(1),
        ]

    @pytest.mark.parametrize(
        "expression",
        [
            "ok =",
            'http.status CONTAINS "2"',
            "annotation",
            "nonsense",
            'group.name = "absent"',
            "(",
        ],
    )
    def test_a_bad_expression_says_where(self, shared, expression):
        status, answer = shared.post("/TraceSummaries", {**HOUR, "FilterExpression": expression})
        assert status == 400
        assert "at position" in answer["Message"]

    def test_pages_of_what_sql_cannot_decide_end_and_go_on(self, shared):
        total = EXAMINED_MAX + 100
        store_many(shared, total, fault=True)
        shared.compile_all()
        shared.put(segment(9000, 9000, "rare", -10, fault=True))
        request = {**HOUR, "FilterExpression": 'rootcause.fault.service { name = "rare" }'}
        found, pages = [], 0
        while True:
            answer = shared.ask("/TraceSummaries", **request)
            found += [summary["Id"] for summary in answer["TraceSummaries"]]
            pages += 1
            if "NextToken" not in answer:
                break
            request["NextToken"] = answer["NextToken"]
        assert found == [trace_id(9000)]
        assert pages > 1


def test_botocore_reads_a_summary_and_a_refusal():
    with served_endpoint() as (shared, client):
        shared.put(segment(1, 1, "api", 0, annotations={"k": 1}))
        (summary,) = client.get_trace_summaries(**HOUR)["TraceSummaries"]
        assert summary["StartTime"].timestamp() == NOW
        with pytest.raises(ClientError, match="at position 0"):
            client.get_trace_summaries(**HOUR, FilterExpression="what")
