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


class Generations(NamedTuple):
    """What a table holds, for whoever decides for many documents at once.

    Attributes:
        young: what was decided or asked for lately, by `trace_key`. What is kept may be put there,
            if `look_at_clock` is called between.
        old: what was decided before that.
        old_drops: the traces in it that are not kept.
        young_from: traces that began after the old ones were decided have greater ids than this,
            where the clock that made the id is right.
    """

    young: dict[str, Verdict]
    old: dict[str, Verdict]
    old_drops: set[str]
    young_from: str


class VerdictTable:
    """Verdicts by trace, kept for at least `ttl_s` after they were last asked for.

    Two generations: what is asked for moves to the young one; when that is full or has lived for a
    TTL it becomes the old one, and the old one is forgotten. So memory is bounded by `size_max`
    traces, whatever comes.

    Attributes:
        generations: what is held; others from time to time, when something is put or the clock is
            looked at.
    """

    def __init__(self, size_max: int, ttl_s: float) -> None:
        self.generations = Generations({}, {}, set(), "")
        self._half = max(size_max // 2, 1)
        self._ttl_s = ttl_s
        self._young, self._old, _, _ = self.generations
        self._elapsed_s = self._turned_at = self._now = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def look_at_clock(self, elapsed_s: float, now: float) -> None:
        """Forget what is due.

        Args:
            elapsed_s: seconds on a clock that never steps.
            now: epoch seconds.
        """
        self._elapsed_s, self._now = elapsed_s, now
        if elapsed_s - self._turned_at >= self._ttl_s or len(self._young) >= self._half:
            self._turn()

    def get(self, key: str) -> Verdict | None:
        """The verdict for a trace, by `trace_key`, if it is still known."""
        verdict = self._young.get(key)
        if verdict is None and self._old:
            verdict = self._old.pop(key, None)
            if verdict is not None:
                self.put(key, verdict)
        return verdict

    def put(self, key: str, verdict: Verdict) -> None:
        """Remember a verdict."""
        if len(self._young) >= self._half:
            self._turn()
        self._young[key] = verdict

    def _turn(self) -> None:
        self._old, self._young = self._young, {}
        self._turned_at = self._elapsed_s
        drops = {key for key, verdict in self._old.items() if verdict is not KEEP}
        young_from = f"1-{int(self._now) + 1:08x}"  # an id tells whole seconds
        self.generations = Generations(self._young, self._old, drops, young_from)
