"""Every document ends in exactly one counted outcome.

The identity `received + recovered = sent + rejected + unprocessed + expired + spilled +
sampled_out + queued + in_flight` holds at every moment between two calls.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

import msgspec


class Spill(StrEnum):
    """Why documents were given up for lack of room or time."""

    MEMORY_FULL = "memory_full"
    SHUTDOWN = "shutdown"


class ConnectionErrors(msgspec.Struct):
    """Requests that brought no success, by the telemetry record's six kinds."""

    timeout: int = 0
    refused: int = 0
    http_4xx: int = 0
    http_5xx: int = 0
    unknown_host: int = 0
    other: int = 0


class Ledger(msgspec.Struct):
    """Counts of documents since start; the mappings are reason -> count."""

    received_udp: int = 0
    received_tcp: int = 0
    recovered: int = 0
    sent: int = 0
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    unprocessed: Counter[str] = msgspec.field(default_factory=Counter)
    expired: int = 0
    spilled: Counter[str] = msgspec.field(default_factory=Counter)
    sampled_out: Counter[str] = msgspec.field(default_factory=Counter)
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    not_utf8: int = 0
    unread_answers: int = 0
    connection_errors: ConnectionErrors = msgspec.field(default_factory=ConnectionErrors)

    @property
    def received(self) -> int:
        """Documents and datagrams received, bad ones included."""
        return self.received_udp + self.received_tcp

    def count_unprocessed(self, code: str) -> None:
        """Count one document AWS refused for good; unheard-of codes share a bounded set."""
        known = code in self.unprocessed or len(self.unprocessed) < 50
        self.unprocessed[code if known else "other"] += 1

    def difference(self, queued: int, in_flight: int) -> int:
        """What the identity is off by, given the documents held now; 0 unless there is a bug."""
        outcomes = (
            self.sent
            + self.rejected.total()
            + self.unprocessed.total()
            + self.expired
            + self.spilled.total()
            + self.sampled_out.total()
        )
        return self.received + self.recovered - outcomes - queued - in_flight
