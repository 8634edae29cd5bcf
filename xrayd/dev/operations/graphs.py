"""The service graph, of a window or of traces, and its figures over time.

Sources: botocore `xray` model; the limit of six hours as X-Ray's own refusal words it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xrayd.dev.answers import invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.selector import parse_selector
from xrayd.dev.filters.syntax import NodePattern, ServiceTest
from xrayd.dev.graph import Graph, render_services
from xrayd.dev.model import Trace
from xrayd.dev.observations import MINUTE_S, Observations, observe
from xrayd.dev.operations.compiling import compile_for_reading
from xrayd.dev.operations.groups import Group, find_optional_group
from xrayd.dev.operations.traces import load_compiled, window_of
from xrayd.dev.rollups import DEFAULT_GROUP, EVERYTHING, read_graphs, read_observations
from xrayd.dev.timeseries import (
    EdgeSelector,
    NodeSelector,
    Selector,
    ServiceSelector,
    render_time_series,
)
from xrayd.dev.tokens import page

WINDOW_S_MAX = 6 * 3600.0
"""Longest window of a service graph in seconds."""

TRACES_MAX = 1000
"""Traces of one GetTraceGraph."""

FINE_TRACES_MAX = 20_000
"""Traces that periods other than whole minutes can be counted from."""

_PAGE_PERIODS = 1000


def get_service_graph(backend: Backend, request: Request) -> Members:
    """GetServiceGraph."""
    start, end = _window_of(request)
    group = find_optional_group(backend, request)
    _refuse_token(request)
    compile_for_reading(backend)
    graph = Graph()
    with backend.store.database.reading() as connection:
        for _, part in read_graphs(connection, _key_of(group), start, end):
            graph.merge(part)
    return {
        "StartTime": start,
        "EndTime": end,
        "Services": render_services(graph),
        "ContainsOldGroupVersions": group.changed_within(start, end),
    }


def get_trace_graph(backend: Backend, request: Request) -> Members:
    """GetTraceGraph: everything of the traces that there are among those asked for."""
    if len(request["TraceIds"]) > TRACES_MAX:
        raise invalid(f"Exceeding maximum query size: {TRACES_MAX}")
    _refuse_token(request)
    return {"Services": graph_of(load_compiled(backend, request["TraceIds"]))}


def get_time_series_service_statistics(backend: Backend, request: Request) -> Members:
    """GetTimeSeriesServiceStatistics."""
    start, end = _window_of(request)
    period_s = request.get("Period", MINUTE_S)
    if period_s < 1:
        raise invalid("Period must be a positive number of seconds.")
    group = find_optional_group(backend, request)
    selector = _selector_of(request)
    compile_for_reading(backend)
    with backend.store.database.reading() as connection:
        if period_s % MINUTE_S == 0:
            parts: Iterable[tuple[float, Graph]] = read_graphs(
                connection, _key_of(group), start, end
            )
        else:
            found = read_observations(connection, _key_of(group), start, end, FINE_TRACES_MAX)
            if found is None:
                raise invalid("There are too many traces for this Period: use a multiple of 60.")
            parts = _slice(found, start, end, period_s)
        series = render_time_series(parts, period_s, selector)
    shown, more = page(
        "GetTimeSeriesServiceStatistics",
        series,
        key=lambda entry: entry["Timestamp"],
        kind=int,
        token=request.get("NextToken"),
        size=_PAGE_PERIODS,
    )
    return {
        "TimeSeriesServiceStatistics": shown,
        "ContainsOldGroupVersions": group.changed_within(start, end),
        **more,
    }


def graph_of(traces: list[Trace]) -> list[dict[str, object]]:
    """The `Services` of a graph of these traces alone; links are drawn between them."""
    by_id = {trace.id: trace for trace in traces}
    graph = Graph()
    for trace in traces:
        graph.add(observe(trace, by_id))
    return render_services(graph)


def _slice(
    observations: list[Observations], start: float, end: float, period_s: int
) -> Iterator[tuple[float, Graph]]:
    """Each trace's part of each period."""
    for one in observations:
        starts = [*(request.start for request in one.requests), *(call.start for call in one.calls)]
        for period in {int(when // period_s) * period_s for when in starts if start <= when < end}:
            graph = Graph()
            graph.add(one, start=max(start, period), end=min(end, period + period_s))
            yield float(period), graph


def _window_of(request: Request) -> tuple[float, float]:
    start, end = window_of(request)
    if end - start > WINDOW_S_MAX:
        raise invalid("Time range cannot be longer than 6 hours")
    return start, end


def _refuse_token(request: Request) -> None:
    if "NextToken" in request:
        raise invalid("NextToken is not valid: this operation answers everything at once")


def _key_of(group: Group) -> str:
    return EVERYTHING if group.name == DEFAULT_GROUP else group.arn


def _selector_of(request: Request) -> Selector | None:
    text = request.get("EntitySelectorExpression")
    forecast = request.get("ForecastStatistics", False)
    if text is None:
        if forecast:
            raise invalid("ForecastStatistics needs an EntitySelectorExpression with an id.")
        return None
    try:
        parsed = parse_selector(text)
    except FilterError as error:
        raise invalid(str(error)) from None
    if isinstance(parsed, ServiceTest):
        return ServiceSelector(_node_of(parsed.node))
    return EdgeSelector(_node_of(parsed.caller), _node_of(parsed.callee))


def _node_of(pattern: NodePattern) -> NodeSelector:
    return NodeSelector(pattern.name, pattern.type, pattern.account_id)
