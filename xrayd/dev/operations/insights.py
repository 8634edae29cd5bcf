"""Insights: X-Ray's detection of anomalies, which a laptop has none of. There are never any."""

from __future__ import annotations

from typing import NoReturn

from xrayd.dev.answers import invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.operations.groups import find_group


def get_insight_summaries(backend: Backend, request: Request) -> Members:
    """GetInsightSummaries: none, for any group that exists."""
    if request["StartTime"] > request["EndTime"]:
        raise invalid("StartTime must not be after EndTime.")
    find_group(backend, request)
    return {"InsightSummaries": []}


def refuse_insight(backend: Backend, request: Request) -> NoReturn:
    """GetInsight, GetInsightEvents and GetInsightImpactGraph: there is none of any id.

    Raises:
        ApiError: `InvalidRequestException`, always.
    """
    raise invalid(f"Insight not found: {request['InsightId']}. There are no insights locally.")
