"""The rules as last fetched: served to every client from memory, for as long as it takes.

Last known good has no time limit here. The X-Ray SDKs drop their own rules after an hour, but only
where nobody answers them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from xrayd.sampling.rule import (
    SamplingRule,
    SamplingRuleRecord,
    default_record,
    encode_rules,
    in_order,
)

_RETRY_FIRST_S = 5.0
"""After a failed fetch; doubled with each further one, up to the regular interval."""

_STEP_BACK_S = 5.0
"""A clock that stepped back by more makes a fetch due: no stored time can be trusted."""


class RuleBook:
    """The rules, the bytes that answer GetSamplingRules, and when to fetch anew.

    Attributes:
        answer: the GetSamplingRules body; None until rules are known.
        rules: by name, in the order they are tried.
    """

    def __init__(self, interval_s: float) -> None:
        self.answer: bytes | None = None
        self.rules: dict[str, SamplingRule] = {}
        self._interval_s = interval_s
        self._absorbed_at = -math.inf
        self._due_at = -math.inf
        self._changed_at = 0.0
        self._modified_at = 0.0
        self._outdated_since: float | None = None
        self._failures = 0
        self._failed_at = -math.inf

    def absorb(
        self, records: Sequence[SamplingRuleRecord], now: float, asked_at: float, jitter_s: float
    ) -> bool:
        """Take over fetched rules; a default rule is added where there is none.

        Args:
            records: of all pages; of several with one name the last holds.
            now: epoch seconds.
            asked_at: when the fetch began: a modification heard of later is still to be fetched.
            jitter_s: put on top of the interval, so that hosts started together drift apart.

        Returns:
            Whether anything is different from before.
        """
        # Rules that change between the pages of a fetch can move from one to the next.
        records = list({record.sampling_rule.rule_name: record for record in records}.values())
        if not any(record.sampling_rule.is_default for record in records):
            records = [*records, default_record()]
        answer = encode_rules(records)
        is_changed = answer != self.answer
        if is_changed:
            self.answer = answer
            self.rules = {
                rule.rule_name: rule
                for rule in in_order(record.sampling_rule for record in records)
            }
            self._changed_at = now
        self._modified_at = max(self._modified_at, *(record.modified_at for record in records))
        # News from the future was heard before the clock stepped back, and so before the fetch.
        if self._outdated_since is not None and not asked_at < self._outdated_since <= now:
            self._outdated_since = None
        self._absorbed_at, self._failures = now, 0
        self._due_at = now + self._interval_s + jitter_s
        return is_changed

    def fail(self, now: float) -> None:
        """A fetch failed: wait a little longer each time.

        One more, for a client that asks before any rules are known, puts off nothing.
        """
        if not self._failures or self.is_due(now):
            self._failures += 1
            self._failed_at = now

    def hear_of_modification(self, modified_at: float, now: float) -> None:
        """Upstream says rules were last modified at `modified_at`: fetch if that is news."""
        if modified_at > self._modified_at:
            self._modified_at = modified_at
            self._outdated_since = now

    def is_due(self, now: float) -> bool:
        """Whether the rules are to be fetched."""
        if self._failures:
            doubled = _RETRY_FIRST_S * 2 ** min(self._failures - 1, 10)
            return not 0 <= now - self._failed_at < min(doubled, self._interval_s)
        return (
            self._outdated_since is not None
            or now >= self._due_at
            or now < self._absorbed_at - _STEP_BACK_S
        )

    def age_s(self, now: float) -> float | None:
        """Seconds since the rules were last fetched; None if never."""
        return None if self.answer is None else max(now - self._absorbed_at, 0.0)

    def last_modification(self, now: float) -> int:
        """What clients are told as `LastRuleModification`: the second after our own copy changed.

        Not upstream's word: a client that fetched between a change upstream and our fetch of it has
        a newer time than the change, and would keep the old rules for five minutes. Rounded up
        because the X-Ray SDKs compare whole seconds; never zero, which the one for Node takes for
        an invalid answer.
        """
        self._changed_at = min(self._changed_at, now)  # the clock stepped back: once is enough
        return int(self._changed_at) + 1
