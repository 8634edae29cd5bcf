"""The store by itself: what is acknowledged stays, what is unusable is not destroyed."""

from __future__ import annotations

import copy
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from api_endpoint import NOW, endpoint, segment, trace_id

from xrayd.dev import schema
from xrayd.dev.database import MEMORY, BusyError, Database, TooSlowError
from xrayd.dev.documents import Accepted, parse_documents
from xrayd.dev.store import DOCUMENTS_MAX, Store
from xrayd.errors import StoreError

HOUR = {"StartTime": NOW - 3600, "EndTime": NOW + 3600}


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "data.sqlite")


def read(*documents):
    return [parse_documents(json.dumps(document))[0] for document in documents]


def fill(path: str) -> None:
    """A file with one trace in it, closed in good order."""
    with endpoint(path) as shared:
        shared.put(segment(1, 1, "api", 0))
        shared.ask("/TraceSummaries", **HOUR)


def found(shared) -> list[str]:
    return [one["Id"] for one in shared.ask("/TraceSummaries", **HOUR)["TraceSummaries"]]


class TestKeeping:
    def test_traces_outlive_the_process(self, path):
        fill(path)
        with endpoint(path) as shared:
            assert shared.api.backend.store.database.notice is None
            assert found(shared) == [trace_id(1)]

    def test_what_was_not_compiled_before_the_end_is_compiled_after(self, path):
        with endpoint(path) as shared:
            shared.put(segment(1, 1, "api", 0))
        with endpoint(path) as shared:
            assert found(shared) == [trace_id(1)]

    def test_what_is_written_back_is_in_the_file_itself(self, path):
        def stored() -> int:
            # the file alone, as if there were no log beside it
            alone = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
            try:
                return alone.execute("SELECT count(*) FROM document").fetchone()[0]
            finally:
                alone.close()

        with endpoint(path) as shared:
            database = shared.api.backend.store.database
            database.checkpoint()
            shared.put(segment(1, 1, "api", 0))
            assert stored() == 0
            database.checkpoint()
            assert stored() == 1
        database.checkpoint()  # nothing is left to do

    def test_a_batch_is_kept_whole_or_not_at_all(self, path):
        store = Store(Database(path))
        good, bad = read(segment(1, 1, "a", 0), segment(2, 2, "b", 0))
        bad.text = 7j  # what SQLite cannot take
        with pytest.raises(StoreError):
            store.add([good, bad], NOW)
        assert store.load([trace_id(1)]) == {}
        assert store.add([good], NOW) == [trace_id(1)]
        assert list(store.load([trace_id(1)])) == [trace_id(1)]
        store.close()

    def test_more_documents_than_a_statement_takes(self, path):
        store = Store(Database(path))
        documents = read(*(segment(n // 3, n, "a", 0) for n in range(1, 500)))
        touched = store.add(documents, NOW)
        assert touched == [trace_id(n) for n in range(167)]
        assert sum(len(one.documents) for one in store.load(touched).values()) == 499
        store.close()

    def test_many_threads_write_and_read_at_once(self, path):
        failures = []

        def work(shared, number):
            try:
                for step in range(20):
                    shared.put(segment(number * 100 + step, step + 1, "api", step))
                    shared.ask("/TraceSummaries", **HOUR, FilterExpression="ok")
                    shared.ask("/ServiceGraph", **HOUR)
            except Exception as error:  # noqa: BLE001 - told to the test's own thread
                failures.append(error)

        for where in (path, MEMORY):
            with endpoint(where) as shared:
                threads = [threading.Thread(target=work, args=(shared, n)) for n in range(1, 5)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert failures == []
                assert len(found(shared)) == 80
                (service,) = [
                    one
                    for one in shared.ask("/ServiceGraph", **HOUR)["Services"]
                    if one["Type"] != "client"
                ]
                assert service["SummaryStatistics"]["TotalCount"] == 80


CHILD = """
import json, sys
sys.path.insert(0, sys.argv[2])
from api_endpoint import endpoint, segment
with endpoint(sys.argv[1]) as shared:
    number = 0
    while True:
        number += 1
        shared.put(segment(number, number, "api", 0))
        print(number, flush=True)
"""


def run_child(path: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, path, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )


class TestProcesses:
    def test_a_killed_process_loses_nothing_it_acknowledged(self, path):
        with run_child(path) as child:
            acknowledged = [int(child.stdout.readline()) for _ in range(200)]
            child.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
        with endpoint(path) as shared:
            assert shared.api.backend.store.database.notice is None
            store = shared.api.backend.store
            kept = store.load([trace_id(number) for number in acknowledged])
            assert len(kept) == len(acknowledged)

    def test_a_second_process_is_told_who_has_the_file(self, path):
        with run_child(path) as child:
            child.stdout.readline()
            with pytest.raises(StoreError, match=rf"in use by another xrayd \(process {child.pid}"):
                Database(path)
            child.kill()
        Database(path).close()

    def test_a_link_to_the_file_is_the_same_file(self, path):
        link = f"{path}.link"
        os.symlink(path, link)
        first = Database(path)
        with pytest.raises(StoreError, match="in use by another xrayd"):
            Database(link)
        first.close()
        Database(link).close()
        assert not os.path.exists(f"{link}.lock")

    def test_the_same_process_cannot_open_it_twice_either(self, path):
        first = Database(path)
        with pytest.raises(StoreError, match=str(os.getpid())):
            Database(path)
        first.close()
        Database(path).close()


class TestUnusableFiles:
    @pytest.mark.parametrize("spoil", ["header", "schema", "middle", "not-a-database"])
    def test_a_damaged_file_is_moved_aside_whole(self, path, spoil):
        fill(path)
        data = bytearray(Path(path).read_bytes())
        if spoil == "header":
            data[:16] = b"\0" * 16
        elif spoil == "schema":
            data[100:200] = b"\xff" * 100
        elif spoil == "middle":
            data[schema.PAGE_BYTES :] = os.urandom(len(data) - schema.PAGE_BYTES)
        else:
            data[:] = b"notes that somebody keeps here"
        Path(path).write_bytes(data)
        with endpoint(path) as shared:
            notice = shared.api.backend.store.database.notice
            assert "is damaged" in notice
            assert f"{path}.damaged-1" in notice
            assert found(shared) == []
            shared.put(segment(2, 2, "api", 0))
        assert Path(f"{path}.damaged-1").read_bytes() == data

    def test_aside_is_always_a_new_name(self, path):
        for number in (1, 2):
            Path(path).write_bytes(b"nonsense")
            database = Database(path)
            assert f"damaged-{number}" in database.notice
            database.close()

    def test_a_newer_file_is_moved_aside(self, path):
        fill(path)
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        connection.close()
        with endpoint(path) as shared:
            notice = shared.api.backend.store.database.notice
            assert "newer xrayd" in notice
            assert found(shared) == []
        assert Path(f"{path}.newer-1").exists()

    def test_the_file_of_another_program_is_refused_and_left_alone(self, path):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE photos (id)")
        connection.close()
        before = Path(path).read_bytes()
        with pytest.raises(StoreError, match="another program"):
            Database(path)
        assert Path(path).read_bytes() == before

    def test_an_empty_file_is_a_new_one(self, path):
        Path(path).touch()
        database = Database(path)
        assert database.notice is None
        database.close()

    def test_a_place_that_cannot_be_written_says_so(self, tmp_path):
        with pytest.raises(StoreError, match="cannot use the database"):
            Database(str(tmp_path / "absent" / "data.sqlite"))
        with pytest.raises(StoreError, match="cannot use the database"):
            Database(str(tmp_path))

    def test_damage_come_upon_while_running_is_looked_for_at_the_next_start(self, path):
        with endpoint(path) as shared:
            shared.put(*(segment(n, n, "api", 0, user="u" * 200) for n in range(1, 200)))
        with sqlite3.connect(path) as connection:
            root = connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'document'"
            ).fetchone()[0]
        connection.close()
        with Path(path).open("r+b") as file:
            file.seek((root - 1) * schema.PAGE_BYTES)
            file.write(b"\xff" * schema.PAGE_BYTES)
        with endpoint(path) as shared:
            assert shared.api.backend.store.database.notice is None
            status, answer = shared.post("/Traces", {"TraceIds": [trace_id(1)]})
            assert (status, "malformed" in answer["Message"]) == (500, True)
        with endpoint(path) as shared:
            assert "is damaged" in shared.api.backend.store.database.notice
            assert found(shared) == []
        assert Path(f"{path}.damaged-1").exists()

    def test_a_document_that_became_unreadable_is_an_answer(self, path):
        with endpoint(path) as shared:
            shared.put(segment(1, 1, "api", 0))
            with shared.api.backend.store.database.writing() as connection:
                connection.execute("UPDATE document SET body = 'no document'")
            answer = shared.api.handle("/Traces", json.dumps({"TraceIds": [trace_id(1)]}).encode())
            assert answer.status == 500
            assert "unreadable" in json.loads(answer.body)["Message"]


class TestBounds:
    def test_a_read_that_takes_too_long_is_broken_off(self, path):
        for where in (path, MEMORY):
            database = Database(where)
            with pytest.raises(TooSlowError), database.reading(limit_s=0.01) as connection:
                connection.execute(
                    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
                    " SELECT max(x) FROM n"
                ).fetchone()
            with database.reading() as connection:  # the reader is as good as new
                assert connection.execute("SELECT 1").fetchone() == (1,)
            database.close()

    def test_readers_cannot_write(self, path):
        database = Database(path)
        with pytest.raises(StoreError), database.reading() as connection:
            connection.execute("DELETE FROM resource")
        database.close()

    def test_errors_of_the_store_become_answers(self, path):
        with endpoint(path) as shared:
            for error, status, code in [
                (TooSlowError("narrow it"), 400, "InvalidRequestException"),
                (BusyError("busy"), 429, "ThrottledException"),
                (StoreError("the disk is full"), 500, "InternalFailure"),
            ]:

                def fail(trace_ids, error=error):
                    raise error

                with endpoint(on_traces=fail) as failing:
                    document = json.dumps(segment(1, 1, "api", 0))
                    body = json.dumps({"TraceSegmentDocuments": [document]}).encode()
                    answer = failing.api.handle("/TraceSegments", body)
                assert answer.status == status
                assert dict(answer.headers)["x-amzn-ErrorType"] == code
                assert json.loads(answer.body)["Message"] == str(error)
            assert shared.ask("/Groups")["Groups"]

    def test_a_full_disk_refuses_the_batch_and_keeps_the_store(self, path):
        with endpoint(path) as shared:
            database = shared.api.backend.store.database
            shared.put(segment(1, 1, "api", 0))
            with database.writing() as connection:
                (pages,) = connection.execute("PRAGMA page_count").fetchone()
                connection.execute(f"PRAGMA max_page_count = {pages}")
            big = json.dumps(segment(2, 2, "api", 0, metadata={"m": {"pad": "x" * 60_000}}))
            body = json.dumps({"TraceSegmentDocuments": [big]}).encode()
            answer = shared.api.handle("/TraceSegments", body)
            assert answer.status == 500
            assert "full" in json.loads(answer.body)["Message"]
            assert list(shared.api.backend.store.load([trace_id(1), trace_id(2)])) == [trace_id(1)]

    def test_a_full_disk_leaves_what_was_there_to_be_read(self, path):
        with endpoint(path) as shared:
            database = shared.api.backend.store.database
            shared.put(segment(1, 1, "api", 0))
            shared.clock.now += 5
            assert shared.api.compile_due() == 1
            annotations = {f"a{number}": "x" * 900 for number in range(40)}
            shared.put(*(segment(n, n, "api", 0, annotations=annotations) for n in range(2, 22)))
            with database.writing() as connection:
                (pages,) = connection.execute("PRAGMA page_count").fetchone()
                connection.execute(f"PRAGMA max_page_count = {pages}")
            shared.clock.now += 5
            with pytest.raises(StoreError, match="full"):
                shared.api.compile_due()
            assert found(shared) == [trace_id(1)]
            assert shared.ask("/ServiceGraph", **HOUR)["Services"]

    def test_a_closed_store_says_so(self, path):
        store = Store(Database(path))
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.add(read(segment(1, 1, "a", 0)), NOW)
        with pytest.raises(StoreError):
            store.load([trace_id(1)])


class TestLargeTraces:
    def test_a_trace_that_never_ends_is_compiled_less_and_less_often(self, path):
        with endpoint(path) as shared:
            for first in range(1, 3001, 500):
                shared.put(*(segment(1, n, "api", 0) for n in range(first, first + 500)))
            shared.clock.now += 5
            assert shared.api.compile_due() == 1
            shared.put(segment(1, 9000, "late", 1))
            assert shared.api.compile_due() == 0
            shared.clock.now += 2
            assert shared.api.compile_due() == 0
            shared.put(segment(1, 9001, "later", 1))  # does not put it off
            shared.clock.now += 1.1
            assert shared.api.compile_due() == 1

    def test_of_a_very_large_one_the_latest_documents_are_read(self, path):
        store = Store(Database(path))
        total = DOCUMENTS_MAX + 10
        (template,) = read(segment(1, 1, "api", 0))
        for first in range(0, total, 5000):
            batch = []
            for number in range(first, min(first + 5000, total)):
                document = copy.copy(template.document)
                document.id = f"{number:016x}"
                text = template.text.replace(template.document.id, document.id)
                batch.append(Accepted(document, text))
            store.add(batch, NOW)
        ids = [one.id for one in store.load([trace_id(1)])[trace_id(1)].documents]
        assert ids == [f"{number:016x}" for number in range(10, total)]
        store.close()
