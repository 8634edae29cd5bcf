"""`xrayd dev export` and `xrayd dev import`, on a data file and beside a running `xrayd dev`."""

import json
import os
from pathlib import Path

import pytest
from fakes.captures import DIRECTORY
from fakes.documents import make_document
from shell import put, run, running_dev, segment, url_of

ODD_CODES = {"InvalidName": 9, "InvalidTraceId": 3, "MissingName": 2, "ParseError": 1}


def lines_of(path: Path) -> dict[str, dict]:
    traces = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert len({trace["Id"] for trace in traces}) == len(traces)
    return {trace["Id"]: trace for trace in traces}


def test_captured_datagrams_come_in_and_what_is_odd_is_named(tmp_path):
    captures = sorted(map(str, DIRECTORY.glob("*.udp.jsonl")))
    result = run("dev", "import", "--data", "d.sqlite", *captures, home=tmp_path)
    assert result.code == 1
    for code, count in ODD_CODES.items():
        assert f"  {count} × {code}" in result.err
    assert f"{sum(ODD_CODES.values())} refused" in result.err

    assert run("dev", "export", "--data", "d.sqlite", "-o", "a.jsonl", home=tmp_path).code == 0
    traces = lines_of(tmp_path / "a.jsonl")
    assert len(traces) > 300
    assert all(trace["Segments"] for trace in traces.values())

    result = run("dev", "import", "--data", "again.sqlite", "a.jsonl", home=tmp_path)
    assert (result.code, "0 refused" in result.err) == (0, True)
    assert run("dev", "export", "--data", "again.sqlite", "-o", "b.jsonl", home=tmp_path).code == 0
    assert lines_of(tmp_path / "b.jsonl") == traces


def test_parquet_keeps_every_trace_and_has_columns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    capture = str(DIRECTORY / "node-aws-xray-sdk-3.12.0.udp.jsonl")
    run("dev", "import", "--data", "d.sqlite", capture, home=tmp_path)
    for name in ("a.jsonl", "a.parquet"):
        assert run("dev", "export", "--data", "d.sqlite", "-o", name, home=tmp_path).code == 0
    table = parquet.read_table(tmp_path / "a.parquet")
    traces = lines_of(tmp_path / "a.jsonl")
    assert set(table["trace_id"].to_pylist()) == traces.keys()
    for row in table.to_pylist():
        document = json.loads(row["document"])
        assert row["start_time"].timestamp() == pytest.approx(document["start_time"], abs=1e-3)
        assert row["http_status"] == document.get("http", {}).get("response", {}).get("status")

    result = run("dev", "import", "--data", "b.sqlite", "a.parquet", home=tmp_path)
    assert result.code == 0
    assert run("dev", "export", "--data", "b.sqlite", "-o", "b.jsonl", home=tmp_path).code == 0
    assert lines_of(tmp_path / "b.jsonl") == traces


