"""The sampling broker of a dev endpoint, which is the authority: rules and quotas are its own."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence

from xrayd.sampling.broker import Broker
from xrayd.sampling.rule import SamplingRuleRecord
from xrayd.sampling.view import encode_view
from xrayd.sampling.windows import Summary


class Authority:
    """A broker that several threads may ask. Times are epoch seconds."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._broker = Broker(secrets.token_hex(12), is_authority=True)

    def load(self, read: Callable[[], Sequence[SamplingRuleRecord]], now: float) -> None:
        """Take over the rules that `read` gives; what is read last holds.

        Raises:
            StoreError: from `read`; the rules stay as they were.
        """
        with self._guard:
            self._broker.absorb_rules(read(), now)

    def rules_answer(self) -> bytes:
        """The GetSamplingRules body, without rules before `load`."""
        with self._guard:
            return self._broker.rules_answer() or b'{"SamplingRuleRecords":[]}'

    def report(self, body: bytes, now: float) -> bytes:
        """Answer a GetSamplingTargets body.

        Raises:
            ReportError: the body is no such request.
        """
        with self._guard:
            return self._broker.report(body, now)

    def summaries(self, now: float) -> list[Summary]:
        """What clients reported in the last hour."""
        with self._guard:
            return self._broker.summaries(now)

    def show(self, now: float) -> bytes:
        """The rules and their state as JSON, for `xrayd sampling`."""
        with self._guard:
            return encode_view(self._broker, now, "off")
