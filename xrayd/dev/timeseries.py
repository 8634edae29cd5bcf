"""GetTimeSeriesServiceStatistics: a graph's totals for each period of time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from xrayd.dev.graph import Graph, NodeKey, NodeTotals, Totals, make_totals, render_statistics
from xrayd.dev.histograms import render_histogram


class NodeSelector(msgspec.Struct, frozen=True):
    """`id(name: …, type: …, account.id: …)`; None is any. `name` may be another of its names."""

    name: str | None = None
    type: str | None = None
    account_id: str | None = None

    def selects(self, key: NodeKey, node: NodeTotals) -> bool:
        """Whether it means this node."""
        name, node_type, account_id = key
        return (
            (self.name is None or self.name == name or self.name in node.names)
            and self.type in (None, node_type)
            and self.account_id in (None, account_id)
        )


class ServiceSelector(msgspec.Struct, frozen=True):
    """`service(node)`: the requests of the services that it means."""

    node: NodeSelector


class EdgeSelector(msgspec.Struct, frozen=True):
    """`edge(source, target)`: the calls along the edges that it means."""

    source: NodeSelector
    target: NodeSelector


Selector: TypeAlias = ServiceSelector | EdgeSelector

_ENTRY_CALLS = EdgeSelector(NodeSelector(type="client"), NodeSelector())
"""Without a selector, X-Ray answers edge statistics: here the calls of clients, so that a request
counts once however many services it went through."""


def render_time_series(
    graphs: Iterable[tuple[float, Graph]], period_s: int, selector: Selector | None
) -> list[dict[str, Any]]:
    """The `TimeSeriesServiceStatistics`, oldest first; periods without requests are left out.

    Args:
        graphs: Each with the epoch seconds that what it counts began at or after; it must not
            reach into the next period.
        period_s: Seconds; periods are aligned to its multiples since the epoch.
        selector: What to count; None for the requests of clients.
    """
    periods: dict[int, Totals] = {}
    for start, graph in graphs:
        period = int(start // period_s) * period_s
        for totals in _select(graph, _ENTRY_CALLS if selector is None else selector):
            if totals.total:
                periods.setdefault(period, make_totals()).add(totals)
    member = (
        "ServiceSummaryStatistics"
        if isinstance(selector, ServiceSelector)
        else "EdgeSummaryStatistics"
    )
    return [
        {
            "Timestamp": period,
            member: render_statistics(periods[period]),
            "ResponseTimeHistogram": render_histogram(periods[period].histogram),
        }
        for period in sorted(periods)
    ]


def _select(graph: Graph, selector: Selector) -> list[Totals]:
    if isinstance(selector, ServiceSelector):
        return [
            node.totals for key, node in graph.nodes.items() if selector.node.selects(key, node)
        ]
    return [
        totals
        for (source, target, is_link), totals in graph.edges.items()
        if not is_link
        and selector.source.selects(source, graph.nodes[source])
        and selector.target.selects(target, graph.nodes[target])
    ]
