"""What an operation works with: the store, names for ARNs, the clock and who listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from xrayd.dev.sampling import Authority
from xrayd.dev.store import Store
from xrayd.dev.totals import Counters


@dataclass(slots=True)
class Intake:
    """What arrived at PutTraceSegments since the start. Threads add to it one at a time.

    Attributes:
        documents: segments and subsegments stored.
        refused: documents named in UnprocessedTraceSegments.
        unsampled: OTLP spans that the sender decided not to sample (`T1U`); never stored.
        metrics: OTLP metric payloads (`M1`); never stored.
    """

    documents: int = 0
    refused: int = 0
    unsampled: int = 0
    metrics: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, documents: int, refused: int, unsampled: int, metrics: int) -> None:
        """Count one batch."""
        with self._guard:
            self.documents += documents
            self.refused += refused
            self.unsampled += unsampled
            self.metrics += metrics


@dataclass(frozen=True, slots=True)
class Backend:
    """The surroundings of every operation.

    Attributes:
        store: traces and settings.
        region: AWS region in ARNs.
        account: AWS account id in ARNs.
        clock: epoch seconds.
        on_traces: told the X-Ray ids of the traces whose documents were just stored, in order of
            arrival, each once; called in the thread that stored them, after they are safe.
        intake: counts of PutTraceSegments.
        authority: serves sampling rules and targets.
        counters: requests by service and by group since the start.
    """

    store: Store
    region: str
    account: str
    clock: Callable[[], float]
    on_traces: Callable[[Sequence[str]], None]
    intake: Intake = field(default_factory=Intake)
    authority: Authority = field(default_factory=Authority)
    counters: Counters = field(default_factory=Counters)

    def arn(self, resource: str, service: str = "xray") -> str:
        """The ARN of a resource of this region and account, e.g. `group/checkout/ABC`."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


Members: TypeAlias = dict[str, object]
"""An answer's members, ready to be JSON."""

Request: TypeAlias = dict[str, Any]
"""A validated request: known members only, timestamps as epoch seconds."""

Handler: TypeAlias = Callable[[Backend, Request], Members | bytes]
