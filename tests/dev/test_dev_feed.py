"""One readable line for each trace, whatever its documents say and however many there are."""

import asyncio
import contextlib
import json
import logging

import pytest
from api_endpoint import NOW, segment, subsegment, trace_id

from xrayd.dev.database import MEMORY, Database
from xrayd.dev.documents import parse_documents
from xrayd.dev.feed import TraceFeed, describe
from xrayd.dev.store import Store
from xrayd.dev.traces import compile_trace

HUGE = [1e12, 1e15, 1e18, 1e300, 1.7e308]


@pytest.fixture
def store():
    store = Store(Database(MEMORY))
    yield store
    store.close()


def accept(*documents):
    return [parse_documents(json.dumps(one))[0] for one in documents]


def line_of(*documents):
    accepted = [one.document for one in accept(*documents)]
    now = max(one.start_time for one in accepted) + 60
    return describe(compile_trace(accepted[0].trace_id, accepted, now=now, last_received=0))


async def lines_for(store, caplog, *trace_ids):
    """What the feed writes about these traces, noted all at once."""
    feed = TraceFeed(store)
    running = asyncio.create_task(feed.run())
    feed.note(trace_ids)
    async with asyncio.timeout(30):
        while not caplog.messages and not running.done():  # noqa: ASYNC110 - the log has no event
            await asyncio.sleep(0.01)
    assert not running.done(), running.exception()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return caplog.messages


@pytest.fixture
def at_info(caplog):
    caplog.set_level(logging.INFO, "xrayd.traces")
    return caplog


def test_a_line_has_time_id_status_duration_and_services():
    request = {"response": {"status": 200}}
    line = line_of(segment(1, 1, "web", 0, 0.25, http=request))
    time, identity, word, status, number, unit, service = line.split()
    assert [len(part) for part in time.split(":")] == [2, 2, 2]
    assert (identity, word, status) == (trace_id(1), "ok", "200")
    assert (number, unit, service) == ("250", "ms", "web")


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"fault": True}, "FAULT"),
        ({"error": True}, "ERROR"),
        ({"error": True, "throttle": True}, "THROTTLE"),
        ({}, "ok"),
    ],
)
def test_the_status_says_how_it_went(more, word):
    assert f"  {word} " in line_of(segment(1, 1, "web", 0, **more))


def test_a_trace_still_running_is_partial():
    assert "  partial " in line_of(segment(1, 1, "web", 0, None))


@pytest.mark.parametrize("at", HUGE)
def test_a_moment_no_calendar_has_is_dashes(at):
    document = {**segment(1, 1, "web", 0), "start_time": at, "end_time": at}
    assert line_of(document).startswith(f"--:--:--  {trace_id(1)}  ok ")


def test_an_endless_trace_has_a_short_line():
    line = line_of({**segment(1, 1, "web", 0), "start_time": 0, "end_time": 1e300})
    assert "  1e+300 s  web" in line


def test_what_a_sender_wrote_cannot_break_a_line():
    line = line_of(
        segment(1, 1, "web", 0),
        segment(1, 2, "a\nb\rc\td\u2028e\u0085f\u00a0", 0.1, parent_id=f"{1:016x}"),
    )
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert r"a\nb\rc\td\u2028e\x85f\xa0" in line


def test_subsegments_without_their_parent_are_shown_below_its_placeholder(store, at_info):
    store.add(accept(subsegment(2, "## shop", 0, trace=1, parent=9, annotations={"a": 1})), NOW)
    (line,) = asyncio.run(lines_for(store, at_info, trace_id(1)))
    assert "no service" not in line
    assert "  partial " in line


def test_a_store_that_cannot_be_read_costs_a_line_and_not_the_process(store, at_info):
    store.close()
    (line,) = asyncio.run(lines_for(store, at_info, trace_id(1)))
    assert "not shown: the store is closed" in line


def test_a_flood_waits_in_bounded_memory_and_says_how_much_is_not_shown(store, at_info):
    ids = [trace_id(number) for number in range(5000)]
    lines = asyncio.run(lines_for(store, at_info, *ids))
    assert lines == ["… 3000 arrivals more than can be shown"]
