"""The daemon's own sampling of documents, off unless asked for: one verdict per trace.

A root segment (no `type`, no `parent_id`, complete) is matched against the rules; reservoir first,
then the fixed rate by the trace id alone. The verdict is remembered and final: whatever comes later
of the trace shares it. Documents that come before their root are held for a bounded time and within
bounded memory, then the Default rule decides without it. A root in progress counts as the root only
at the end of that time, because the complete one may say more.

**How far the verdict depends on the order of arrival.** For a trace whose root arrives within the
hold, not at all, as far as the fixed rate goes: it is a function of root and trace id. (A reservoir
is first come, first served by nature; a trace with several roots goes by the first, or, where they
come together, by the first that is written as nearly all are.) Two daemons that see different parts
of a trace agree when both see the root, or when the root's rule is Default or has Default's rate;
otherwise what the lower rate keeps is a subset of what the higher keeps.

**`undecided`.** A document that names a rule (`aws.xray` in it) proves that an SDK decided: its
trace is kept, whatever order the parts come in. SDKs put the name only into the segment of the
service that decided, usually the root, which comes last. So in this mode nothing is dropped before
the hold is over: a verdict to keep is given at once, for it cannot be wrong, but a verdict to drop
waits for a document that proves it wrong. After the hold the verdict is final even if such a
document comes: the trace is gone in part, and a torn trace is worse than none. Where the root's
service is on another host (its parts here have no name and no root), or requests last longer than
the hold and stream subsegments, use `keep_rootless`: then a trace without a root is taken as
decided elsewhere, for SDKs that were told "not sampled" send nothing.

In `all`, SDKs have reported the same requests to the rules already; the daemon's decisions are
reported besides, under its own client id.

OTLP payloads say themselves whether they are sampled. `T1U` never becomes a trace and is always
kept. `T1S` is an SDK's decision, so `undecided` keeps it; `all` asks the Default rule for each
trace id in it, without holding, and keeps the payload if any of its traces is kept, since it is not
ours to rewrite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from xrayd.sampling.atwork import RuleAtWork
from xrayd.sampling.document import Document, OtlpDocument
from xrayd.sampling.finding import RuleFinder
from xrayd.sampling.holding import HeldTrace, Holding, Release
from xrayd.sampling.report import Report, Statistics, Target
from xrayd.sampling.roots import new_roots
from xrayd.sampling.rule import DEFAULT_RULE_NAME, SamplingRule
from xrayd.sampling.verdicts import (
    HOLD,
    KEEP,
    RANDOM_PART,
    Verdict,
    VerdictTable,
    least_kept,
    trace_key,
)

_TICK_MAX_S = 2.0
"""What one look at the clock can add to the time that holds and verdicts live by.

