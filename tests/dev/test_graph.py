"""Service graphs count every request once, in one class, wherever and whenever they are added."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from trace_strategies import (
    START,
    TRACE_ID,
    accept,
    compile_documents,
    document_lists,
    segment,
    subsegment,
)

from xrayd.dev.graph import Graph, decode_graph, encode_graph, render_services
from xrayd.dev.histograms import ENTRIES_MAX, add_histogram, find_bucket, render_histogram
from xrayd.dev.observations import (
    MINUTE_S,
    decode_observations,
    encode_observations,
    observe,
)
from xrayd.dev.traces import compile_trace

MINUTE = int(START // MINUTE_S)


def graph_of(*traces, **window):
    graph = Graph()
    for trace in traces:
        graph.add(observe(trace), **window)
    return graph


def services(*traces, **window):
    """Services by name and type, edges by the target's name and type instead of its id."""
    found = render_services(graph_of(*traces, **window))
    label = {service["ReferenceId"]: (service["Name"], service["Type"]) for service in found}
    for service in found:
        service["Edges"] = {label[edge["ReferenceId"]]: edge for edge in service["Edges"]}
    return {label[service["ReferenceId"]]: service for service in found}


def counts(statistics):
    """Ok, error, throttle, fault."""
    error, fault = statistics["ErrorStatistics"], statistics["FaultStatistics"]
    assert error["TotalCount"] == error["OtherCount"] + error["ThrottleCount"]
    assert fault["TotalCount"] == fault["OtherCount"]
    total = statistics["OkCount"] + error["TotalCount"] + fault["TotalCount"]
    assert statistics["TotalCount"] == total
    return (
        statistics["OkCount"],
        error["OtherCount"],
        error["ThrottleCount"],
        fault["OtherCount"],
    )


def three_tiers(call=None, **downstream):
    """A client calls api, api calls orders, orders a table."""
    inner = subsegment("4", "dynamodb", 0.3, 0.5, namespace="aws", aws={"table_name": "orders"})
    return compile_documents(
        segment(
            "1",
            "api",
            0.0,
            1.0,
            origin="AWS::ECS::Container",
            subsegments=[subsegment("2", "orders", 0.1, 0.8, namespace="remote", **(call or {}))],
        ),
        segment("3", "orders", 0.2, 0.6, parent_id="2" * 16, subsegments=[inner], **downstream),
    )


def test_nodes_are_measured_by_segments_and_edges_by_callers():
    found = services(three_tiers(call={"fault": True}))
    assert set(found) == {
        ("api", "client"),
        ("api", "AWS::ECS::Container"),
        ("orders", ""),
        ("orders", "AWS::DynamoDB::Table"),
    }
    api, orders = found["api", "AWS::ECS::Container"], found["orders", ""]
    edge = api["Edges"]["orders", ""]
    assert counts(orders["SummaryStatistics"]) == (1, 0, 0, 0)
    assert orders["SummaryStatistics"]["TotalResponseTime"] == 0.4
    assert counts(edge["SummaryStatistics"]) == (0, 0, 0, 1)
    assert edge["SummaryStatistics"]["TotalResponseTime"] == 0.7
    assert edge["ResponseTimeHistogram"] == [{"Value": 0.7, "Count": 1}]
    assert edge["Aliases"] == []
    assert "EdgeType" not in edge


def test_a_client_calls_the_root_and_has_no_statistics_of_its_own():
    found = services(three_tiers())
    client, api = found["api", "client"], found["api", "AWS::ECS::Container"]
    edge = client["Edges"]["api", "AWS::ECS::Container"]
    assert client["State"] == "unknown"
    assert "SummaryStatistics" not in client
    assert edge["SummaryStatistics"] == api["SummaryStatistics"]
    assert edge["ResponseTimeHistogram"] == api["ResponseTimeHistogram"]


def test_only_the_entry_service_is_a_root_and_only_senders_are_active():
    found = services(three_tiers())
    assert [key for key, service in found.items() if service.get("Root")] == [
        ("api", "AWS::ECS::Container")
    ]
    assert {key: service["State"] for key, service in found.items()} == {
        ("api", "client"): "unknown",
        ("api", "AWS::ECS::Container"): "active",
        ("orders", ""): "active",
        ("orders", "AWS::DynamoDB::Table"): "unknown",
    }


