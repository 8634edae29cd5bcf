"""Time series count a graph's requests by period."""

from trace_strategies import START, compile_documents, segment, subsegment

from xrayd.dev.graph import Graph
from xrayd.dev.observations import MINUTE_S, observe
from xrayd.dev.timeseries import EdgeSelector, NodeSelector, ServiceSelector, render_time_series


def minute_graphs(*documents):
    observations = observe(compile_documents(*documents))
    for minute in sorted(observations.minutes()):
        graph = Graph()
        start = minute * MINUTE_S
        graph.add(observations, start=start, end=start + MINUTE_S)
        yield start, graph


def series(selector, period_s=60):
    call = subsegment("2", "dynamodb", 130, 130.5, namespace="aws", aws={"table_name": "t"})
    return render_time_series(
        minute_graphs(
            segment("1", "api", 0, 200, subsegments=[call]),
            segment("3", "api", 121, 122, parent_id="9" * 16, fault=True),
            segment("4", "api", 122, None, parent_id="9" * 16),
        ),
        period_s,
        selector,
    )


def figures(found, member):
    return [
        (
            point["Timestamp"] - START,
            point[member]["TotalCount"],
            point[member]["TotalResponseTime"],
        )
        for point in found
    ]


def test_a_service_is_measured_by_its_requests_and_empty_periods_are_left_out():
    found = series(ServiceSelector(NodeSelector(name="api", type="")))
    assert figures(found, "ServiceSummaryStatistics") == [(0, 1, 200.0), (120, 1, 1.0)]
    assert found[1]["ServiceSummaryStatistics"]["FaultStatistics"]["TotalCount"] == 1
    assert found[1]["ResponseTimeHistogram"] == [{"Value": 1.0, "Count": 1}]
    assert "EdgeSummaryStatistics" not in found[0]


def test_an_edge_is_measured_by_its_calls():
    found = series(EdgeSelector(NodeSelector(name="api"), NodeSelector(name="t")))
    assert figures(found, "EdgeSummaryStatistics") == [(120, 1, 0.5)]


def test_without_a_selector_the_requests_of_clients_are_counted():
    assert figures(series(None), "EdgeSummaryStatistics") == [(0, 1, 200.0), (120, 1, 1.0)]


def test_periods_are_aligned_to_multiples_since_the_epoch():
    assert START % 300 == 0
    assert figures(series(None, period_s=300), "EdgeSummaryStatistics") == [(0, 2, 201.0)]


def test_nodes_are_selected_by_any_of_their_names_by_type_and_by_account():
    def counted(**selector):
        return len(series(ServiceSelector(NodeSelector(**selector))))

    assert counted(name="t", type="AWS::DynamoDB::Table") == 1
    assert counted(name="dynamodb") == 1
    assert counted(account_id="") == 2
    assert counted(account_id="1") == 0
    assert counted(name="elsewhere") == 0
    assert counted() == 2