A clock that steps forward must not end every hold and forget every verdict at once.
"""


Take = Callable[[bytes, Any, float], None]
"""Takes a document with its head (a `Document`, or None) and the monotonic time it came."""


class Apply(StrEnum):
    """Which traces the daemon decides."""

    OFF = "off"
    UNDECIDED = "undecided"
    ALL = "all"


class Sampler:
    """Decides for each document: keep, drop, or hold until its trace is decided.

    The caller keeps the bytes of held documents by `trace_key(document.trace_id)`, and does with
    each trace as it is told: by `take_decided` after each decision, before it asks for another or
    passes anything on, and by `take_releases` at least every second.

    Attributes:
        asks_for_sdk_rule: whether what an SDK decided matters here, so that it must be read.
        holding: the traces that wait.
    """

    def __init__(
        self,
        client_id: str,
        apply: Apply,
        *,
        hold_s: float = 5.0,
        hold_documents_max: int = 20_000,
        hold_bytes_max: int = 16 * 1024 * 1024,
        verdicts_max: int = 100_000,
        verdict_ttl_s: float = 600.0,
        keep_rootless: bool = False,
    ) -> None:
        """A sampler that knows no rules and keeps everything until it does.

        Args:
            client_id: 24 hex digits, under which its statistics are reported.
            apply: which traces to decide.
            hold_s: seconds a trace waits for its root.
            hold_documents_max: documents held at most; beyond, the oldest trace is decided early.
            hold_bytes_max: the same for their size.
            verdicts_max: traces remembered.
            verdict_ttl_s: seconds a verdict is remembered after it was last needed.
            keep_rootless: keep a trace whose root does not come, instead of asking Default.
        """
        self.asks_for_sdk_rule = apply is Apply.UNDECIDED
        self.holding = Holding(hold_s, hold_documents_max, hold_bytes_max)
        self._client_id = client_id
        self._is_off = apply is Apply.OFF
        self._keep_rootless = keep_rootless
        self._verdicts = VerdictTable(verdicts_max, verdict_ttl_s)
        self._rules: dict[str, RuleAtWork] = {}
        self._finder = RuleFinder[RuleAtWork]((), {})
        self._now = math.inf
        self._elapsed = 0.0

    def load_rules(self, rules: Iterable[SamplingRule]) -> None:
        """Take over the rules; reservoirs and rates of those that stay are kept."""
        loaded: dict[str, RuleAtWork] = {}
        for rule in rules:
            known = loaded[rule.rule_name] = self._rules.get(rule.rule_name) or RuleAtWork(rule)
            known.follow(rule)
        self._rules = loaded
        self._finder = RuleFinder((known.rule for known in loaded.values()), loaded)

    def take_report(self) -> Report:
        """The statistics since the last report, of rules that had any: for `Broker.exchange`."""
        rows = []
        for name, rule in self._rules.items():
            requests, sampled, borrowed = rule.take_counts()
            if requests:
                rows.append(Statistics(name, self._client_id, requests, sampled, borrowed))
        return Report(statistics=rows)

    def absorb_targets(self, targets: Sequence[Target], now: float) -> None:
        """Take over rates and quotas from the broker's answer to a report."""
        for target in targets:
            rule = self._rules.get(target.rule_name)
            if rule is None:
                continue
            rule.least = least_kept(target.fixed_rate)
            quota, ttl = target.reservoir_quota, target.reservoir_quota_ttl
            if isinstance(quota, int) and isinstance(ttl, int):
                rule.reservoir.load(quota, ttl, now)

    def decide(self, document: Document, size_bytes: int, now: float) -> Verdict:
        """What is to become of a segment document.

        Args:
            document: what was read of it.
            size_bytes: what holding it costs.
            now: epoch seconds.

        Returns:
            Keep, drop, or hold: the last until a `Release` for its trace. Other documents of the
            trace that were held before are released by `take_decided`, never here.
        """
        if now != self._now:
            self._tick(now)
        key = document.trace_id
        verdict = self._verdicts.get(key)  # nearly every id is written as its key
        if verdict is None:
            verdict = self._decide_unknown(key, document, size_bytes, now)
        return verdict

    def taker(
        self,
        heads: Sequence[object],
        kind: type[Document],
        now: float,
        *,
        keep: Take,
        drop: Callable[[Verdict], None],
        otherwise: Take,
    ) -> Take:
        """Decides for the documents that come together, at `now` (epoch seconds).

        What it gives takes each with its head and the time it came. Nearly all are roots of new
        traces, which are decided here and now, or of traces whose verdict is known: those go to
        `keep`, or are lost to `drop`. Everything else goes to `otherwise`, which must `decide`:
        what has no head of `kind` or an id in another spelling, what belongs to a trace of which
        documents are held or that was decided long ago, and what has to wait.
        """
        if self._is_off:
            return keep
        self._tick(now)
        self._decide_ahead(heads, kind, now)
        verdicts = self._verdicts
        kept, drops = verdicts.young

        def take(document: bytes, head: Any, came_at: float) -> None:
            nonlocal kept, drops
            if type(head) is kind:
                if (trace_id := head.trace_id) in kept:
                    keep(document, head, came_at)
                    return
                if (verdict := drops.get(trace_id)) is not None:
                    drop(verdict)
                    return
            otherwise(document, head, came_at)
            kept, drops = verdicts.young

        return take

    def decide_otlp(self, document: OtlpDocument, now: float) -> Verdict:
        """What is to become of an OTLP payload: keep or drop, never hold."""
        if self._is_off or not document.is_sampled:
            return KEEP
        self._tick(now)
        verdicts = [self._decide_otlp_trace(trace_id, now) for trace_id in document.trace_ids]
        drops = [verdict for verdict in verdicts if verdict is not KEEP]
        if not drops or len(drops) < len(verdicts):
            return KEEP
        return drops[0]

    def take_decided(self) -> list[Release]:
        """Traces decided since the last call whose held documents wait, oldest decision first."""
        return self.holding.take_releases()

    def take_releases(self, now: float) -> list[Release]:
        """What `take_decided` gives, with traces that have been held for long enough: they are
        decided now.
        """
        self._tick(now)
        while (key := self.holding.due(self._elapsed)) is not None:
            self._give_up_waiting(key, now)
        return self.take_decided()

    def decide_held(self, now: float) -> None:
        """Decide every trace that is held, without its root where that has not come."""
        self._tick(now)
        for key in list(self.holding.keys()):
            self._give_up_waiting(key, now)

    def _decide_ahead(self, heads: Sequence[object], kind: type[Document], now: float) -> None:
        """Decide what can be decided at once, and for many together, of traces not known yet."""
        if self.asks_for_sdk_rule:
            for head in heads:
                if type(head) is kind and head.sdk_rule():
                    self.decide(head, 0, now)  # to keep: nothing is held
        complete = [
            head
            for head in heads
            if type(head) is kind and not (head.parent_id or head.in_progress or head.type)
        ]
        roots = new_roots(complete, self._verdicts, self.holding.keys())
        kept, drops = self._verdicts.young
        old_kept = self._verdicts.old.kept
        for root, rule in zip(roots, self._finder.find_all(roots), strict=True):
            if rule is None:
                continue
            key = root.trace_id
            # What `judge` would say, for most: to call it for each took 0.1 µs more.
            if now == rule.reservoir.empty_at and key[RANDOM_PART] >= rule.least:
                rule.kept += 1
                kept.add(key)
            elif (verdict := rule.judge(key, now)) is KEEP:
                kept.add(key)
            elif not self.asks_for_sdk_rule and key not in old_kept:
                rule.dropped += 1
                drops[key] = verdict

    def _decide_unknown(
        self, trace_id: str, document: Document, size_bytes: int, now: float
    ) -> Verdict:
        """The verdict of a document whose trace is not known by its id as it is written."""
        key = trace_key(trace_id)
        if key is None or self._is_off:
            return KEEP
        if key != trace_id and (verdict := self._verdicts.get(key)) is not None:
            return verdict
        if not self._rules or (self.asks_for_sdk_rule and document.sdk_rule()):
            return self._settle(key, KEEP)
        held = self.holding.get(key)
        is_root = not document.type and not document.parent_id
        if is_root and (held is None or held.condemned_by is None):
            if document.in_progress:
                held = held or HeldTrace(self._elapsed)
                held.root = document
            else:
                rule = self._finder.find(document)
                verdict = KEEP if rule is None else rule.judge(key, now)
                if verdict is KEEP and held is None:
                    self._verdicts.put(key, KEEP)
                    return KEEP
                if verdict is KEEP or not self.asks_for_sdk_rule:
                    return self._settle(key, verdict)
                held = held or HeldTrace(self._elapsed)
                held.condemned_by = rule
        return self._hold(key, held or HeldTrace(self._elapsed), size_bytes, now)

    def _decide_otlp_trace(self, trace_id: str, now: float) -> Verdict:
        key = trace_key(trace_id)
        if key is None:
            return KEEP
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = KEEP if self.asks_for_sdk_rule else self._judge_default(key, now)
            self._settle(key, verdict)
        return verdict

    def _hold(self, key: str, held: HeldTrace, size_bytes: int, now: float) -> Verdict:
        """Hold a document, making room by deciding the oldest traces, perhaps its own."""
        while (in_the_way := self.holding.in_the_way(key, size_bytes)) is not None:
            if in_the_way == key:
                return self._settle(key, self._fallback(key, held, now))
            self._give_up_waiting(in_the_way, now)
        self.holding.add(key, held, size_bytes)
        return HOLD

    def _give_up_waiting(self, key: str, now: float) -> None:
        """Decide for a trace that is held by what is known of it."""
        held = self.holding.get(key)
        assert held is not None
        self._settle(key, self._fallback(key, held, now))

    def _fallback(self, key: str, held: HeldTrace, now: float) -> Verdict:
        """The verdict for a trace that can wait no longer."""
        if held.condemned_by is not None:
            return held.condemned_by.drop
        if held.root is not None:
            rule = self._finder.find(held.root)
            return KEEP if rule is None else rule.judge(key, now)
        return KEEP if self._keep_rootless else self._judge_default(key, now)

    def _judge_default(self, key: str, now: float) -> Verdict:
        rule = self._rules.get(DEFAULT_RULE_NAME)
        return KEEP if rule is None else rule.judge(key, now)

    def _settle(self, key: str, verdict: Verdict) -> Verdict:
        """Make a verdict final: remember it, and release what was held of the trace."""
        if verdict is not KEEP:
            rule = self._rules.get(verdict.rule_name or "")
            if rule is not None:
                rule.dropped += 1
        self._verdicts.put(key, verdict)
        self.holding.release(key, verdict)
        return verdict

    def _tick(self, now: float) -> None:
        """Look at the clock: `_elapsed` are the seconds since the first look, without its steps."""
        self._elapsed += min(max(now - self._now, 0.0), _TICK_MAX_S)
        self._verdicts.look_at_clock(self._elapsed, now)
        self._now = now
