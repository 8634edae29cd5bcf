"""A Node service calls a Python service calls a Java service: one trace over three processes."""

from itertools import pairwise
from typing import Any

import pytest
from live.chain import SERVICES, chain
from live.conftest import StartClient
from live.daemon import DaemonUnderTest, daemon_address, wait_for_ids


def services(answer: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [answer, *services(answer["next"])] if answer and "service" in answer else []


@pytest.mark.parametrize(("path", "status"), [("/orders/7", 200), ("/orders/fail", 500)])
def test_segments_of_three_services_link_into_one_trace(
    path: str, status: int, daemon: DaemonUnderTest, start_client: StartClient
) -> None:
    with chain(start_client, daemon_address(daemon)) as get:
        answers = services(get(path))
    received = wait_for_ids(daemon, {answer["segment_id"] for answer in answers})

    assert [answer["service"] for answer in answers] == [service for service, _ in SERVICES]
    assert len({answer["trace_id"] for answer in answers}) == 1
    segments = [received.by_id[answer["segment_id"]] for answer in answers]
    assert [segment.name for segment in segments] == [service for service, _ in SERVICES]
    assert {segment.trace_id for segment in segments} == {answers[0]["trace_id"]}

    assert segments[0].parent_id is None
    for caller, callee in pairwise(segments):
        call = received.by_id[callee.parent_id]
        assert call.is_subsegment
        assert call.parent_id == caller.body["id"]
        assert call.body["namespace"] == "remote"
        assert call.body["http"]["response"]["status"] == status
    assert [segment.body["http"]["response"]["status"] for segment in segments] == [status] * 3
    assert [bool(segment.body.get("fault")) for segment in segments] == [status == 500] * 3
