"""A rule as the daemon's own sampling applies it."""

from __future__ import annotations

from xrayd.sampling.reservoir import Draw, Reservoir
from xrayd.sampling.rule import SamplingRule
from xrayd.sampling.verdicts import KEEP, RANDOM_PART, Action, Verdict, least_kept

_NOTHING, _BORROWED = Draw.NOTHING, Draw.BORROWED


class RuleAtWork:
    """A rule with its rate in force, its reservoir and its statistics since the last report.

    Attributes:
        rule: its definition.
        least: the least random part of a trace id that the rate in force keeps.
        reservoir: what is kept before the rate is asked.
        kept: traces kept, borrowed ones included.
        dropped: traces dropped; whoever makes a verdict final counts it.
        borrowed: traces kept on borrowed reservoir.
        drop: its verdict where it does not keep.
    """

    __slots__ = ("borrowed", "drop", "dropped", "kept", "least", "reservoir", "rule")

    def __init__(self, rule: SamplingRule) -> None:
        self.rule = rule
        self.least = least_kept(rule.fixed_rate)
        self.reservoir = Reservoir(rule.reservoir_size)
        self.kept = self.dropped = self.borrowed = 0
        self.drop = Verdict(Action.DROP, rule.rule_name)

    def follow(self, rule: SamplingRule) -> None:
        """Take over a changed definition; a rate AWS set stays unless the rule's own changed."""
        if rule.fixed_rate != self.rule.fixed_rate:
            self.least = least_kept(rule.fixed_rate)
        self.rule = rule
        self.reservoir.resize(rule.reservoir_size)

    def judge(self, key: str, now: float) -> Verdict:
        """Decide for a trace and count a verdict to keep; one to drop counts when it is final."""
        reservoir = self.reservoir
        # Many documents come in at one time.
        if now == reservoir.empty_at or (draw := reservoir.draw(now)) is _NOTHING:
            if key[RANDOM_PART] < self.least:
                return self.drop
        elif draw is _BORROWED:
            self.borrowed += 1
        self.kept += 1
        return KEEP

    def take_counts(self) -> tuple[int, int, int]:
        """Traces, those kept, and those kept on borrowed reservoir, since the last call."""
        counts = self.kept + self.dropped, self.kept, self.borrowed
        self.kept = self.dropped = self.borrowed = 0
        return counts
