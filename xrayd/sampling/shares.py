"""One rule's quota, shared among the clients that report the rule.

What is granted is never handed out twice: a share stays accounted until its TTL ends or its holder
reports again, whatever happened to the holder meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from msgspec import Struct

LIVE_INTERVALS = 3
"""A client that has not reported a rule for so many intervals is taken for gone."""

HOLDERS_MAX = 5_000
"""Clients per rule that can hold a share. A local daemon sees a few hundred; more are counted but
get no quota.
"""

_SPLIT_FOR_S = 1.0
_SPLIT_FOR_EACH_S = 0.04
"""How long a computed split serves: a second, and so much for each client where there are many,
which is 8 s of the 10 between their reports for 200. So its cost does not grow with them.
"""

_FORGET_AFTER_S = 3_600
"""An ended share is kept in mind so long, in case the clock steps back to where it counts again."""


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


class _Holder:
    """A client: when it last reported the rule, how many requests a second it has, the share it
    holds until `ttl`, and the one it is due by the last split; None: it had no part in that.
    """

    __slots__ = ("due", "rate", "seen_at", "share", "ttl")

    def __init__(self, seen_at: float, rate: float) -> None:
        self.seen_at = seen_at
        self.rate = rate
        self.share = 0
        self.ttl = -1
        self.due: int | None = None

    def is_alive(self, interval_s: float, now: float) -> bool:
        return now - self.seen_at <= LIVE_INTERVALS * interval_s

    def held(self, now: float) -> int:
        # Clients compare whole seconds, so the TTL's own second still counts.
        return self.share if int(now) <= self.ttl else 0


class Shares:
    """The clients of one rule and what each holds of its quota."""

    __slots__ = (
        *("_cleared_at", "_held", "_holders"),
        *("_split_among", "_split_at", "_split_quota", "_split_until"),
    )

    def __init__(self) -> None:
        self._holders: dict[str, _Holder] = {}
        self._split_among = 0
        self._split_at = -math.inf
        self._split_until = -math.inf
        self._split_quota = -1
        self._held = 0
        self._cleared_at = -math.inf

    def note(self, client_id: str, requests: int, interval_s: float, now: float) -> None:
        """A client reported the rule with so many requests since its last report."""
        holder = self._holders.get(client_id)
        if holder is None:
            if len(self._holders) >= HOLDERS_MAX:
                self._make_room(interval_s, now)
            if len(self._holders) < HOLDERS_MAX:
                self._holders[client_id] = _Holder(now, requests / interval_s)
            return
        elapsed = now - holder.seen_at
        if elapsed < 1.0:
            elapsed = 1.0
        elif elapsed > LIVE_INTERVALS * interval_s:
            elapsed = LIVE_INTERVALS * interval_s
        rate, had = requests / elapsed, holder.rate
        # Up at once, down by halves: a pause of one interval does not cost a client its share.
        holder.rate = rate if rate > had else (rate + had) / 2
        holder.seen_at = now

    def hand_out(
        self, client_id: str, quota: int, ttl: int, interval_s: float, now: float
    ) -> int | None:
        """The share of a client that has just reported, and that it holds from now on.

        Args:
            client_id: the client, already noted.
            quota: requests a second granted to all clients together.
            ttl: epoch seconds, the last second in which the grant counts.
            interval_s: seconds between reports.
            now: epoch seconds.

        Returns:
            Requests a second, or None: nothing is free for a client that holds nothing and should
            have something. It is better left without a quota, so that it borrows until the others
            have reported and given up theirs.
        """
        holder = self._holders.get(client_id)
        if holder is None:
            return None
        if quota != self._split_quota or not self._split_at <= now < self._split_until:
            self._compute(quota, interval_s, now)
        own = holder.share if now < holder.ttl + 1 else 0
        due = holder.due
        if due is None:  # came after the split was computed
            due = quota // (self._split_among + 1)
        free = quota - self._held + own
        share = due if due <= free else max(free, 0)
        if not share and due and not own:
            return None
        self._held += share - own
        holder.share = share
        holder.ttl = ttl
        return share

    def held(self, now: float) -> int:
        """All shares that count at `now`, in requests a second."""
        return sum(holder.held(now) for holder in self._holders.values())

    def alive(self, interval_s: float, now: float) -> int:
        """How many clients reported the rule within the last three intervals."""
        return len(self.clients(interval_s, now))

    def clients(self, interval_s: float, now: float) -> list[str]:
        """The clients that reported the rule within the last three intervals."""
        return [
            client_id
            for client_id, holder in self._holders.items()
            if holder.is_alive(interval_s, now)
        ]

    def largest(self, most: int, interval_s: float, now: float) -> list[ClientShare]:
        """The live clients with the most requests, at most so many."""
        found = [
            (self._holders[client_id], client_id) for client_id in self.clients(interval_s, now)
        ]
        found.sort(key=lambda each: (-each[0].rate, each[1]))
        return [
            ClientShare(
                client_id, holder.rate, holder.held(now), holder.ttl if holder.held(now) else None
            )
            for holder, client_id in found[:most]
        ]

    def _make_room(self, interval_s: float, now: float) -> None:
        """Forget who is gone and holds nothing that counts; at most once an interval.

        Without it, clients that came and went while no quota was granted would keep all that come
        later from ever having a share.
        """
        if 0 <= now - self._cleared_at < interval_s:
            return
        self._cleared_at = now
        for client_id, holder in list(self._holders.items()):
            holder.seen_at = min(holder.seen_at, now)  # after a clock step back
            if not holder.is_alive(interval_s, now) and not holder.held(now):
                del self._holders[client_id]

    def _compute(self, quota: int, interval_s: float, now: float) -> None:
        demands: dict[str, float] = {}
        held, live_s = 0, LIVE_INTERVALS * interval_s
        for client_id, holder in list(self._holders.items()):
            unseen_s = now - holder.seen_at
            if unseen_s < 0:  # after a clock step back
                holder.seen_at, unseen_s = now, 0.0
            if now < holder.ttl + 1:
                held += holder.share
            if unseen_s <= live_s:
                demands[client_id] = holder.rate
                continue
            holder.due = None
            if not holder.share or holder.ttl + _FORGET_AFTER_S < now:
                del self._holders[client_id]
        self._held = held
        for client_id, due in split_quota(quota, demands).items():
            self._holders[client_id].due = due
        self._split_among = len(demands)
        self._split_at, self._split_quota = now, quota
        self._split_until = now + max(_SPLIT_FOR_S, _SPLIT_FOR_EACH_S * len(demands))


def split_quota(quota: int, demands: Mapping[str, float]) -> dict[str, int]:
    """Share out a quota: to each what it needs as far as it goes round (max-min fair), what is left
    over evenly, and the remainder to the first by name.

    Args:
        quota: whole requests a second.
        demands: requests a second that each client has.

    Returns:
        Whole requests a second for each; their sum is the quota if there is anybody.
    """
    shares: dict[str, int] = {}
    left = quota
    by_need = sorted(zip(demands.values(), demands, strict=True))
    for place, (rate, client_id) in enumerate(by_need):
        need = math.ceil(rate)
        if need > left // (len(by_need) - place):
            return shares | _split_evenly(left, [name for _, name in by_need[place:]])
        shares[client_id] = need
        left -= need
    for client_id, more in _split_evenly(left, demands).items():
        shares[client_id] += more
    return shares


def _split_evenly(quota: int, names: Iterable[str]) -> dict[str, int]:
    ordered = sorted(names)
    each, remainder = divmod(quota, len(ordered)) if ordered else (0, 0)
    return {name: each + (place < remainder) for place, name in enumerate(ordered)}
