"""Traces and their summaries.

Sources: botocore `xray` model; the limit of five traces and the refusal of NextToken by
BatchGetTraces as observed by users of X-Ray (boto3 issue 3924).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from xrayd.dev.answers import invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.documents import normalize_trace_id
from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.evaluate import compile_filter
from xrayd.dev.filters.prefilter import prefilter
from xrayd.dev.model import Trace
from xrayd.dev.operations.compiling import compile_for_reading
from xrayd.dev.operations.groups import expressions_of, load_groups
from xrayd.dev.search import Found, Query, find_page
from xrayd.dev.summary import render_trace
from xrayd.dev.tokens import cursor_of, token_of

BATCH_TRACES_MAX = 5
"""Traces of one BatchGetTraces, as in X-Ray: code that works here must work there."""


def batch_get_traces(backend: Backend, request: Request) -> Members:
    """BatchGetTraces; ids that are unknown are left out."""
    asked = request["TraceIds"]
    if len(asked) > BATCH_TRACES_MAX:
        raise invalid(f"Exceeding maximum query size: {BATCH_TRACES_MAX}")
    if "NextToken" in request:
        raise invalid("NextToken is currently not supported")
    return {
        "Traces": [render_trace(trace) for trace in load_compiled(backend, asked)],
        "UnprocessedTraceIds": [one for one in asked if normalize_trace_id(one) is None],
    }


def get_trace_summaries(backend: Backend, request: Request) -> Members:
    """GetTraceSummaries, newest first."""
    start, end = window_of(request)
    time_range = request.get("TimeRangeType", "TraceId")
    strategy = request.get("SamplingStrategy", {})
    is_sampled = strategy.get("Name") == "FixedRate"
    wanted, parameters, matches = "1", {}, None
    if "FilterExpression" in request:
        try:
            compiled = compile_filter(
                request["FilterExpression"], expressions_of(load_groups(backend))
            )
        except FilterError as error:
            raise invalid(str(error)) from None
        condition = prefilter(compiled.expression)
        wanted, parameters = condition.where, dict(condition.parameters)
        matches = None if condition.exact else compiled.matches
    token = request.get("NextToken")
    query = Query(
        start,
        end,
        time_range,
        wanted,
        parameters,
        matches,
        strategy.get("Value", 1.0) if is_sampled else 1.0,
        None if token is None else cursor_of("GetTraceSummaries", token, tuple[float, int]),
    )
    compile_for_reading(backend)
    page = find_page(backend.store.database, query, backend.clock())
    members: Members = {
        "TraceSummaries": [_summary(found, time_range) for found in page.found],
        "ApproximateTime": page.found[-1].start if page.found else start,
        "TracesProcessedCount": page.scanned,
    }
    if page.next is not None:
        members["NextToken"] = token_of("GetTraceSummaries", page.next)
    return members


def load_compiled(backend: Backend, asked: Sequence[str]) -> list[Trace]:
    """The traces that there are among those asked for, in that order, each once.

    Args:
        backend: where they are.
        asked: ids in X-Ray or W3C form, any case.
    """
    wanted = list(dict.fromkeys(filter(None, map(normalize_trace_id, asked))))
    stored = backend.store.load(wanted)
    now = backend.clock()
    return [stored[one].compile(now) for one in wanted if one in stored]


def window_of(request: Request) -> tuple[float, float]:
    """`StartTime` and `EndTime` of a request, epoch seconds.

    Raises:
        ApiError: `InvalidRequestException`, the end lies before the start.
    """
    start, end = request["StartTime"], request["EndTime"]
    if start > end:
        raise invalid("StartTime must not be after EndTime.")
    return start, end


def _summary(found: Found, time_range: str) -> msgspec.Raw:
    if time_range != "Event":
        return msgspec.Raw(found.summary)
    matched = b',"MatchedEventTime":%s}' % msgspec.json.encode(round(found.touched_at, 3))
    return msgspec.Raw(found.summary[:-1] + matched)
