"""Ledger -> telemetry record, as the X-Ray daemon sends it (PutTelemetryRecords)."""

from __future__ import annotations

from collections import deque

import msgspec

from xrayd.relay.ledger import Ledger

RECORDS_MAX = 30
RECORDS_PER_CALL = 10


class _Totals(msgspec.Struct, frozen=True):
    received: int = 0
    sent: int = 0
    spillover: int = 0
    rejected: int = 0
    timeout: int = 0
    refused: int = 0
    http_4xx: int = 0
    http_5xx: int = 0
    unknown_host: int = 0
    other: int = 0


def _totals(ledger: Ledger) -> _Totals:
    errors = ledger.connection_errors
    return _Totals(
        received=ledger.received,
        sent=ledger.sent,
        spillover=ledger.spilled.total() + ledger.expired,
        rejected=ledger.rejected.total() + ledger.unprocessed.total(),
        timeout=errors.timeout,
        refused=errors.refused,
        http_4xx=errors.http_4xx,
        http_5xx=errors.http_5xx,
        unknown_host=errors.unknown_host,
        other=errors.other,
    )


class TelemetryRecords:
    """Queue of records, each the difference of the ledger since the one before.

    Args:
        instance_id, hostname, resource_arn: who sends; empty where unknown, as the daemon has it.
    """

    def __init__(self, instance_id: str, hostname: str, resource_arn: str) -> None:
        self.sender = {
            "EC2InstanceId": instance_id,
            "Hostname": hostname,
            "ResourceARN": resource_arn,
        }
        self._before = _Totals()
        self._queue: deque[dict[str, object]] = deque(maxlen=RECORDS_MAX)

    def cut(self, ledger: Ledger, epoch_s: float) -> bool:
        """Queue a record of what happened since the last; nothing before the first datagram."""
        now, before = _totals(ledger), self._before
        if now.received == 0:
            return False
        self._before = now
        self._queue.append(
            {
                "Timestamp": epoch_s,
                "SegmentsReceivedCount": now.received - before.received,
                "SegmentsSentCount": now.sent - before.sent,
                "SegmentsSpilloverCount": now.spillover - before.spillover,
                "SegmentsRejectedCount": now.rejected - before.rejected,
                "BackendConnectionErrors": {
                    "TimeoutCount": now.timeout - before.timeout,
                    "ConnectionRefusedCount": now.refused - before.refused,
                    "HTTPCode4XXCount": now.http_4xx - before.http_4xx,
                    "HTTPCode5XXCount": now.http_5xx - before.http_5xx,
                    "UnknownHostCount": now.unknown_host - before.unknown_host,
                    "OtherCount": now.other - before.other,
                },
            }
        )
        return True

    def next_body(self) -> bytes | None:
        """The body of the next call, or None where nothing is queued."""
        if not self._queue:
            return None
        records = list(self._queue)[:RECORDS_PER_CALL]
        return msgspec.json.encode({**self.sender, "TelemetryRecords": records})

    def sent(self) -> None:
        """The records of `next_body` have arrived."""
        for _ in range(min(RECORDS_PER_CALL, len(self._queue))):
            self._queue.popleft()
