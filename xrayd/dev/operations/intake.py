"""What daemons and applications send: segment documents and the daemon's telemetry.

Sources: botocore `xray` model; AWS X-Ray Developer Guide, "Sending trace data to X-Ray" (verdicts
come document by document, in a 200).
"""

from __future__ import annotations

from typing import Any

from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.documents import Accepted, Rejected, RejectionCode, parse_documents
from xrayd.dev.model import Document
from xrayd.dev.otlp import is_otlp, read_payload
from xrayd.dev.resources import Kind, changing_resources

TIME_MAX = 1e11
"""Times of a segment from here on are no seconds since 1970 (it would be the year 5138)."""

TELEMETRY_KEPT = 60
"""Telemetry records kept for each host, the latest: an hour of the reference daemon's."""

HOSTS_KEPT = 50
"""Hosts whose telemetry is kept; a new one beyond that takes the place of the first by name."""

TELEMETRY = Kind("telemetry", list[dict[str, Any]])
"""A host's latest telemetry records as sent, oldest first; by host name or instance id."""


def put_trace_segments(backend: Backend, request: Request) -> Members:
    """PutTraceSegments: stores what is good, names what is not; one bad document hurts no other."""
    accepted: list[Accepted] = []
    rejected: list[Rejected] = []
    unsampled = metrics = 0
    for text in request["TraceSegmentDocuments"]:
        if is_otlp(text):
            payload = read_payload(text)
            verdicts = payload.verdicts
            unsampled += payload.unsampled
            metrics += text.startswith("M1")
        else:
            verdicts = parse_documents(text)
        for verdict in verdicts:
            if isinstance(verdict, Rejected):
                rejected.append(verdict)
            elif _is_datable(verdict.document):
                accepted.append(verdict)
            else:
                code = RejectionCode.MISSING_START_TIME
                message = f"Invalid segment. ErrorCode: {code}"
                rejected.append(Rejected(verdict.document.id, code, message))
    touched = backend.store.add(accepted, backend.clock())
    backend.intake.add(len(accepted), len(rejected), unsampled, metrics)
    if touched:
        backend.on_traces(touched)
    return {
        "UnprocessedTraceSegments": [
            {"Id": one.id, "ErrorCode": str(one.code), "Message": one.message} for one in rejected
        ]
    }


def _is_datable(document: Document) -> bool:
    """Whether all its times are times in seconds: milliseconds would lie far beyond any search."""
    return (
        document.start_time < TIME_MAX
        and (document.end_time is None or abs(document.end_time) < TIME_MAX)
        and all(map(_is_datable, document.subsegments))
    )


def put_telemetry_records(backend: Backend, request: Request) -> Members:
    """PutTelemetryRecords: keeps the latest of each host."""
    host = request.get("Hostname") or request.get("EC2InstanceId") or ""
    with changing_resources(backend.store.database) as resources:
        stored = resources.all(TELEMETRY)
        if host not in stored and len(stored) >= HOSTS_KEPT:
            resources.delete(TELEMETRY, next(iter(stored)))
        records = [*stored.get(host, []), *request["TelemetryRecords"]]
        resources.put(TELEMETRY, host, records[-TELEMETRY_KEPT:])
    return {}
