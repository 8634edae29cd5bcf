"""The service graph: what traces add to it, summed up; sums of sums are graphs again.

A graph can hold all of a window, or one minute of it; graphs of many minutes merge into the graph
of hours in the time it takes to add their counts, however many traces they were made from.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import msgspec

from xrayd.dev.histograms import Histogram, add_histogram, count_duration, render_histogram
from xrayd.dev.observations import EdgeCall, Observations, ObservedService, Outcome, Request

NodeKey: TypeAlias = tuple[str, str, str]
"""Name, type, account id ("" if unknown)."""

EdgeKey: TypeAlias = tuple[NodeKey, NodeKey, bool]
"""Source, target, and whether it is a link between traces."""


class Totals(msgspec.Struct, array_like=True, gc=False):
    """Requests summed up.

    Attributes:
        seen: Everything that was added, also what is in progress; nothing is left at zero.
        counts: By `Outcome`.
        total_us: Their response times together, microseconds.
        start: Earliest start, epoch seconds. Taking away does not narrow it again.
        end: Latest end.
        histogram: Response times; for links, ages.
    """

    seen: int
    counts: list[int]
    total_us: int
    start: float
    end: float
    histogram: Histogram

    def add_one(self, item: Request | EdgeCall, sign: int) -> None:
        """Count one request, or discount it (`sign` -1)."""
        self.seen += sign
        self.counts[item.outcome] += sign
        self._widen(item.start, item.end)
        if item.outcome:
            self.total_us += sign * item.duration_us
            count_duration(self.histogram, item.duration_us, sign)

    def add(self, other: Totals) -> None:
        """Count all that `other` counted."""
        self.seen += other.seen
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total_us += other.total_us
        self._widen(other.start, other.end)
        add_histogram(self.histogram, other.histogram)

    def _widen(self, start: float, end: float) -> None:
        self.start = min(self.start, start)
        self.end = max(self.end, end)

    @property
    def total(self) -> int:
        """Requests counted, whatever came of them; not those in progress."""
        return sum(self.counts) - self.counts[Outcome.IN_PROGRESS]


class NodeTotals(msgspec.Struct, array_like=True, gc=False):
    """A node summed up.

    Attributes:
        mentions: How often it was said to be there, by a request or at either end of a call.
        active: How often as a service with segments of its own.
        root: How often as the entry point of a trace.
        names: Other names it was seen under.
        totals: Its requests.
    """

    mentions: int
    active: int
    root: int
    names: set[str]
    totals: Totals


class Graph:
    """Nodes and edges with their totals. Adding is commutative and associative."""

    def __init__(self) -> None:
        """An empty graph."""
        self.nodes: dict[NodeKey, NodeTotals] = {}
        self.edges: dict[EdgeKey, Totals] = {}

    def add(
        self,
        observations: Observations,
        *,
        start: float = -math.inf,
        end: float = math.inf,
        sign: int = 1,
    ) -> None:
        """Count what a trace adds.

        Args:
            observations: What `observe` said of it.
            start: Epoch seconds; what started before does not count.
            end: Epoch seconds; what started then or later does not count.
            sign: -1 takes the same observations away again that were added before.
        """
        services = observations.services
        keys = [(service.name, service.type, service.account_id) for service in services]
        mentions = [0] * len(services)
        for request in observations.requests:
            if start <= request.start < end:
                mentions[request.service] += sign
                self._find_node(keys[request.service]).totals.add_one(request, sign)
        for call in observations.calls:
            if start <= call.start < end:
                mentions[call.source] += sign
                mentions[call.target] += sign
                self._add_call((keys[call.source], keys[call.target], call.is_link), call, sign)
        for service, key, count in zip(services, keys, mentions, strict=True):
            if count:
                self._mention(key, service, count)

    def merge(self, other: Graph) -> None:
        """Count all that `other` counted."""
        for key, node in other.nodes.items():
            mine = self._find_node(key)
            mine.mentions += node.mentions
            mine.active += node.active
            mine.root += node.root
            mine.names |= node.names
            mine.totals.add(node.totals)
        for edge, totals in other.edges.items():
            into = self.edges.get(edge)
            if into is None:
                into = self.edges[edge] = make_totals()
            into.add(totals)

    def _find_node(self, key: NodeKey) -> NodeTotals:
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = NodeTotals(0, 0, 0, set(), make_totals())
        return node

    def _add_call(self, key: EdgeKey, call: EdgeCall, sign: int) -> None:
        edge = self.edges.get(key)
        if edge is None:
            edge = self.edges[key] = make_totals()
        edge.add_one(call, sign)
        if not edge.seen:
            del self.edges[key]

    def _mention(self, key: NodeKey, service: ObservedService, count: int) -> None:
        """Note that a node is there, or was taken out again so many times (`count` below 0)."""
        node = self._find_node(key)
        node.mentions += count
        node.active += count * service.is_active
        node.root += count * service.is_root
        node.names.update(service.names)
        if not node.mentions:
            del self.nodes[key]


class _StoredGraph(msgspec.Struct, array_like=True, gc=False):
    """A graph with its edges' ends as indexes into its nodes."""

    keys: list[NodeKey]
    nodes: list[NodeTotals]
    edges: list[tuple[int, int, bool, Totals]]