def test_a_downstream_has_its_callers_figures_and_no_edges():
    table = services(three_tiers())["orders", "AWS::DynamoDB::Table"]
    assert table["Edges"] == {}
    assert table["Names"] == ["orders", "dynamodb"]
    assert table["SummaryStatistics"]["TotalResponseTime"] == 0.2
    assert table["DurationHistogram"] == table["ResponseTimeHistogram"]
    assert table["DurationHistogram"] == [{"Value": 0.2, "Count": 1}]


def test_times_are_whole_seconds_and_an_edges_are_its_callers():
    found = services(three_tiers())
    api = found["api", "AWS::ECS::Container"]
    assert (api["StartTime"], api["EndTime"]) == (START, START + 1)
    assert api["Edges"]["orders", ""]["StartTime"] == START
    assert found["api", "client"]["EndTime"] == START + 1


def test_the_status_decides_the_class_and_flags_where_it_is_silent():
    cases = [
        ({"fault": True, "error": True}, 400, (0, 1, 0, 0)),
        ({"fault": True, "error": True, "throttle": True}, 500, (0, 0, 0, 1)),
        ({"error": True, "throttle": True}, 400, (0, 0, 1, 0)),
        ({}, 429, (0, 0, 1, 0)),
        ({}, 404, (0, 1, 0, 0)),
        ({"fault": True}, 200, (0, 0, 0, 1)),
        ({"fault": True, "throttle": True}, None, (0, 0, 0, 1)),
        ({"error": True, "throttle": True}, None, (0, 0, 1, 0)),
        ({"error": True}, 302, (0, 1, 0, 0)),
        ({}, None, (1, 0, 0, 0)),
    ]
    for flags, status, expected in cases:
        http = {"http": {"response": {"status": status}}} if status else {}
        found = services(compile_documents(segment("1", "api", **flags, **http)))
        assert counts(found["api", ""]["SummaryStatistics"]) == expected, (flags, status)


def test_what_is_in_progress_is_seen_but_not_counted():
    found = services(compile_documents(segment("1", "api", end=None)))
    api = found["api", ""]
    assert counts(api["SummaryStatistics"]) == (0, 0, 0, 0)
    assert api["ResponseTimeHistogram"] == []
    assert found["api", "client"]["Edges"]["api", ""]["SummaryStatistics"]["TotalCount"] == 0


def test_a_service_that_calls_itself_has_an_edge_to_itself():
    found = services(
        compile_documents(
            segment("1", "api", subsegments=[subsegment("2", "self", namespace="remote")]),
            segment("3", "api", 0.1, 0.2, parent_id="2" * 16),
        )
    )
    assert found["api", ""]["SummaryStatistics"]["TotalCount"] == 2
    assert found["api", ""]["Edges"]["api", ""]["SummaryStatistics"]["TotalCount"] == 1


def test_accounts_keep_nodes_apart():
    calls = [
        subsegment("2", "s3", namespace="aws", aws={"account_id": "1"}),
        subsegment("3", "s3", namespace="aws", aws={"account_id": "2"}),
    ]
    rendered = render_services(graph_of(compile_documents(segment("1", "api", subsegments=calls))))
    accounts = [service.get("AccountId") for service in rendered if service["Name"] == "S3"]
    assert accounts == ["1", "2"]


def test_a_window_takes_requests_and_calls_by_their_own_start():
    trace = three_tiers()  # starts: api 0.0, call 0.1, orders 0.2, table 0.3
    found = services(trace, start=START + 0.1, end=START + 0.2)
    api = found["api", "AWS::ECS::Container"]
    assert api["SummaryStatistics"]["TotalCount"] == 0
    assert api["State"] == "active"
    assert api["Edges"]["orders", ""]["SummaryStatistics"]["TotalCount"] == 1
    assert found["orders", ""]["SummaryStatistics"]["TotalCount"] == 0
    assert (found["orders", ""]["StartTime"], found["orders", ""]["EndTime"]) == (START, START + 1)
    assert len(found) == 2
    assert services(trace, start=START + 5) == {}


