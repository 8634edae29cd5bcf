"""Traces to try filter expressions on, compiled from documents as an SDK would send them."""

from __future__ import annotations

import itertools
import json

from xrayd.dev.documents import Accepted, parse_documents
from xrayd.dev.model import Trace
from xrayd.dev.traces import compile_trace

TRACE_ID = "1-5759e988-bd862e3fe1be46a994272793"
T0 = 1_700_000_000.0


def segment(name="api", number=1, *, start=0.0, end=1.0, parent=None, **fields):
    """A segment document; `number` and `parent` are small numbers, times seconds after T0."""
    document = {
        "name": name,
        "id": f"{number:016x}",
        "trace_id": TRACE_ID,
        "start_time": T0 + start,
        **fields,
    }
    if end is None:
        document["in_progress"] = True
    else:
        document["end_time"] = T0 + end
    if parent is not None:
        document["parent_id"] = f"{parent:016x}"
    return document


def subsegment(name="work", number=2, *, parent=None, **fields):
    """A subsegment document: independent with a parent, else to be embedded."""
    document = segment(name, number, parent=parent, **fields)
    if parent is not None:
        document["type"] = "subsegment"
    return document


def http(*, status=None, **request):
    """An `http` block."""
    block = {"request": request} if request else {}
    return block | ({"response": {"status": status}} if status is not None else {})


def failure(*exceptions):
    """A `cause` with exceptions given as (type, message)."""
    numbers = itertools.count(0xE0)
    return {
        "exceptions": [
            {"id": f"{next(numbers):016x}", "type": name, "message": message}
            for name, message in exceptions
        ]
    }


def compile_documents(*documents) -> Trace:
    """The trace of these documents, long after the last arrived."""
    accepted = []
    for document in documents:
        for verdict in parse_documents(json.dumps(document)):
            assert isinstance(verdict, Accepted), verdict
            accepted.append(verdict.document)
    return compile_trace(TRACE_ID, accepted, now=T0 + 1000, last_received=T0)
