"""What a search through SQL finds is what looking at every trace would find."""

from __future__ import annotations

import msgspec
from api_endpoint import NOW, SettableClock, endpoint
from filter_strategies import GROUPS, expressions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_strategies import TRACE_ID, document_lists

from xrayd.dev.filters.evaluate import compile_filter
from xrayd.dev.filters.syntax import format_expression
from xrayd.dev.traces import compile_trace

EVER = {"StartTime": 0, "EndTime": NOW * 2}


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(document_lists(), min_size=1, max_size=3), expressions)
def test_a_search_finds_what_matches_and_nothing_else(several, expression):
    text = format_expression(expression)
    matches = compile_filter(text, GROUPS).matches
    expected = set()
    with endpoint(clock=SettableClock(NOW)) as shared:
        for name, group in GROUPS.items():
            shared.ask("/CreateGroup", GroupName=name, FilterExpression=group)
        for number, documents in enumerate(several):
            trace_id = f"{TRACE_ID[:-1]}{number}"
            for document in documents:
                document.trace_id = trace_id
            texts = [msgspec.json.encode(document).decode() for document in documents]
            answer = shared.ask("/TraceSegments", TraceSegmentDocuments=texts)
            assert answer["UnprocessedTraceSegments"] == []
            if matches(compile_trace(trace_id, documents, now=NOW + 60, last_received=NOW)):
                expected.add(trace_id)
        shared.clock.now += 60
        answer = shared.ask("/TraceSummaries", **EVER, FilterExpression=text)
    assert {summary["Id"] for summary in answer["TraceSummaries"]} == expected
