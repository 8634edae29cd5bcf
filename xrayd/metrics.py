"""GET /metrics and /readyz on a port of their own; loaded only when switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xrayd.net import gate
from xrayd.net.http_messages import Request, Response, text_response
from xrayd.net.sampling import Labelled
from xrayd.relay.ledger import Ledger

_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 30, 40, 50)


class Metrics:
    """What is observed as it happens, and what is read at each scrape.

    Args:
        ledger: the counts of documents.
        gauges: name -> (help, value now), read at each scrape.
        labelled: name -> (help, label name, label -> value now), read at each scrape.
        is_ready: what /readyz says: whether, and why.
        more: what else is collected at each scrape.
    """

    def __init__(
        self,
        ledger: Ledger,
        gauges: Callable[[], Mapping[str, tuple[str, float]]],
        labelled: Callable[[], Labelled],
        is_ready: Callable[[], tuple[bool, str]],
        more: Sequence[Collector] = (),
    ) -> None:
        self._is_ready = is_ready
        self._registry = CollectorRegistry()
        for collector in (_LedgerCollector(ledger, gauges, labelled), *more):
            self._registry.register(collector)
        self._latency = Histogram(
            "xrayd_request_seconds",
            "Seconds from writing a PutTraceSegments request to its whole answer.",
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._batch = Histogram(
            "xrayd_batch_documents",
            "Documents in an answered PutTraceSegments request.",
            buckets=_BATCH_BUCKETS,
            registry=self._registry,
        )

    def observe(self, documents: int, seconds: float) -> None:
        """One request was answered."""
        self._latency.observe(seconds)
        self._batch.observe(documents)

    def screen(self, request: Request) -> Response | int:
        """Refuse browsers, foreign hosts and anything that is not served here."""
        limits = {("GET", "/metrics"): 0, ("GET", "/readyz"): 0}
        return gate.screen(request, limits, ())

    def handle(self, request: Request) -> Response:
        """Answer /metrics or /readyz."""
        if request.target == "/readyz":
            ready, why = self._is_ready()
            return text_response(200 if ready else 503, why)
        body = generate_latest(self._registry)
        return Response(200, body, [("Content-Type", CONTENT_TYPE_LATEST)])


class _LedgerCollector(Collector):
    def __init__(
        self,
        ledger: Ledger,
        gauges: Callable[[], Mapping[str, tuple[str, float]]],
        labelled: Callable[[], Labelled],
    ) -> None:
        self._ledger = ledger
        self._gauges = gauges
        self._labelled = labelled

    def collect(self) -> Iterator[Metric]:
        ledger = self._ledger
        received = _counter("received", "Documents and datagrams received.", "transport")
        received.add_metric(["udp"], ledger.received_udp)
        received.add_metric(["tcp"], ledger.received_tcp)
        yield received
        yield CounterMetricFamily("xrayd_sent", "Documents X-Ray took.", ledger.sent)
        yield CounterMetricFamily(
            "xrayd_recovered", "Documents found in the spool at start.", ledger.recovered
        )
        yield CounterMetricFamily(
            "xrayd_expired", "Documents given up because they were too old.", ledger.expired
        )
        yield CounterMetricFamily(
            "xrayd_not_utf8", "Documents in which bytes had to be replaced.", ledger.not_utf8
        )
        yield CounterMetricFamily(
            "xrayd_unread_answers",
            "Requests counted as sent though their 200 could not be read, three times.",
            ledger.unread_answers,
        )
        for name, help_text, label, counts in (
            ("rejected", "Datagrams and documents refused on arrival.", "reason", ledger.rejected),
            ("unprocessed", "Documents X-Ray refused.", "code", ledger.unprocessed),
            ("spilled", "Documents given up for lack of room or time.", "reason", ledger.spilled),
            ("sampled_out", "Documents dropped by sampling.", "rule", ledger.sampled_out),
            ("documents", "Documents accepted, by what they are.", "kind", ledger.kinds),
        ):
            family = _counter(name, help_text, label)
            for reason, count in sorted(counts.items()):
                family.add_metric([reason], count)
            yield family
        errors = _counter("connection_errors", "Requests that did not succeed.", "kind")
        for field in ledger.connection_errors.__struct_fields__:
            errors.add_metric([field], getattr(ledger.connection_errors, field))
        yield errors
        for name, (help_text, label, values) in self._labelled().items():
            family = _counter(name.removesuffix("_total"), help_text, label)
            for value_of, value in sorted(values.items()):
                family.add_metric([value_of], value)
            yield family
        for name, (help_text, value) in self._gauges().items():
            if name.endswith("_total"):
                yield CounterMetricFamily("xrayd_" + name.removesuffix("_total"), help_text, value)
            else:
                yield GaugeMetricFamily("xrayd_" + name, help_text, value)


def _counter(name: str, help_text: str, label: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"xrayd_{name}", help_text, labels=[label])
