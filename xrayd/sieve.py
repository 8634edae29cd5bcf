"""The daemon's own sampling: documents wait here until their trace is decided.

It stands between intake and custody. What it holds is in memory only, on purpose: a spooled
document found after a restart would have lost the verdict of its trace, and a torn trace is worse
than the few seconds of traces that a kill costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from xrayd.relay.buffer import DOCUMENT_OVERHEAD
from xrayd.relay.ledger import Ledger
from xrayd.relay.request import (
    FullHead,
    NamingHead,
    OddHead,
    read_full_head,
    read_naming_head,
)
from xrayd.relay.segment import Head, read_head
from xrayd.sampling.broker import Broker
from xrayd.sampling.decision import Sampler, Take
from xrayd.sampling.holding import Release
from xrayd.sampling.otlp import read_otlp
from xrayd.sampling.verdicts import HOLD, KEEP, Verdict, trace_key

# Bytes that holding costs beside the document: its place in a list of its trace's documents.
_HOLD_OVERHEAD = DOCUMENT_OVERHEAD + 72
_RULES_MAX = 100
_REPORT_S = 10.0
_TICK_S = 0.5


class Sieve:
    """Passes on what is kept, counts what is not.

    Args:
        sampler: decides.
        broker: told what was decided, and asked for quotas.

    Attributes:
        held: documents that wait for their trace's verdict.
        read: reads of a document what is asked for here.
    """

    def __init__(self, sampler: Sampler, broker: Broker) -> None:
        self._sampler = sampler
        self._broker = broker
        self._ledger = Ledger()
        self.held = 0
        self.read: Callable[[bytes], Head | None] = read_full_head
        self._kind = FullHead
        if sampler.asks_for_sdk_rule:
            self.read, self._kind = read_naming_head, NamingHead
        self._clock = 0.0
        self._held: dict[str, list[tuple[bytes, float]]] = {}
        self._pass_on: Take = lambda *_: None
        self.load_rules()

    def attach(self, ledger: Ledger, pass_on: Take) -> None:
        """Pass on what is kept, and count what is not in `ledger`, by rule."""
        self._ledger = ledger
        self._pass_on = pass_on

    def load_rules(self) -> None:
        """Take over the broker's rules."""
        self._sampler.load_rules(self._broker.rules)

    def taker(self, heads: Sequence[Head | None]) -> Take:
        """Gives what takes the documents that came together; `heads` are what `read` gave."""
        self._clock = time.time()
        take = self._sampler.taker(
            heads,
            self._kind,
            self._clock,
            keep=self._pass_on,
            drop=self._count_out,
            otherwise=self._take,
        )
        self._release(self._sampler.take_decided())
        return take

    def _take(self, document: bytes, head: Head | None, now: float) -> None:
        if not isinstance(head, FullHead):
            self._take_otlp(document, now)
            return
        verdict = self._sampler.decide(head, len(document) + _HOLD_OVERHEAD, self._clock)
        if verdict is HOLD:
            key = trace_key(head.trace_id)
            assert key is not None  # only traces with an id are held
            self._held.setdefault(key, []).append((document, now))
            self.held += 1
        self._release(self._sampler.take_decided())  # what came earlier of this trace goes first
        if verdict is KEEP:
            # An odd one is what it is without us: not read.
            self._pass_on(document, read_head(document) if type(head) is OddHead else head, now)
        elif verdict is not HOLD:
            self._count_out(verdict)

    def release(self) -> None:
        """Pass on, or count out, what is decided by now."""
        if self._held:
            self._release(self._sampler.take_releases(time.time()))

    def _release(self, releases: list[Release]) -> None:
        for release in releases:
            documents = self._held.pop(release.trace, [])
            self.held -= len(documents)
            if release.verdict is KEEP:
                for document, came_at in documents:
                    self._pass_on(document, read_head(document), came_at)
            else:
                self._count_out(release.verdict, len(documents))

    def release_all(self) -> None:
        """Decide everything that is held, for the end has come."""
        self._sampler.decide_held(time.time())
        self.release()

    async def run(self, on_due: Callable[[], None]) -> None:
        """See to it that what is held is released in time, and exchange statistics for quotas.

        `on_due` is called now and then while anything is held; it must `release`.
        """
        reported_at = -_REPORT_S
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() - reported_at >= _REPORT_S:
                reported_at = loop.time()
                self.exchange()
            if self._held:
                on_due()
            await asyncio.sleep(_TICK_S)

    def exchange(self) -> None:
        """Report what was decided to the broker, as one of its clients."""
        report = self._sampler.take_report()
        if report.statistics:
            now = time.time()
            self._sampler.absorb_targets(self._broker.exchange(report, now).targets, now)

    def _take_otlp(self, document: bytes, now: float) -> None:
        payload = read_otlp(document)
        if payload is not None:
            verdict = self._sampler.decide_otlp(payload, self._clock)
            self._release(self._sampler.take_decided())
            if verdict is not KEEP:
                self._count_out(verdict)
                return
        self._pass_on(document, None, now)

    def _count_out(self, verdict: Verdict, documents: int = 1) -> None:
        counts = self._ledger.sampled_out
        name = verdict.rule_name or ""
        counts[name if name in counts or len(counts) < _RULES_MAX else "other"] += documents