def test_linked_traces_meet_in_an_edge_that_shows_the_age_of_messages():
    cause_id = "1-58406520-" + "b" * 24
    send = subsegment("6", "SQS", 0.2, 0.3, namespace="aws", trace_id=cause_id)
    cause = compile_trace(
        cause_id,
        accept(segment("5", "producer", trace_id=cause_id, subsegments=[send])),
        now=START,
        last_received=START,
    )
    link = {"trace_id": cause_id, "id": "6" * 16}
    consumer = compile_documents(segment("1", "consumer", 2.3, 2.4, links=[link]))
    graph = Graph()
    graph.add(observe(cause))
    graph.add(observe(consumer, {cause_id: cause}))
    senders = [service for service in render_services(graph) if service["Name"] == "producer"]
    (edge,) = [edge for sender in senders for edge in sender["Edges"] if "EdgeType" in edge]
    assert senders[0]["Type"] == ""
    assert edge in senders[0]["Edges"]
    assert edge["EdgeType"] == "link"
    assert edge["ReceivedEventAgeHistogram"] == [{"Value": 2.0, "Count": 1}]
    assert edge["ResponseTimeHistogram"] == []
    assert edge["SummaryStatistics"]["TotalCount"] == 1
    assert observe(consumer).calls == observe(consumer, {"1-other": cause}).calls


def test_histograms_are_milliseconds_in_order_and_bounded():
    assert [find_bucket(us) for us in (0, 499, 500, 1_499, 999_499, 1_234_000)] == [
        0, 0, 1, 1, 999, 1_230,
    ]  # fmt: skip
    wide = dict.fromkeys({find_bucket(1_000 * ms) for ms in range(0, 60_000, 7)}, 2)
    assert len(wide) > ENTRIES_MAX
    rendered = render_histogram(wide)
    assert len(rendered) <= ENTRIES_MAX
    assert [entry["Value"] for entry in rendered] == sorted({e["Value"] for e in rendered})
    assert sum(entry["Count"] for entry in rendered) == 2 * len(wide)
    assert rendered[0] == {"Value": 0.0, "Count": 2}


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 10**9), st.integers(1, 5)))
def test_a_coarser_histogram_keeps_every_request_near_its_value(histogram):
    rendered = render_histogram(histogram)
    assert len(rendered) <= ENTRIES_MAX
    assert sum(entry["Count"] for entry in rendered) == sum(histogram.values())
    if histogram:
        slowest = max(histogram) / 1000
        assert math.isclose(rendered[-1]["Value"], slowest, rel_tol=0.5, abs_tol=0.001)


def compiled(documents):
    return compile_trace(TRACE_ID, documents, now=START + 60, last_received=START)


@settings(deadline=None)
@given(document_lists(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_graph(documents, chance):
    shuffled = list(documents)
    chance.shuffle(shuffled)
    first, second = compiled(documents), compiled(shuffled)
    assert render_services(graph_of(first)) == render_services(graph_of(second))


@settings(deadline=None)
@given(st.lists(document_lists(), max_size=3), st.randoms(use_true_random=False))
def test_graphs_of_minutes_merge_into_the_graph_of_all(lists, chance):
    observed = [observe(compiled(documents)) for documents in lists]
    whole = Graph()
    minutes = {}
    for observations in observed:
        whole.add(observations)
        for minute in observations.minutes():
            start = minute * MINUTE_S
            minutes.setdefault(minute, Graph()).add(observations, start=start, end=start + MINUTE_S)
    stored = [encode_graph(graph) for graph in minutes.values()]
    chance.shuffle(stored)
    merged = Graph()
    for body in stored:
        merged.merge(decode_graph(body))
    assert render_services(merged) == render_services(whole)


@settings(deadline=None)
@given(document_lists(), document_lists())
def test_what_was_added_can_be_taken_out_again(kept, changed):
    graph = Graph()
    graph.add(observe(compiled(kept)))
    observations = decode_observations(encode_observations(observe(compiled(changed))))
    graph.add(observations)
    graph.add(observations, sign=-1)
    expected = render_services(graph_of(compiled(kept)))
    for service in [*expected, *(found := render_services(graph))]:
        # Windows and other names do not shrink again.
        for part in [service, *service["Edges"]]:
            for member in ("StartTime", "EndTime", "Names"):
                part.pop(member, None)
    assert found == expected
    graph.add(observe(compiled(kept)), sign=-1)
    assert (graph.nodes, graph.edges) == ({}, {})


@settings(deadline=None)
@given(document_lists())
def test_every_statistic_adds_up(documents):
    for service in render_services(graph_of(compiled(documents))):
        for part in [service, *service["Edges"]]:
            statistics = part.get("SummaryStatistics")
            if statistics is not None:
                counts(statistics)
                histogram = part["ResponseTimeHistogram"] or part.get(
                    "ReceivedEventAgeHistogram", []
                )
                assert sum(e["Count"] for e in histogram) == statistics["TotalCount"]


def test_histograms_add_up():
    into = {1: 2}
    add_histogram(into, {1: 1, 3: 4})
    assert into == {1: 3, 3: 4}