_decoder = msgspec.msgpack.Decoder(_StoredGraph)


def encode_graph(graph: Graph) -> bytes:
    """Its stored form."""
    index = {key: number for number, key in enumerate(graph.nodes)}
    edges = [
        (index[source], index[target], is_link, totals)
        for (source, target, is_link), totals in graph.edges.items()
    ]
    return msgspec.msgpack.encode(_StoredGraph(list(index), list(graph.nodes.values()), edges))


def decode_graph(stored: bytes) -> Graph:
    """Back from the stored form.

    Raises:
        msgspec.DecodeError: It is damaged.
    """
    parts = _decoder.decode(stored)
    graph = Graph()
    graph.nodes = dict(zip(parts.keys, parts.nodes, strict=True))
    graph.edges = {
        (parts.keys[source], parts.keys[target], is_link): totals
        for source, target, is_link, totals in parts.edges
    }
    return graph


def render_services(graph: Graph) -> list[dict[str, Any]]:
    """The `Services` of GetServiceGraph and GetTraceGraph, by name; ids count from 0."""
    ids = {key: number for number, key in enumerate(sorted(graph.nodes))}
    outgoing: dict[NodeKey, list[EdgeKey]] = {key: [] for key in ids}
    incident: dict[NodeKey, list[Totals]] = {key: [] for key in ids}
    for edge in sorted(graph.edges):
        source, target, _ = edge
        outgoing[source].append(edge)
        incident[source].append(graph.edges[edge])
        incident[target].append(graph.edges[edge])
    return [
        # A client, and a service whose requests lie outside of the window, has calls only.
        _render_service(
            graph,
            key,
            ids,
            outgoing[key],
            _find_window([graph.nodes[key].totals]) or _find_window(incident[key]),
        )
        for key in ids
    ]


def render_statistics(totals: Totals) -> dict[str, Any]:
    """`ServiceStatistics` or `EdgeStatistics`: each request in exactly one class."""
    counts = totals.counts
    error, throttle = counts[Outcome.ERROR], counts[Outcome.THROTTLE]
    fault = counts[Outcome.FAULT]
    return {
        "OkCount": counts[Outcome.OK],
        "ErrorStatistics": {
            "ThrottleCount": throttle,
            "OtherCount": error,
            "TotalCount": throttle + error,
        },
        "FaultStatistics": {"OtherCount": fault, "TotalCount": fault},
        "TotalCount": totals.total,
        "TotalResponseTime": round(totals.total_us / 1_000_000, 3),
    }


def _render_service(
    graph: Graph,
    key: NodeKey,
    ids: dict[NodeKey, int],
    edges: list[EdgeKey],
    window: dict[str, int],
) -> dict[str, Any]:
    name, node_type, account_id = key
    node = graph.nodes[key]
    service: dict[str, Any] = {
        "ReferenceId": ids[key],
        "Name": name,
        "Names": [name, *sorted(node.names - {name})],
        "Type": node_type,
        "State": "active" if node.active > 0 else "unknown",
        "Edges": [_render_edge(graph, edge, ids, window) for edge in edges],
    }
    if node.root > 0:
        service["Root"] = True
    if account_id:
        service["AccountId"] = account_id
    service |= window
    if node_type != "client":
        histogram = render_histogram(node.totals.histogram)
        service["SummaryStatistics"] = render_statistics(node.totals)
        service["ResponseTimeHistogram"] = histogram
        service["DurationHistogram"] = histogram
    else:
        service["ResponseTimeHistogram"] = service["DurationHistogram"] = []
    return service


def _render_edge(
    graph: Graph, edge: EdgeKey, ids: dict[NodeKey, int], window: dict[str, int]
) -> dict[str, Any]:
    """An edge; its window is its caller's, as in X-Ray's answers."""
    _, target, is_link = edge
    totals = graph.edges[edge]
    histogram = render_histogram(totals.histogram)
    rendered: dict[str, Any] = {
        "ReferenceId": ids[target],
        "SummaryStatistics": _render_link(totals) if is_link else render_statistics(totals),
        "ResponseTimeHistogram": [] if is_link else histogram,
        "ReceivedEventAgeHistogram": histogram if is_link else [],
        "Aliases": [],
    }
    if is_link:
        rendered["EdgeType"] = "link"
    return rendered | window


def _render_link(totals: Totals) -> dict[str, Any]:
    """A link's statistics: what it sums up are ages, which are no response times."""
    return render_statistics(totals) | {"TotalResponseTime": 0.0}


def make_totals() -> Totals:
    """Nothing counted yet."""
    return Totals(0, [0] * len(Outcome), 0, math.inf, -math.inf, {})


def _find_window(parts: list[Totals]) -> dict[str, int]:
    """`StartTime` and `EndTime` in whole seconds around what was seen; empty if nothing was."""
    seen = [totals for totals in parts if totals.seen]
    if not seen:
        return {}
    return {
        "StartTime": math.floor(min(totals.start for totals in seen)),
        "EndTime": math.ceil(max(totals.end for totals in seen)),
    }
