"""Forgetting by age and by size, the oldest first, while documents keep coming."""

from __future__ import annotations

import threading

import pytest
from api_endpoint import NOW, endpoint, segment, trace_id

from xrayd.dev.retention import STEP_TRACES

DAY = 24 * 3600.0
EVER = {"StartTime": NOW - 1, "EndTime": NOW + 3600}


@pytest.fixture
def shared(tmp_path):
    with endpoint(str(tmp_path / "data.sqlite")) as made:
        yield made


def found(shared) -> list[str]:
    return [one["Id"] for one in shared.ask("/TraceSummaries", **EVER)["TraceSummaries"]]


def count_rows(shared) -> dict[str, int]:
    with shared.api.backend.store.database.reading() as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if name != "resource"
        ]
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in tables
        }


def test_what_was_last_touched_thirty_days_ago_goes(shared):
    link = [{"trace_id": trace_id(9), "id": "9" * 16}]
    shared.put(segment(1, 1, "api", 0, annotations={"k": 1}, user="u", links=link))
    shared.put(segment(2, 2, "api", 0))
    assert len(found(shared)) == 2
    shared.clock.now += 20 * DAY
    shared.put(segment(2, 3, "api", 1))
    assert shared.api.retain() == 0
    shared.clock.now += 11 * DAY
    assert shared.api.retain() == 1
    assert shared.api.retain() == 0
    assert found(shared) == [trace_id(2)]
    assert shared.ask("/Traces", TraceIds=[trace_id(1)])["Traces"] == []
    assert count_rows(shared)["link"] == 0


def test_nothing_of_a_trace_is_left_behind(shared):
    link = [{"trace_id": trace_id(9), "id": "9" * 16}]
    shared.put(segment(1, 1, "api", 0, annotations={"k": 1}, user="u", links=link))
    shared.ask("/TraceSummaries", **EVER)
    assert all(count_rows(shared).values())
    shared.clock.now += 31 * DAY
    assert shared.api.retain() == 1
    assert not any(count_rows(shared).values())


def test_a_full_store_forgets_the_oldest_first_step_by_step(shared):
    total = 3 * STEP_TRACES
    for number in range(1, total + 1):
        shared.clock.now += 0.001
        shared.put(segment(number, number, "api", number / 100, metadata={"m": {"p": "x" * 1000}}))
    shared.compile_all()
    database = shared.api.backend.store.database
    cap = database.used_bytes() * 6 // 10
    steps = []
    while done := shared.api.retain(bytes_max=cap):
        steps.append(done)
    assert set(steps) == {STEP_TRACES}
    assert database.used_bytes() <= cap
    kept = total - sum(steps)
    assert kept > 0
    assert found(shared)[:100] == [trace_id(number) for number in range(total, total - 100, -1)]
    gone, there = trace_id(total - kept), trace_id(total - kept + 1)
    assert [one["Id"] for one in shared.ask("/Traces", TraceIds=[gone, there])["Traces"]] == [there]


def test_sums_of_minutes_that_nothing_is_left_of_go(shared):
    shared.put(segment(1, 1, "api", -3 * 3600), segment(2, 2, "api", 0))
    early = {"StartTime": NOW - 4 * 3600, "EndTime": NOW - 2 * 3600}
    assert shared.ask("/ServiceGraph", **early)["Services"]
    shared.clock.now += 1
    shared.put(segment(2, 3, "api", 0))
    shared.clock.now += 30 * DAY
    assert shared.api.retain() == 1
    assert shared.ask("/ServiceGraph", **early)["Services"] == []
    window = {"StartTime": NOW - 60, "EndTime": NOW + 60}
    assert shared.ask("/ServiceGraph", **window)["Services"]


def test_documents_come_in_while_it_forgets(shared):
    for number in range(1, 1001, 50):
        shared.put(*(segment(n, n, "api", 0) for n in range(number, number + 50)))
    shared.clock.now += 31 * DAY
    done = threading.Event()

    def forget() -> None:
        while shared.api.retain():
            pass
        done.set()

    thread = threading.Thread(target=forget)
    thread.start()
    number = 2000
    while not done.is_set():
        number += 1
        shared.put(segment(number, number, "api", 0))
    thread.join()
    rows = count_rows(shared)
    assert rows["arrival"] == rows["document"] == number - 2000
