"""Requests by service and by group at GET /metrics; loaded only when that is switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from xrayd.dev.totals import Tally, Totals

_COUNTS: Mapping[str, tuple[str, Callable[[Tally], float]]] = {
    "requests": ("Requests that ended.", lambda tally: tally.requests),
    "errors": ("Requests answered with 4xx, but 429.", lambda tally: tally.errors),
    "faults": ("Requests answered with 5xx.", lambda tally: tally.faults),
    "throttles": ("Requests answered with 429.", lambda tally: tally.throttles),
    "seconds": ("Response times of these requests, summed.", lambda tally: tally.duration_us / 1e6),
}


class TotalsCollector(Collector):
    """Reads the totals at each scrape.

    Args:
        totals: what was counted so far.
    """

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """A family for each count, by service and type, then by group."""
        totals = self._totals()
        for name, (help_text, read) in _COUNTS.items():
            family = CounterMetricFamily(
                f"xrayd_dev_service_{name}", help_text, labels=["service", "type"]
            )
            for (service, kind), tally in sorted(totals.services.items()):
                family.add_metric([service, kind], read(tally))
            yield family
            family = CounterMetricFamily(f"xrayd_dev_group_{name}", help_text, labels=["group"])
            for group, tally in sorted(totals.groups.items()):
                family.add_metric([group], read(tally))
            yield family
