"""What `xrayd dev` does beside its requests, and what it says when that fails."""

import json
import sqlite3
import time
from contextlib import closing

import pytest
from dev_process import DevProcess
from fakes.documents import make_document
from fakes.process import PATIENCE_S


def sizable(at, size=20_000):
    """A document of some size that began `at`."""
    padding = {"pad": {"pad": "x" * size}}
    return make_document(start_time=at, end_time=at + 0.1, metadata=padding)


def wait_for_ids(dev, wanted):
    """Wait until exactly these traces are left."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := {one["Id"] for one in dev.summaries()}) != wanted:
        assert time.monotonic() < deadline, (len(found), len(wanted))
        time.sleep(0.05)


def trace_of(document):
    return json.loads(document)["trace_id"]


def test_above_the_size_that_is_kept_the_oldest_traces_go(tmp_path):
    now = time.time()
    first = [sizable(now - 60) for _ in range(220)]
    latest = [sizable(now - 30, 100) for _ in range(20)]
    with DevProcess(tmp_path) as dev:
        for begin in range(0, len(first), 20):
            assert dev.put(*first[begin : begin + 20]) == []
        assert dev.put(*latest) == []
        dev.wait_for_summaries(240)
        dev.end()
    with DevProcess(tmp_path, "--keep-mb", "1") as dev:
        wait_for_ids(dev, {trace_of(document) for document in first[200:] + latest})
        assert dev.segments(trace_of(latest[-1]))
        dev.end()


def test_traces_go_when_their_days_are_over(tmp_path):
    with DevProcess(tmp_path) as dev:
        assert dev.put(make_document(), make_document()) == []
        dev.wait_for_summaries(2)
        dev.end()
    with DevProcess(tmp_path, "--keep-days", "0.0000001") as dev:
        wait_for_ids(dev, set())


@pytest.mark.parametrize("words", [("--keep-mb", "0"), ("--keep-days", "0"), ("--keep-mb", "x")])
def test_a_senseless_bound_is_a_message(words, tmp_path):
    with DevProcess(tmp_path, *words, ready=None) as dev:
        assert dev.wait() == 2
        assert words[0] in dev.output


def test_a_store_that_cannot_prepare_traces_says_so_and_goes_on(tmp_path):
    with DevProcess(tmp_path) as dev:
        with closing(sqlite3.connect(tmp_path / "traces.sqlite")) as behind_its_back:
            behind_its_back.execute("ALTER TABLE rollup RENAME TO lost")
        document = make_document()
        assert dev.put(document) == []
        dev.wait_for_line("not prepared for reading: .*no such table: rollup")
        assert dev.segments(trace_of(document))
        with closing(sqlite3.connect(tmp_path / "traces.sqlite")) as behind_its_back:
            behind_its_back.execute("ALTER TABLE lost RENAME TO rollup")
        dev.wait_for_summaries(1)
        dev.end()


def test_what_is_odd_in_the_configuration_is_said(tmp_path):
    with DevProcess(tmp_path, env={"XRAYD_NO_SUCH_THING": "1"}) as dev:
        dev.wait_for_line("XRAYD_NO_SUCH_THING")


@pytest.mark.parametrize("by_udp", [True, False], ids=["udp", "http"])
def test_times_beyond_any_calendar_hurt_nobody(by_udp, tmp_path):
    now = time.time()
    odd = [
        make_document(start_time=start, end_time=end)
        for start, end in [(1e14, 1e14), (now, 1e300), (1e300, 1e300), (now, -1e300), (1e11, now)]
    ]
    odd += [make_document(start_time=-1e14), make_document(end_time=float("inf"))]
    good = make_document()
    with DevProcess(tmp_path) as dev:
        if by_udp:
            for document in [*odd, good]:
                dev.send_document(document)
        else:
            assert len(dev.put(*odd, good)) == len(odd)
        assert [one["Id"] for one in dev.wait_for_summaries(1)] == [trace_of(good)]
        window = {"StartTime": now - 3600, "EndTime": now + 3600}
        dev.call("/ServiceGraph", **window)
        dev.call("/TimeSeriesServiceStatistics", **window)
        dev.call("/TraceSummaries", StartTime=0, EndTime=9e10)
        ledger = dev.end()
    assert ledger["difference"] == 0
    assert ledger["unprocessed"] == (len(odd) if by_udp else 0)
