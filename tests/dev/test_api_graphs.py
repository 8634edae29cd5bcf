"""Service graphs, trace graphs and time series, through the API and out of the store's sums."""

from __future__ import annotations

import json
import random

import pytest
from api_endpoint import (
    NOW,
    SettableClock,
    endpoint,
    segment,
    served_endpoint,
    subsegment,
    trace_id,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayd.dev.database import MEMORY, Database
from xrayd.dev.documents import parse_documents
from xrayd.dev.graph import Graph, render_services
from xrayd.dev.observations import observe
from xrayd.dev.rollups import PART_TRACES_MAX
from xrayd.dev.totals import OTHER, SERVICES_MAX, Counters, Tally
from xrayd.dev.traces import compile_trace

HOUR = {"StartTime": NOW - 1800, "EndTime": NOW + 1800}


@pytest.fixture
def shared():
    with endpoint() as made:
        yield made


def request(number: int, start: float = 0.0, took: float = 1.0, **more):
    """A trace: web calls api, which calls a table."""
    ids = [number * 10 + place for place in range(4)]
    call = subsegment(ids[1], "api", start + 0.1, took - 0.2, namespace="remote")
    table = subsegment(
        ids[3], "dynamodb", start + 0.3, 0.1, namespace="aws", aws={"table_name": "items"}
    )
    return [
        segment(number, ids[0], "web", start, took, subsegments=[call]),
        segment(
            number,
            ids[2],
            "api",
            start + 0.2,
            took - 0.4,
            parent_id=f"{ids[1]:016x}",
            subsegments=[table],
            **more,
        ),
    ]


def by_name(services) -> dict:
    return {(service["Name"], service["Type"]): service for service in services}


def statistics(service) -> tuple[int, int, int, float]:
    found = service["SummaryStatistics"]
    return (
        found["TotalCount"],
        found["OkCount"],
        found["FaultStatistics"]["TotalCount"],
        found["TotalResponseTime"],
    )


class TestServiceGraph:
    def test_an_empty_window_has_no_services(self, shared):
        assert shared.ask("/ServiceGraph", **HOUR) == {
            **HOUR,
            "Services": [],
            "ContainsOldGroupVersions": False,
        }

    def test_nodes_and_edges_count_to_the_number(self, shared):
        shared.put(*request(1), *request(2, 90, 2.0, fault=True), *request(3, -200, 0.5))
        services = by_name(shared.ask("/ServiceGraph", **HOUR)["Services"])
        assert set(services) == {
            ("web", "client"),
            ("web", ""),
            ("api", ""),
            ("items", "AWS::DynamoDB::Table"),
        }
        assert statistics(services["web", ""]) == (3, 3, 0, 3.5)
        assert statistics(services["api", ""]) == (3, 2, 1, 2.3)
        assert statistics(services["items", "AWS::DynamoDB::Table"]) == (3, 3, 0, 0.3)
        assert services["web", ""]["Root"] is True
        (edge,) = services["web", ""]["Edges"]
        assert edge["ReferenceId"] == services["api", ""]["ReferenceId"]
        assert statistics(edge) == (3, 3, 0, 2.9)
        assert sum(entry["Count"] for entry in edge["ResponseTimeHistogram"]) == 3

    def test_a_window_counts_what_began_in_it(self, shared):
        for number in range(1, 200):
            shared.put(*request(number, number))  # one a second
        for start, end in [(0, 60), (10.5, 20.5), (59, 61), (30, 170), (0, 1000), (30, 30)]:
            graph = shared.ask("/ServiceGraph", StartTime=NOW + start, EndTime=NOW + end)
            expected = sum(start <= number < end for number in range(1, 200))
            services = by_name(graph["Services"])
            counted = statistics(services["web", ""])[0] if services else 0
            assert counted == expected, (start, end)

    def test_many_traces_at_the_end_of_a_window_count_by_the_minute(self, shared):
        minute = NOW // 60 * 60
        firsts = range(0, PART_TRACES_MAX + 1500, 300)
        for first in firsts:
            shared.put(
                *(
                    segment(number, number, "api", minute - NOW + (number % 60), 60)
                    for number in range(first + 1, first + 301)
                )
            )
        shared.compile_all()
        total = len(firsts) * 300
        graph = shared.ask("/ServiceGraph", StartTime=minute + 20, EndTime=minute + 50)
        assert statistics(by_name(graph["Services"])["api", ""])[0] == total

    def test_six_hours_are_the_most(self, shared):
        window = {"StartTime": NOW, "EndTime": NOW + 6 * 3600 + 1}
        for path in ("/ServiceGraph", "/TimeSeriesServiceStatistics"):
            status, answer = shared.post(path, window)
            assert (status, answer["Message"]) == (400, "Time range cannot be longer than 6 hours")

    def test_tokens_and_unknown_groups_are_refused(self, shared):
        for more in ({"NextToken": "x"}, {"GroupName": "absent"}, {"GroupARN": "absent"}):
            assert shared.post("/ServiceGraph", {**HOUR, **more})[0] == 400

    def test_boto3_reads_it(self):
        with served_endpoint() as (shared, client):
            shared.put(*request(1))
            paginator = client.get_paginator("get_service_graph")
            (only,) = paginator.paginate(**HOUR, GroupName="Default")
            assert len(only["Services"]) == 4


class TestGroups:
    def test_a_group_counts_the_traces_it_matches_from_then_on(self, shared):
        shared.put(*request(1, 0, 9.0))
        shared.ask("/ServiceGraph", **HOUR)
        shared.ask("/CreateGroup", GroupName="slow", FilterExpression="responsetime > 5")
        shared.put(*request(2, 5, 9.0), *request(3, 6, 1.0))
        graph = shared.ask("/ServiceGraph", **HOUR, GroupName="slow")
        assert statistics(by_name(graph["Services"])["web", ""])[0] == 1
        everything = shared.ask("/ServiceGraph", **HOUR)
        assert statistics(by_name(everything["Services"])["web", ""])[0] == 3
        part = {"StartTime": NOW, "EndTime": NOW + 5.5}
        few = shared.ask("/ServiceGraph", **part, GroupName="slow")
        assert statistics(by_name(few["Services"])["web", ""])[0] == 1

    def test_a_trace_that_changes_changes_its_groups(self, shared):
        shared.ask("/CreateGroup", GroupName="bad", FilterExpression="fault")
        shared.put(segment(1, 1, "api", 0, fault=True))
        assert shared.ask("/ServiceGraph", **HOUR, GroupName="bad")["Services"]
        shared.put(segment(1, 1, "api", 0))
        assert shared.ask("/ServiceGraph", **HOUR, GroupName="bad")["Services"] == []

    def test_a_change_of_expression_is_told_within_its_window(self, shared):
        shared.ask("/CreateGroup", GroupName="g", FilterExpression="fault")
        graph = shared.ask("/ServiceGraph", **HOUR, GroupName="g")
        assert graph["ContainsOldGroupVersions"] is False
        shared.clock.now += 5
        shared.ask("/UpdateGroup", GroupName="g", FilterExpression="error")
        for path in ("/ServiceGraph", "/TimeSeriesServiceStatistics"):
            assert shared.ask(path, **HOUR, GroupName="g")["ContainsOldGroupVersions"] is True
        before = {"StartTime": NOW - 60, "EndTime": NOW}
        graph = shared.ask("/ServiceGraph", **before, GroupName="g")
        assert graph["ContainsOldGroupVersions"] is False

    def test_a_group_made_again_begins_anew(self, shared):
        shared.ask("/CreateGroup", GroupName="g")
        shared.put(*request(1))
        assert shared.ask("/ServiceGraph", **HOUR, GroupName="g")["Services"]
        shared.ask("/DeleteGroup", GroupName="g")
        shared.ask("/CreateGroup", GroupName="g")
        assert shared.ask("/ServiceGraph", **HOUR, GroupName="g")["Services"] == []

    def test_a_group_that_names_a_deleted_one_matches_nothing(self, shared):
        shared.ask("/CreateGroup", GroupName="inner", FilterExpression="ok")
        shared.ask("/CreateGroup", GroupName="outer", FilterExpression='group.name = "inner"')
        shared.ask("/DeleteGroup", GroupName="inner")
        shared.put(*request(1))
        assert shared.ask("/ServiceGraph", **HOUR, GroupName="outer")["Services"] == []
        assert shared.ask("/ServiceGraph", **HOUR)["Services"]


class TestTraceGraph:
    def test_it_is_of_these_traces_alone_and_of_all_of_them(self, shared):
        shared.put(*request(1), *request(2, -9e6))
        answer = shared.ask("/TraceGraph", TraceIds=[trace_id(1), trace_id(7), "junk"])
        assert statistics(by_name(answer["Services"])["web", ""])[0] == 1
        answer = shared.ask("/TraceGraph", TraceIds=[trace_id(1), trace_id(2)])
        assert statistics(by_name(answer["Services"])["web", ""])[0] == 2
        assert shared.ask("/TraceGraph", TraceIds=[])["Services"] == []

    def test_too_many_are_refused(self, shared):
        assert shared.post("/TraceGraph", {"TraceIds": [trace_id(1)] * 1001})[0] == 400


class TestLinks:
    def test_a_link_is_drawn_whichever_trace_came_first(self):
        linked = {"trace_id": trace_id(1), "id": f"{1:016x}"}
        producer = segment(1, 1, "producer", 0)
        consumer = segment(2, 2, "consumer", 3, links=[linked])
        for documents in ([producer, consumer], [consumer, producer]):
            with endpoint() as shared:
                for document in documents:
                    shared.put(document)
                    shared.ask("/ServiceGraph", **HOUR)
                graphs = [
                    shared.ask("/ServiceGraph", **HOUR),
                    shared.ask("/TraceGraph", TraceIds=[trace_id(1), trace_id(2)]),
                ]
                for graph in graphs:
                    edges = by_name(graph["Services"])["producer", ""]["Edges"]
                    assert [edge.get("EdgeType") for edge in edges] == ["link"]
                    assert edges[0]["ReceivedEventAgeHistogram"] == [{"Value": 2.0, "Count": 1}]


class TestTimeSeries:
    def test_periods_count_what_began_in_them(self, shared):
        minute = NOW // 60 * 60 - NOW
        shared.put(*request(1, minute), *request(2, minute + 59), *request(3, minute + 60, 2))
        answer = shared.ask(
            "/TimeSeriesServiceStatistics",
            **HOUR,
            Period=60,
            EntitySelectorExpression='service("api")',
            ForecastStatistics=False,
        )
        series = answer["TimeSeriesServiceStatistics"]
        assert [entry["Timestamp"] for entry in series] == [NOW + minute, NOW + minute + 60]
        counts = [entry["ServiceSummaryStatistics"]["TotalCount"] for entry in series]
        assert counts == [2, 1]
        assert all(entry["ResponseTimeHistogram"] for entry in series)

    @pytest.mark.parametrize("period", [7, 30, 60, 300])
    def test_any_period_adds_up_to_the_same(self, shared, period):
        chance = random.Random(period)
        for number in range(1, 60):
            shared.put(*request(number, chance.uniform(-600, 600)))
        answer = shared.ask("/TimeSeriesServiceStatistics", **HOUR, Period=period)
        series = answer["TimeSeriesServiceStatistics"]
        assert sum(entry["EdgeSummaryStatistics"]["TotalCount"] for entry in series) == 59
        assert all(entry["Timestamp"] % period == 0 for entry in series)
        assert len({entry["Timestamp"] for entry in series}) == len(series)

    def test_an_edge_can_be_selected(self, shared):
        shared.put(*request(1))
        for expression, expected in [
            ('edge("web", "api")', [1]),
            ('edge("api", "web")', []),
            ('edge(id(name: "web", type: "client"), id(name: "web"))', [1]),
        ]:
            answer = shared.ask(
                "/TimeSeriesServiceStatistics", **HOUR, EntitySelectorExpression=expression
            )
            series = answer["TimeSeriesServiceStatistics"]
            assert [entry["EdgeSummaryStatistics"]["TotalCount"] for entry in series] == expected

    @pytest.mark.parametrize(
        "more",
        [
            {"EntitySelectorExpression": 'service("x") AND (http.status = 403)'},
            {"EntitySelectorExpression": "http.status = 403"},
            {"EntitySelectorExpression": "fault"},
            {"EntitySelectorExpression": 'service("x") { fault }'},
            {"EntitySelectorExpression": "x" * 501},
            {"Period": 0},
            {"Period": -60},
            {"ForecastStatistics": True},
            {"NextToken": "junk"},
        ],
    )
    def test_what_xray_refuses_is_refused(self, shared, more):
        assert shared.post("/TimeSeriesServiceStatistics", {**HOUR, **more})[0] == 400

    def test_boto3_pages_through_short_periods(self):
        with served_endpoint() as (shared, client):
            for number in range(1, 1202):
                shared.put(segment(number, number, "api", number - 600, 0.1))
            shared.compile_all()
            paginator = client.get_paginator("get_time_series_service_statistics")
            pages = list(paginator.paginate(**HOUR, Period=1))
            sizes = [len(page["TimeSeriesServiceStatistics"]) for page in pages]
            assert sizes == [1000, 201]


CHAIN = [*request(1), *request(2, 50, 3.0, fault=True), *request(3, 61, 0.5, error=True)]
LINKED = segment(4, 40, "late", 2, links=[{"trace_id": trace_id(1), "id": f"{10:016x}"}])
PIECES = [
    *CHAIN,
    LINKED,
    segment(5, 50, "open", 1, None),
    segment(5, 50, "open", 1, 2.0, http={"response": {"status": 429}}),
    subsegment(61, "step", 3, trace=6, parent=60),
    segment(6, 60, "function", 3, origin="AWS::Lambda::Function"),
    subsegment(62, "api", 3.5, 0.2, trace=6, parent=61, namespace="remote"),
]


@settings(deadline=None, max_examples=60)
@given(st.permutations(PIECES), st.lists(st.booleans(), min_size=20, max_size=20))
def test_the_sums_are_what_the_traces_make_in_whatever_order_they_come(pieces, reads):
    """Adding, taking back and adding again, trace by trace, ends where adding once does."""
    with endpoint(clock=SettableClock(NOW + 100)) as shared:
        for piece, is_read in zip(pieces, reads, strict=False):
            shared.put(piece)
            if is_read:
                shared.ask("/ServiceGraph", **HOUR)
        shared.clock.now += 60
        found = shared.ask("/ServiceGraph", **HOUR)["Services"]
        # a span is only widened, never narrowed, when a trace is taken back
        assert _without_times(found) == _without_times(_graph_of(pieces))


def _graph_of(pieces) -> list[dict]:
    documents: dict[str, list] = {}
    for piece in pieces:
        (accepted,) = parse_documents(json.dumps(piece))
        documents.setdefault(accepted.document.trace_id, []).append(accepted.document)
    traces = {
        key: compile_trace(key, found, now=NOW + 160, last_received=NOW + 100)
        for key, found in documents.items()
    }
    graph = Graph()
    for trace in traces.values():
        graph.add(observe(trace, traces))
    return json.loads(json.dumps(render_services(graph)))


def _without_times(services) -> list:
    kept = []
    for service in services:
        service = {**service, "Edges": [dict(edge) for edge in service["Edges"]]}  # noqa: PLW2901
        for one in (service, *service["Edges"]):
            one.pop("StartTime", None)
            one.pop("EndTime", None)
        kept.append(service)
    return kept


class TestTotals:
    def test_services_and_groups_are_counted_for_metrics(self, shared):
        shared.ask("/CreateGroup", GroupName="slow", FilterExpression="responsetime > 5")
        shared.put(*request(1, 0, 9.0), *request(2, 1, 1.0, fault=True))
        shared.api.compile_due()
        totals = shared.api.totals()
        assert totals.services["web", ""] == Tally(2, 0, 0, 0, 10_000_000)
        assert totals.services["api", ""] == Tally(2, 0, 1, 0, 9_200_000)
        assert totals.services["items", "AWS::DynamoDB::Table"].requests == 2
        assert totals.groups == {
            "Default": Tally(2, 0, 0, 0, 10_000_000),
            "slow": Tally(1, 0, 0, 0, 9_000_000),
        }

    def test_totals_never_fall_and_count_nothing_twice(self, shared):
        shared.put(segment(1, 1, "api", 0, 1, fault=True))
        shared.api.compile_due()
        shared.put(segment(1, 1, "api", 0, 1), segment(1, 2, "api", 0, 1))
        shared.api.compile_due()
        assert shared.api.totals().services["api", ""] == Tally(2, 0, 1, 0, 2_000_000)

    def test_names_without_end_are_counted_together(self):
        counters = Counters()
        for number in range(SERVICES_MAX + 5):
            (accepted,) = parse_documents(json.dumps(segment(number, 1, f"s{number}", 0)))
            trace = compile_trace("1", [accepted.document], now=NOW, last_received=NOW)
            counters.add(observe(trace), [], None, [])
        services = counters.totals().services
        assert len(services) == SERVICES_MAX + 1
        assert services[OTHER].requests == 5


def test_a_store_in_memory_is_a_store_of_its_own():
    with endpoint(MEMORY) as one, endpoint(MEMORY) as other:
        one.put(segment(1, 1, "api", 0))
        assert Database(MEMORY).is_in_memory
        assert other.ask("/ServiceGraph", **HOUR)["Services"] == []