def test_parquet_without_pyarrow_says_what_to_install(tmp_path):
    (tmp_path / "pyarrow.py").write_text("raise ImportError('not here')")
    put_file(tmp_path, make_document())
    assert run("dev", "import", "--data", "d.sqlite", "in.jsonl", home=tmp_path).code == 0
    command = ("dev", "export", "--data", "d.sqlite", "-o", "a.parquet")
    result = run(*command, home=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.code == 1
    assert "pip install 'xrayd[parquet]'" in result.err
    assert not list(tmp_path.glob("a.parquet*"))


def put_file(home: Path, *documents: str) -> None:
    (home / "in.jsonl").write_text("".join(f"{document}\n" for document in documents))


def test_beside_a_running_dev_both_speak_to_it(tmp_path):
    good, bad, late = segment(name="good"), segment(name="bad", fault=True), segment(name="late")
    with running_dev(tmp_path, data="d.sqlite") as dev:
        put(dev, json.dumps(good), json.dumps(bad))
        result = run("dev", "export", "--data", "d.sqlite", "fault", home=tmp_path)
        assert [json.loads(line)["Id"] for line in result.out.splitlines()] == [bad["trace_id"]]
        put_file(tmp_path, json.dumps(late))
        result = run("dev", "--data", "d.sqlite", "import", "in.jsonl", home=tmp_path)
        assert (result.code, "1 documents imported" in result.err) == (0, True)
        by_url = ("dev", "export", "--endpoint-url", url_of(dev))
        result = run(*by_url, home=tmp_path)
        wanted = {one["trace_id"] for one in (good, bad, late)}
        assert {json.loads(line)["Id"] for line in result.out.splitlines()} == wanted
        dev.kill()
    result = run("dev", "export", "--data", "d.sqlite", home=tmp_path)
    assert {json.loads(line)["Id"] for line in result.out.splitlines()} == wanted


def test_time_and_filter_choose_and_the_oldest_comes_first(tmp_path):
    old = segment(name="a", start_time=1_700_000_000.0, end_time=1_700_000_001.0)
    older = segment(name="a", start_time=1_600_000_000.0, end_time=1_600_000_001.0)
    put_file(tmp_path, *map(json.dumps, (old, segment(name="b"), older)))
    run("dev", "import", "--data", "d.sqlite", "in.jsonl", home=tmp_path)

    def exported(*args: str) -> list[str]:
        result = run("dev", "export", "--data", "d.sqlite", *args, home=tmp_path)
        return [json.loads(line)["Id"] for line in result.out.splitlines()]

    assert exported('service("a")') == [older["trace_id"], old["trace_id"]]
    assert exported("--end", "1650000000") == [older["trace_id"]]
    assert exported("--last", "1h", 'service("a")') == []
    result = run("dev", "export", "--data", "d.sqlite", "falt", home=tmp_path)
    assert (result.code, 'did you mean "fault"' in result.err) == (1, True)


def test_the_output_of_batch_get_traces_comes_in(tmp_path):
    one = segment(name="one")
    answer = {
        "Traces": [
            {
                "Id": one["trace_id"],
                "Duration": 0.1,
                "Segments": [{"Id": one["id"], "Document": json.dumps(one)}],
            }
        ],
        "UnprocessedTraceIds": [],
    }
    (tmp_path / "in.json").write_text(json.dumps(answer, indent=4))
    result = run("dev", "import", "--data", "d.sqlite", "in.json", home=tmp_path)
    assert (result.code, "1 documents imported, 0 refused" in result.err) == (0, True)


def test_a_trace_that_grew_too_large_in_parts_comes_back_whole(tmp_path):
    root = segment(name="root")
    parts = [
        segment(
            name=f"part{number}",
            trace_id=root["trace_id"],
            parent_id=root["id"],
            type="subsegment",
            start_time=root["start_time"],
            metadata={"default": {"padding": "x" * 30_000}},
        )
        for number in range(4)
    ]
    lost = segment(name="lost", parent_id="cccccccccccccccc", type="subsegment")
    put_file(tmp_path, *map(json.dumps, (root, *parts, lost)))
    assert run("dev", "import", "--data", "a.sqlite", "in.jsonl", home=tmp_path).code == 0
    for source, target in (("a.sqlite", "a.jsonl"), ("b.sqlite", "b.jsonl")):
        run("dev", "export", "--data", source, "-o", target, home=tmp_path)
        result = run("dev", "import", "--data", "b.sqlite", target, home=tmp_path)
        assert (result.code, " 0 refused" in result.err) == (0, True), result.err
    traces = lines_of(tmp_path / "a.jsonl")
    assert len((tmp_path / "a.jsonl").read_bytes()) > 120_000
    assert traces.keys() == {root["trace_id"], lost["trace_id"]}
    assert lines_of(tmp_path / "b.jsonl") == traces


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "neither JSON, JSON lines nor Parquet"),
        ("{}\n", "no trace, document or datagram"),
        ("[]\n[1]\n", "line 2"),
        ("[]\n{\n", "line 2: this is no JSON"),
        ('{"b64": "*"}\n', "line 1: b64 is no base64"),
        ('{"b64": 7}\n', "line 1: b64 is no base64"),
        ("PAR1 and nothing more", "Parquet"),
        (None, "No such file"),
    ],
)
def test_a_file_of_something_else_is_refused_with_its_place(tmp_path, content, message):
    if content is not None:
        (tmp_path / "in").write_text(content)
    if content and content.startswith("PAR1"):
        pytest.importorskip("pyarrow")
    result = run("dev", "import", "--data", "d.sqlite", "in", home=tmp_path)
    assert result.code == 1
    assert message in result.err


def test_a_missing_data_file_is_not_made_by_an_export(tmp_path):
    result = run("dev", "export", "--data", "none.sqlite", "-o", "a.jsonl", home=tmp_path)
    assert (result.code, "there is no data file" in result.err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_the_file_that_was_there(tmp_path):
    (tmp_path / "a.jsonl").write_text("before")
    command = ("dev", "export", "--endpoint-url", "127.0.0.1:1", "-o", "a.jsonl")
    result = run(*command, home=tmp_path)
    assert (result.code, "no X-Ray API" in result.err) == (1, True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.jsonl": "before"}


def test_an_export_takes_no_place_but_a_files(tmp_path):
    capture = str(DIRECTORY / "node-powertools-tracer-2.36.0.udp.jsonl")
    run("dev", "import", "--data", "d.sqlite", capture, home=tmp_path)
    (tmp_path / "link.jsonl").symlink_to("target.jsonl")
    assert run("dev", "export", "--data", "d.sqlite", "-o", "link.jsonl", home=tmp_path).code == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert lines_of(tmp_path / "target.jsonl")

    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert run("dev", "export", "--data", "d.sqlite", "-o", "pipe", home=tmp_path).code == 0
    assert (tmp_path / "pipe").is_fifo()
    os.close(reader)


def test_the_flags_of_the_daemon_still_stand_before_dev(tmp_path):
    with running_dev(tmp_path, "--demo") as dev:
        dev.wait_for_line("X-Ray API")
    result = run("dev", "nonsense", home=tmp_path)
    assert (result.code, "No such command" in result.err) == (2, True)
