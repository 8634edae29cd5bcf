"""The calls of Grafana's X-Ray data source, and what it needs of the answers.

Grafana itself does not run here. What it calls and what it cannot do without was read in the source
of grafana/x-ray-datasource 2.17.1.
"""

from __future__ import annotations

import json

import pytest
from api_endpoint import NOW, endpoint, segment, subsegment, trace_id

WINDOW = {"StartTime": NOW - 3000, "EndTime": NOW + 600}
DEFAULT_ARN = "arn:aws:xray:us-east-1:000000000000:group/Default"
FAILED = {"exceptions": [{"id": "00000000000000aa"}]}


@pytest.fixture(scope="module")
def xray():
    """A trace with everything odd in it, one of a lone segment, one in progress, one of a child."""
    with endpoint() as shared:
        web = segment(
            1,
            1,
            "web",
            0,
            3.0,
            fault=True,
            http={"request": {"method": "GET", "url": "http://web/"}, "response": {"status": 500}},
            subsegments=[
                subsegment(2, "api", 0.1, 2.5, namespace="remote", fault=True, cause=FAILED),
                subsegment(3, "DynamoDB", 0.1, 0.1, namespace="aws", error=True),
            ],
        )
        api = segment(1, 4, "api", 0.2, 2.0, parent_id=f"{2:016x}", fault=True, cause=FAILED)
        streamed = subsegment(5, "deep", 0.3, 0.1, trace=1, parent=4)
        shared.put(web, api, streamed, segment(2, 1, "alone", 5), segment(3, 1, "slow", 6, None))
        shared.put(subsegment(7, "work", 7, 0.5, trace=4, parent=8))
        shared.clock.now += 60
        shared.compile_all()
        yield shared


def summaries(xray, **more):
    """GetTraceSummaries as it asks: by event, everything, a group's filter at most."""
    strategy = {"Name": "FixedRate", "Value": 1}
    asked = {**WINDOW, "TimeRangeType": "Event", "Sampling": True, "SamplingStrategy": strategy}
    return xray.ask("/TraceSummaries", **asked, **more)["TraceSummaries"]


def test_the_group_it_begins_with_is_there(xray):
    groups = xray.ask("/Groups")["Groups"]
    assert [one["GroupName"] for one in groups if one["GroupARN"] == DEFAULT_ARN] == ["Default"]


def test_every_trace_is_listed_with_what_its_table_reads(xray):
    found = summaries(xray, FilterExpression="")
    assert {one["Id"] for one in found} == {trace_id(number) for number in (1, 2, 3, 4)}
    for one in found:
        assert isinstance(one["Http"], dict)
        assert isinstance(one["Annotations"], dict)
        assert isinstance(one["Duration"], (int, float))
        for name in ("HasFault", "HasError", "HasThrottle", "IsPartial"):
            assert isinstance(one[name], bool)


def test_root_causes_have_no_holes(xray):
    kinds = {"FaultRootCauses", "ErrorRootCauses", "ResponseTimeRootCauses"}
    seen = set()
    for summary in summaries(xray):
        assert kinds <= summary.keys()
        for kind in kinds:
            for cause in summary[kind]:
                seen.add(kind)
                assert cause["Services"]
                for service in cause["Services"]:
                    assert isinstance(service["Name"], str)
                    assert isinstance(service["Type"], str)
                    assert service["EntityPath"]
                    for entity in service["EntityPath"]:
                        assert isinstance(entity["Name"], str)
                        for exception in entity.get("Exceptions", ()):
                            assert isinstance(exception["Name"], str)
                            assert isinstance(exception["Message"], str)
    assert seen == kinds


def test_a_trace_is_whole_in_its_embedded_subsegments(xray):
    (trace,) = xray.ask("/Traces", TraceIds=[trace_id(1)])["Traces"]
    documents = [json.loads(one["Document"]) for one in trace["Segments"]]
    assert {one["name"] for one in documents} == {"web", "api", "DynamoDB"}
    (api,) = [one for one in documents if one["name"] == "api"]
    assert [one["name"] for one in api["subsegments"]] == ["deep"]
    assert all(
        "type" not in one for document in documents for one in document.get("subsegments", ())
    )


@pytest.mark.parametrize("group", [{}, {"GroupARN": DEFAULT_ARN}, {"GroupName": "Default"}])
def test_every_service_of_a_graph_can_be_drawn(group, xray):
    graphs = [
        xray.ask("/ServiceGraph", **WINDOW, **group)["Services"],
        xray.ask("/TraceGraph", TraceIds=[trace_id(1), trace_id(2)])["Services"],
    ]
    for services in graphs:
        names = {one["Name"] for one in services}
        assert names >= {"web", "api", "DynamoDB", "alone"}
        ids = [one["ReferenceId"] for one in services]
        for service in services:
            assert isinstance(service["Type"], str)
            for name in ("ResponseTimeHistogram", "DurationHistogram", "Edges"):
                assert isinstance(service.get(name, []), list)
            measured = [one["SummaryStatistics"] for one in service["Edges"]]
            if "SummaryStatistics" in service:
                measured.append(service["SummaryStatistics"])
                assert isinstance(service["ResponseTimeHistogram"], list)
            assert measured
            for statistics in measured:
                assert statistics["TotalCount"] == (
                    statistics["OkCount"]
                    + statistics["ErrorStatistics"]["TotalCount"]
                    + statistics["FaultStatistics"]["TotalCount"]
                )
                assert isinstance(statistics["TotalResponseTime"], (int, float))
            for edge in service["Edges"]:
                assert ids.count(edge["ReferenceId"]) == 1
                assert isinstance(edge["ResponseTimeHistogram"], list)


@pytest.mark.parametrize("period", [60, 300])
@pytest.mark.parametrize(
    ("selector", "total"),
    [
        ({}, 3),
        ({"EntitySelectorExpression": 'service(id(name: "web", type: ""))'}, 1),
        ({"EntitySelectorExpression": 'edge("web","api")'}, 1),
    ],
)
def test_time_series_have_numbers_everywhere(selector, total, period, xray):
    answer = xray.ask("/TimeSeriesServiceStatistics", **WINDOW, Period=period, **selector)
    counted = 0
    for entry in answer["TimeSeriesServiceStatistics"]:
        assert entry["Timestamp"] % period == 0
        assert isinstance(entry["ResponseTimeHistogram"], list)
        (kind,) = {"EdgeSummaryStatistics", "ServiceSummaryStatistics"} & entry.keys()
        counted += entry[kind]["TotalCount"]
        assert isinstance(entry[kind]["TotalResponseTime"], (int, float))
    assert counted >= total


def test_the_expressions_it_writes_select(xray):
    for expression, expected in {
        'service(id(name:"alone", type:"")) { ok = true }': [2],
        'edge("web","api") { fault = true }': [1],
        'edge("web","api") { error = true }': [],
    }.items():
        found = summaries(xray, FilterExpression=expression)
        assert [one["Id"] for one in found] == [trace_id(number) for number in expected]


def test_insights_are_an_empty_list(xray):
    answer = xray.ask("/InsightSummaries", **WINDOW, GroupName="Default")
    assert answer["InsightSummaries"] == []
