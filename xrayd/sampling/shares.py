"""How one rule's quota is split among the clients that report the rule."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

INTERVAL_S = 10
"""Seconds between reports, of clients to us and of us to AWS, unless AWS says otherwise."""

LIVE_INTERVALS = 3
"""A client that has not reported a rule for so many intervals is taken for gone."""


class ClientShare(Struct, frozen=True):
    """What one client has of a rule.

    Attributes:
        client_id: the client.
        requests_per_s: requests a second that it has had lately.
        share: requests a second of the quota that it holds.
        ttl: epoch seconds, the last second in which the share counts; None: it holds none.
    """

    client_id: str
    requests_per_s: float
    share: int
    ttl: int | None


class Holder:
    """A client of one rule.

    Attributes:
        seen_at: epoch seconds of its last report of the rule.
        rate: requests a second that it has had lately.
        share: requests a second that it holds.
        until: epoch seconds at which the share ends. Clients compare whole seconds, so that is one
            second behind its TTL.
        due: the share by the last split; None: it had no part in that.
    """

    __slots__ = ("due", "rate", "seen_at", "share", "until")

    def __init__(self, seen_at: float, rate: float) -> None:
        self.seen_at = seen_at
        self.rate = rate
        self.share = 0
        self.until = 0
        self.due: int | None = None

    def is_alive(self, interval_s: float, now: float) -> bool:
        """Whether it reported the rule within the last three intervals."""
        return now - self.seen_at <= LIVE_INTERVALS * interval_s

    def held(self, now: float) -> int:
        """What it holds that still counts."""
        return self.share if now < self.until else 0


def split_quota(quota: int, rates: Sequence[float]) -> list[int]:
    """Split a quota: to each what it needs as far as it goes round (max-min fair), what is left
    over evenly, and the remainder to the first.

    Args:
        quota: whole requests a second.
        rates: requests a second that each client has.

    Returns:
        Whole requests a second for each; their sum is the quota if there is anybody.
    """
    count = len(rates)
    if not count or math.ceil(min(rates)) > quota // count:
        return _split_evenly(quota, count)
    shares = [0] * count
    left, unmet = quota, count
    by_need = sorted(range(count), key=rates.__getitem__)
    for place in by_need:
        need = math.ceil(rates[place])
        if need > left // unmet:
            break
        shares[place] = need
        left -= need
        unmet -= 1
    # To those that need more; to all, where all have what they need.
    takers = sorted(by_need[-unmet:])
    for place, more in zip(takers, _split_evenly(left, len(takers)), strict=True):
        shares[place] += more
    return shares


def _split_evenly(quota: int, count: int) -> list[int]:
    if not count:
        return []
    each, remainder = divmod(quota, count)
    return [each + 1] * remainder + [each] * (count - remainder)
