"""The X-Ray API as a function from a path and a body to an answer.

Thread-safe and synchronous: an HTTP listener calls `XRayApi.handle` in worker threads.

Sources: botocore `xray` model (operations, paths, shapes, errors); AWS REST-JSON protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from xrayd.dev.answers import ApiAnswer, ApiError, answer, refuse
from xrayd.dev.backend import Backend, Handler
from xrayd.dev.database import BusyError, TooSlowError
from xrayd.dev.model import Trace
from xrayd.dev.operations import (
    graphs,
    groups,
    insights,
    intake,
    retrieval,
    sampling,
    settings,
    tags,
    traces,
)
from xrayd.dev.operations.compiling import compile_in_background
from xrayd.dev.retention import AGE_S_MAX, BYTES_MAX, retain
from xrayd.dev.shapes import request_model
from xrayd.dev.store import Store
from xrayd.dev.totals import Totals
from xrayd.errors import StoreError

HANDLERS: Mapping[str, Handler] = {
    "BatchGetTraces": traces.batch_get_traces,
    "CancelTraceRetrieval": retrieval.cancel_trace_retrieval,
    "CreateGroup": groups.create_group,
    "CreateSamplingRule": sampling.create_sampling_rule,
    "DeleteGroup": groups.delete_group,
    "DeleteResourcePolicy": settings.delete_resource_policy,
    "DeleteSamplingRule": sampling.delete_sampling_rule,
    "GetEncryptionConfig": settings.get_encryption_config,
    "GetGroup": groups.get_group,
    "GetGroups": groups.get_groups,
    "GetIndexingRules": settings.get_indexing_rules,
    "GetInsight": insights.refuse_insight,
    "GetInsightEvents": insights.refuse_insight,
    "GetInsightImpactGraph": insights.refuse_insight,
    "GetInsightSummaries": insights.get_insight_summaries,
    "GetRetrievedTracesGraph": retrieval.get_retrieved_traces_graph,
    "GetSamplingRules": sampling.get_sampling_rules,
    "GetSamplingStatisticSummaries": sampling.get_sampling_statistic_summaries,
    "GetServiceGraph": graphs.get_service_graph,
    "GetTimeSeriesServiceStatistics": graphs.get_time_series_service_statistics,
    "GetTraceGraph": graphs.get_trace_graph,
    "GetTraceSegmentDestination": settings.get_trace_segment_destination,
    "GetTraceSummaries": traces.get_trace_summaries,
    "ListResourcePolicies": settings.list_resource_policies,
    "ListRetrievedTraces": retrieval.list_retrieved_traces,
    "ListTagsForResource": tags.list_tags_for_resource,
    "PutEncryptionConfig": settings.put_encryption_config,
    "PutResourcePolicy": settings.put_resource_policy,
    "PutTelemetryRecords": intake.put_telemetry_records,
    "PutTraceSegments": intake.put_trace_segments,
    "StartTraceRetrieval": retrieval.start_trace_retrieval,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "UpdateGroup": groups.update_group,
    "UpdateIndexingRule": settings.update_indexing_rule,
    "UpdateSamplingRule": sampling.update_sampling_rule,
    "UpdateTraceSegmentDestination": settings.update_trace_segment_destination,
}
"""Operations of the model by name; with those of `BODY_HANDLERS` they are all there are."""

BODY_HANDLERS: Mapping[str, Callable[[Backend, bytes], bytes]] = {
    "GetSamplingTargets": sampling.get_sampling_targets,
}
"""Operations that read their body themselves, more liberally than the model."""


class XRayApi:
    """The embedded X-Ray endpoint.

    Args:
        store: where traces and settings are kept.
        region: AWS region in ARNs.
        account: AWS account id in ARNs.
        clock: epoch seconds.
        on_traces: told the ids of the traces whose documents were just stored.

    Raises:
        StoreError: the store cannot be read.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float],
        region: str = "us-east-1",
        account: str = "000000000000",
        on_traces: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        self.backend = Backend(store, region, account, clock, on_traces)
        sampling.serve_rules(self.backend)
        self._model = request_model()

    def handle(self, path: str, body: bytes) -> ApiAnswer:
        """The answer to a POST. Never raises: what goes wrong is an X-Ray error answer.

        Args:
            path: the request path without a query, e.g. `/TraceSegments`.
            body: the whole body; empty means `{}`.
        """
        try:
            operation = self._model.paths.get(path)
            if operation is None:
                raise ApiError("UnknownOperationException", f"There is no operation at {path}.")
            if operation.name in BODY_HANDLERS:
                return answer(BODY_HANDLERS[operation.name](self.backend, body))
            request = self._model.read(operation, _decode(body))
            return answer(HANDLERS[operation.name](self.backend, request))
        except ApiError as error:
            return refuse(error)
        except TooSlowError as error:
            return refuse(ApiError("InvalidRequestException", str(error)))
        except BusyError as error:
            return refuse(ApiError("ThrottledException", str(error)))
        except StoreError as error:
            return refuse(ApiError("InternalFailure", str(error)))

    def compile_due(self, limit: int = 200, budget_s: float = 0.2) -> int:
        """Prepare traces for reading; call it now and then, in a worker thread.

        Reads compile what is missing themselves, but only so much: where documents arrive faster,
        this is what makes their traces visible.

        Args:
            limit: traces at most.
            budget_s: seconds it should take.

        Returns:
            How many were compiled; call again soon while it is `limit`.

        Raises:
            StoreError: reading or writing failed; what was not compiled is tried again.
        """
        return compile_in_background(self.backend, limit, budget_s)

    def retain(self, *, age_s_max: float = AGE_S_MAX, bytes_max: int = BYTES_MAX) -> int:
        """Forget some traces that are too old, or the oldest of too many; in a worker thread.

        Args:
            age_s_max: seconds since a trace's last document.
            bytes_max: bytes of data and indexes that may stay.

        Returns:
            How many were forgotten; call again soon while it is not 0.

        Raises:
            StoreError: reading or writing failed.
        """
        return retain(
            self.backend.store, self.backend.clock(), age_s_max=age_s_max, bytes_max=bytes_max
        )

    def load(self, trace_ids: Sequence[str]) -> list[Trace]:
        """The traces with these ids (X-Ray or W3C form) that there are, put together now.

        Raises:
            StoreError: reading failed.
        """
        return traces.load_compiled(self.backend, trace_ids)

    def show_sampling(self) -> bytes:
        """The sampling rules and their state as JSON, for `xrayd sampling`."""
        return self.backend.authority.show(self.backend.clock())

    def totals(self) -> Totals:
        """Requests by service and by group since the start, of the traces compiled so far."""
        return self.backend.counters.totals()


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError("SerializationException", "the request body is not JSON") from None
    except RecursionError:
        raise ApiError("SerializationException", "the request body is nested too deeply") from None
