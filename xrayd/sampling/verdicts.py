"""What was decided for which trace, and the part of the decision that needs no memory."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

RANDOM_PART = slice(-14, None)
"""Where a trace id's last 56 bits stand in a `trace_key`."""

TRACE_ID_LENGTH = 35
"""Characters of a `trace_key`."""

_W3C_LENGTH = 32


class Action(StrEnum):
    """What is to become of a document."""

    KEEP = "keep"
    DROP = "drop"
    HOLD = "hold"


class Verdict(Struct, frozen=True):
    """What is to become of a document, and by which rule where a rule decided."""

    action: Action
    rule_name: str | None = None


KEEP = Verdict(Action.KEEP)
HOLD = Verdict(Action.HOLD)


def trace_key(trace_id: str) -> str | None:
    """The form under which a trace is remembered: lower case, a W3C id as `1-8-24`.

    None for what X-Ray refuses as `InvalidTraceId` anyway: no decision is made for those.
    """
    key = trace_id.lower()
    if len(key) == _W3C_LENGTH:
        key = f"1-{key[:8]}-{key[8:]}"
    return key if len(key) == TRACE_ID_LENGTH and key.startswith("1-") else None


def least_kept(fixed_rate: float) -> str:
    """The least random part of a trace id that is kept at a rate: `key[RANDOM_PART:] >= least`.

    The consistent probability rule of W3C Trace Context level 2 and OpenTelemetry: the last 56 bits
    decide, R ≥ (1 - rate) · 2^56. The same on every host, and what is kept at a low rate is kept at
    every higher one. Hex digits of one length and case sort like the numbers they stand for.

    Args:
        fixed_rate: 0 to 1.
    """
    least = int((1 - fixed_rate) * 2**56)  # exact: a float below 1 has 53 bits behind the point
    return f"{least:014x}" if least < 2**56 else "g"  # above every digit: nothing is kept


class Generation(NamedTuple):
    """Traces, by `trace_key`: those kept, and those dropped with their verdict.

    Where it is large and cold, a set is looked into at half the cost of a dictionary: its hashes
    are beside each other.
    """

    kept: set[str]
    drops: dict[str, Verdict]

    def find(self, key: str) -> Verdict | None:
        """What was decided for a trace; None where nothing was."""
        return KEEP if key in self.kept else self.drops.get(key)


class VerdictTable:
    """Verdicts by trace, kept for at least `ttl_s` after they were last asked for.

    Two generations: what is asked for is put into the young one too; when that is full or has lived
    for a TTL it becomes the old one, and the old one is forgotten. So memory is bounded by
    `size_max` traces, whatever comes.

    Whoever decides for many documents at once may look into the generations and put their verdicts
    into the young one, beyond its bound, if `look_at_clock` is called between.

    Attributes:
        young: what was decided or asked for lately; another one after any other call from time to
            time.
        old: what was decided before that.
        young_from: traces that began after the old ones were decided have greater ids than this,
            where the clock that made the id is right and ours did not step back.
    """

    def __init__(self, size_max: int, ttl_s: float) -> None:
        self.young = Generation(set(), {})
        self.old = Generation(set(), {})
        self.young_from = ""
        self._half = max(size_max // 2, 1)
        self._ttl_s = ttl_s
        self._elapsed_s = self._turned_at = self._now = 0.0

    def __len__(self) -> int:
        """Entries; a trace may have one in each generation."""
        return sum(len(each.kept) + len(each.drops) for each in (self.young, self.old))

    def look_at_clock(self, elapsed_s: float, now: float) -> None:
        """Forget what is due.

        Args:
            elapsed_s: seconds on a clock that never steps.
            now: epoch seconds.
        """
        self._elapsed_s, self._now = elapsed_s, now
        if elapsed_s - self._turned_at >= self._ttl_s or self._is_full():
            self._turn()

    def get(self, key: str) -> Verdict | None:
        """The verdict for a trace, by `trace_key`, if it is still known."""
        verdict = self.young.find(key)
        if verdict is None and (verdict := self.old.find(key)) is not None:
            self.put(key, verdict)
        return verdict

    def put(self, key: str, verdict: Verdict) -> None:
        """Remember a verdict."""
        if self._is_full():
            self._turn()
        if verdict is KEEP:
            self.young.kept.add(key)
        else:
            self.young.drops[key] = verdict

    def _is_full(self) -> bool:
        return len(self.young.kept) + len(self.young.drops) >= self._half

    def _turn(self) -> None:
        self.old, self.young = self.young, Generation(set(), {})
        self._turned_at = self._elapsed_s
        self.young_from = f"1-{int(self._now) + 1:08x}"  # an id tells whole seconds
