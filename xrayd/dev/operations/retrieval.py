"""Trace retrieval: X-Ray fetches long-kept traces as a job; here they are at hand and the job is
done at once.

Source: botocore `xray` model.
"""

from __future__ import annotations

import secrets

import msgspec

from xrayd.dev.answers import ApiError, invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.model import Trace
from xrayd.dev.operations.graphs import graph_of
from xrayd.dev.operations.traces import load_compiled, window_of
from xrayd.dev.resources import Kind, changing_resources, reading_resources
from xrayd.dev.summary import render_trace
from xrayd.dev.tokens import page

RETRIEVALS_KEPT = 100
"""Retrievals remembered; beyond that the oldest is forgotten."""

PAGE_TRACES = 5
"""Traces to a page of ListRetrievedTraces."""


class Retrieval(msgspec.Struct):
    """What was asked for, when (epoch seconds), and whether it was cancelled since."""

    trace_ids: list[str]
    start: float
    end: float
    made_at: float
    is_cancelled: bool = False

    @property
    def status(self) -> str:
        """The `RetrievalStatus`."""
        return "CANCELLED" if self.is_cancelled else "COMPLETE"


RETRIEVAL = Kind("retrieval", Retrieval)


def start_trace_retrieval(backend: Backend, request: Request) -> Members:
    """StartTraceRetrieval: remembers what was asked for."""
    start, end = window_of(request)
    token = secrets.token_urlsafe(24)
    with changing_resources(backend.store.database) as resources:
        known = resources.all(RETRIEVAL)
        if len(known) >= RETRIEVALS_KEPT:
            resources.delete(RETRIEVAL, min(known, key=lambda name: known[name].made_at))
        retrieval = Retrieval(request["TraceIds"], start, end, backend.clock())
        resources.put(RETRIEVAL, token, retrieval)
    return {"RetrievalToken": token}


def list_retrieved_traces(backend: Backend, request: Request) -> Members:
    """ListRetrievedTraces: the traces of that window, as X-Ray segments."""
    retrieval = _find(backend, request)
    if request.get("TraceFormat", "XRAY") != "XRAY":
        raise invalid("The trace format OTEL is not supported locally.")
    shown, more = page(
        "ListRetrievedTraces",
        sorted(_retrieved(backend, retrieval), key=lambda trace: trace.id),
        key=lambda trace: trace.id,
        kind=str,
        token=request.get("NextToken"),
        size=PAGE_TRACES,
    )
    rendered = [render_trace(trace) for trace in shown]
    return {
        "RetrievalStatus": retrieval.status,
        "TraceFormat": "XRAY",
        "Traces": [
            {"Id": trace["Id"], "Duration": trace["Duration"], "Spans": trace["Segments"]}
            for trace in rendered
        ],
        **more,
    }


def get_retrieved_traces_graph(backend: Backend, request: Request) -> Members:
    """GetRetrievedTracesGraph: the service graph of those traces alone."""
    retrieval = _find(backend, request)
    services = graph_of(_retrieved(backend, retrieval))
    return {
        "RetrievalStatus": retrieval.status,
        "Services": [{"Service": service, "Links": []} for service in services],
    }


def cancel_trace_retrieval(backend: Backend, request: Request) -> Members:
    """CancelTraceRetrieval: nothing runs that could be stopped, but nothing is given any more."""
    retrieval = _find(backend, request)
    retrieval.is_cancelled = True
    with changing_resources(backend.store.database) as resources:
        resources.put(RETRIEVAL, request["RetrievalToken"], retrieval)
    return {}


def _retrieved(backend: Backend, retrieval: Retrieval) -> list[Trace]:
    if retrieval.is_cancelled:
        return []
    return [
        trace
        for trace in load_compiled(backend, retrieval.trace_ids)
        if trace.start < retrieval.end and trace.end >= retrieval.start
    ]


def _find(backend: Backend, request: Request) -> Retrieval:
    token = request["RetrievalToken"]
    with reading_resources(backend.store.database) as resources:
        retrieval = resources.get(RETRIEVAL, token)
    if retrieval is None:
        raise ApiError("ResourceNotFoundException", "The retrieval was not found.", token)
    return retrieval
