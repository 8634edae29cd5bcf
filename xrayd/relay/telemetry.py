"""Ledger -> telemetry record, as the X-Ray daemon sends it (PutTelemetryRecords)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from xrayd.relay.ledger import ConnectionErrors, Ledger

RECORDS_MAX = 30
RECORDS_PER_CALL = 10

# The members of BackendConnectionErrors (botocore model).
_ERROR_NAMES = {
    "timeout": "TimeoutCount",
    "refused": "ConnectionRefusedCount",
    "http_4xx": "HTTPCode4XXCount",
    "http_5xx": "HTTPCode5XXCount",
    "unknown_host": "UnknownHostCount",
    "other": "OtherCount",
}


def _segment_counts(ledger: Ledger) -> dict[str, int]:
    return {
        "SegmentsReceivedCount": ledger.received,
        "SegmentsSentCount": ledger.sent,
        "SegmentsSpilloverCount": ledger.spilled.total() + ledger.expired,
        "SegmentsRejectedCount": ledger.rejected.total() + ledger.unprocessed.total(),
    }


def _error_counts(errors: ConnectionErrors) -> dict[str, int]:
    return {name: getattr(errors, kind) for kind, name in _ERROR_NAMES.items()}


def _since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in now.items()}


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
        self._segments: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._queue: deque[dict[str, object]] = deque(maxlen=RECORDS_MAX)

    def cut(self, ledger: Ledger, epoch_s: float) -> bool:
        """Queue a record of what happened since the last; nothing before the first datagram."""
        if ledger.received == 0:
            return False
        segments = _segment_counts(ledger)
        errors = _error_counts(ledger.connection_errors)
        self._queue.append(
            {
                "Timestamp": epoch_s,
                **_since(self._segments, segments),
                "BackendConnectionErrors": _since(self._errors, errors),
            }
        )
        self._segments, self._errors = segments, errors
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
