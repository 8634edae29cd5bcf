"""What `GET /sampling` says and `xrayd sampling` shows: every rule with its state."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from xrayd.sampling.broker import Broker
from xrayd.sampling.rule import SamplingRule
from xrayd.sampling.rulestate import RuleStatistics
from xrayd.sampling.shares import ClientShare

_CLIENTS_SHOWN = 20


class RuleView(Struct, frozen=True):
    """A rule, and what is in force and has happened.

    Attributes:
        rule: its definition.
        state: its numbers.
        shares: what its live clients with the most requests have, twenty of them at most.
    """

    rule: SamplingRule
    state: RuleStatistics
    shares: list[ClientShare] = []


class View(Struct, frozen=True):
    """The broker as it stands.

    Attributes:
        is_authority: whether the rules are the daemon's own, from a file or the embedded endpoint.
        rules_age_s: seconds since they were fetched; None while none are known.
        clients: samplers that reported lately.
        applied: what the daemon samples itself: `off`, `undecided` or `all`.
        rules: in the order they are tried.
    """

    is_authority: bool
    rules_age_s: float | None
    clients: int
    applied: str
    rules: list[RuleView]


def view_of(broker: Broker, now: float, applied: str) -> View:
    """The broker as it stands at `now` (epoch seconds)."""
    shares = broker.shares(_CLIENTS_SHOWN, now)
    states = {state.rule_name: state for state in broker.statistics(now)}
    return View(
        is_authority=broker.is_authority,
        rules_age_s=broker.rules_age_s(now),
        clients=broker.clients(now),
        applied=applied,
        rules=[
            RuleView(rule, states[rule.rule_name], shares[rule.rule_name]) for rule in broker.rules
        ],
    )


def encode_view(broker: Broker, now: float, applied: str) -> bytes:
    """`view_of` as JSON."""
    return msgspec.json.encode(view_of(broker, now, applied))


def decode_view(body: bytes) -> View:
    """Read what `encode_view` wrote.

    Raises:
        msgspec.DecodeError: it did not.
    """
    return msgspec.json.decode(body, type=View)
