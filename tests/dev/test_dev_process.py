"""`xrayd dev` from outside: what goes in by UDP and TCP, what stays, how it starts and ends."""

import http.client
import json
import signal
import socket
import sqlite3
import threading
import time

import pytest
from dev_process import ADDRESS, DevProcess
from fakes.documents import make_document
from fakes.process import Xrayd, free_port

TRACE_LINE = r"^\d\d:\d\d:\d\d  1-[0-9a-f]{8}-[0-9a-f]{24}  \w+( \d+)? +\d+ ms  \S"


def trace_of(document):
    return json.loads(document)["trace_id"]


def ids_of(segments):
    return [segment["id"] for segment in segments]


def test_a_newcomer_sees_a_trace_within_seconds(tmp_path):
    began = time.monotonic()
    with DevProcess(tmp_path, "--demo", data=":memory:", ready=TRACE_LINE) as dev:
        assert time.monotonic() - began < 10
        assert dev.lines[0].startswith("xrayd ")
        assert f"AWS_XRAY_DAEMON_ADDRESS=127.0.0.1:{dev.port}" in dev.lines[1]
        assert f"--endpoint-url http://127.0.0.1:{dev.port}" in dev.lines[2]


def test_a_datagram_is_stored_once_and_counted_once_by_the_relay(tmp_path):
    document = make_document(name="once")
    with DevProcess(tmp_path) as dev:
        dev.send_document(document)
        dev.wait_for_line(trace_of(document))
        assert ids_of(dev.segments(trace_of(document))) == [json.loads(document)["id"]]
        (summary,) = dev.summaries()
        assert summary["Revision"] == 1
        ledger = dev.end()
    assert (ledger["received"], ledger["sent"], ledger["difference"]) == (1, 1, 0)
    assert sum(trace_of(document) in line for line in dev.lines) == 1


def test_a_posted_document_is_stored_once_and_never_enters_the_relay(tmp_path):
    posted, sent = make_document(), make_document()
    with DevProcess(tmp_path) as dev:
        assert dev.put(posted) == []
        assert ids_of(dev.segments(trace_of(posted))) == [json.loads(posted)["id"]]
        dev.send_document(sent)
        dev.wait_for_line(trace_of(sent))
        assert [one["Revision"] for one in dev.summaries()] == [1, 1]
        ledger = dev.end()
    assert (ledger["received"], ledger["sent"], ledger["difference"]) == (1, 1, 0)


def test_put_trace_segments_answers_document_by_document(tmp_path):
    good, bad = make_document(), make_document(name="no [brackets]")
    with DevProcess(tmp_path, data=":memory:") as dev:
        unprocessed = dev.put("no json", good, bad, make_document(id=None), good)
        assert [one["ErrorCode"] for one in unprocessed] == [
            "ParseError", "InvalidName", "MissingId",
        ]  # fmt: skip
        assert [one["Id"] for one in unprocessed] == [None, json.loads(bad)["id"], None]
        assert ids_of(dev.segments(trace_of(good))) == [json.loads(good)["id"]]


@pytest.mark.parametrize("ending", ["killed", "stopped"])
def test_what_was_acknowledged_is_there_after_a_restart(ending, tmp_path):
    documents = [make_document() for _ in range(20)]
    with DevProcess(tmp_path) as dev:
        for document in documents[:10]:
            assert dev.put(document) == []
        rule = {"RuleName": "mine", "Priority": 5, "FixedRate": 0.5, "ReservoirSize": 0}
        matchers = ("ResourceARN", "ServiceName", "ServiceType", "Host", "HTTPMethod", "URLPath")
        anything = dict.fromkeys(matchers, "*")
        dev.call("/CreateSamplingRule", SamplingRule={**rule, **anything, "Version": 1})
        assert dev.put(*documents[10:]) == []
        if ending == "killed":
            dev.kill()
        else:
            dev.end()
    with DevProcess(tmp_path) as dev:
        assert {one["Id"] for one in dev.summaries()} == set(map(trace_of, documents))
        rules = dev.call("/GetSamplingRules")["SamplingRuleRecords"]
        # The one that changed last comes last: the Java SDK looks no further than that.
        assert [one["SamplingRule"]["RuleName"] for one in rules] == ["Default", "mine"]


def test_memory_leaves_no_file_and_forgets(tmp_path):
    document = make_document()
    with DevProcess(tmp_path, data=":memory:") as dev:
        assert dev.put(document) == []
        assert dev.segments(trace_of(document))
        dev.end()
    assert list(tmp_path.iterdir()) == []
    with DevProcess(tmp_path, data=":memory:") as dev:
        assert dev.segments(trace_of(document)) == []


def test_without_data_a_file_of_the_users_own_is_used(tmp_path):
    port = str(free_port())
    address = f"127.0.0.1:{port}"
    with Xrayd("-b", address, "-t", address, "dev", home=tmp_path, port=int(port)) as dev:
        file = tmp_path / ".local/share/xrayd/dev.sqlite"
        dev.wait_for_line(r"  ~/\.local/share/xrayd/dev\.sqlite$")
        assert file.exists()
        assert file.parent.stat().st_mode & 0o777 == 0o700


def run_refused(process, code=1):
    """Start what must refuse to start; its one message."""
    with process:
        assert process.wait() == code
        assert process.stdout == []
        return "\n".join(process.stderr)


def test_a_second_process_on_the_same_file_is_told_who_has_it(tmp_path):
    with DevProcess(tmp_path) as first:
        message = run_refused(DevProcess(tmp_path, ready=None))
        assert message.startswith("xrayd: --data: ")
        assert f"in use by another xrayd (process {first.pid})" in message
        assert len(message.splitlines()) == 1


def test_a_file_of_another_program_is_left_alone(tmp_path):
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    message = run_refused(DevProcess(tmp_path, data="other.sqlite", ready=None))
    assert "the database of another program; name another file with --data" in message


def test_a_folder_that_is_not_there_is_a_message(tmp_path):
    message = run_refused(DevProcess(tmp_path, data="nowhere/traces.sqlite", ready=None))
    assert message.startswith("xrayd: --data: ")
    assert len(message.splitlines()) == 1


def test_flags_stand_before_and_behind_the_word(tmp_path):
    """The original image's entry point comes before the word, a user's own flags behind it."""
    entry = ("-t", "0.0.0.0:{port}", "-b", "0.0.0.0:{port}", "dev", "--data", ":memory:")
    with Xrayd(*entry, home=tmp_path) as dev:
        dev.wait_for_line(f"AWS_XRAY_DAEMON_ADDRESS=127.0.0.1:{dev.port}")
        dev.wait_for_line(f"--endpoint-url http://127.0.0.1:{dev.port}")
    behind = ("-b", "127.0.0.1:1", "dev", "--data=:memory:", "-t", ADDRESS, "--bind", ADDRESS)
    with Xrayd(*behind, "-n", "eu-west-1", home=tmp_path) as dev:
        rules = json.loads(dev.post("/GetSamplingRules").body)["SamplingRuleRecords"]
        assert rules[0]["SamplingRule"]["RuleARN"].startswith("arn:aws:xray:eu-west-1:")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dev", "--no-such-flag"], "No such option"),
        (["dev", "--data"], "requires an argument"),
        (["dev", "-m", "much"], "'much' is not a valid integer"),
        (["dev", "stray"], "No such command 'stray'"),
        (["-no-such-flag", "dev"], "flag provided but not defined"),
    ],
)
def test_a_bad_flag_is_a_message_and_exit_code_2(words, said, tmp_path):
    assert said in run_refused(Xrayd(*words, home=tmp_path, ready=None), 2)


@pytest.mark.parametrize("words", [["-b", "nonsense", "dev"], ["dev", "-t", "127.0.0.1:99999"]])
def test_a_bad_address_is_a_message_and_exit_code_1(words, tmp_path):
    message = run_refused(Xrayd(*words, home=tmp_path, ready=None))
    assert "is no address; write host:port" in message


def test_help_explains_itself(tmp_path):
    with Xrayd("dev", "--help", home=tmp_path, ready=None) as helped:
        assert helped.wait() == 0
    for word in ("--data", "--demo", "--bind-tcp", "no account"):
        assert word in helped.output


def test_the_health_check_finds_it(tmp_path):
    with DevProcess(tmp_path, data=":memory:") as dev:
        for words in (["healthcheck"], ["healthcheck", "--upstream"]):
            with Xrayd("-t", ADDRESS, *words, home=tmp_path, port=dev.port, ready=None) as check:
                assert check.wait() == 0, check.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_within_seconds_though_nobody_calls(number, tmp_path):
    with DevProcess(tmp_path, "--demo", data=":memory:") as dev:
        began = time.monotonic()
        dev.signal(number)
        assert dev.wait() == 0
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("data", ["traces.sqlite", ":memory:"])
def test_a_stop_under_load_keeps_what_was_acknowledged(data, tmp_path):
    acknowledged: list[str] = []
    with DevProcess(tmp_path, data=data) as dev:
        callers = [threading.Thread(target=call_on, args=(dev, acknowledged)) for _ in range(4)]
        sender = threading.Thread(target=send_on, args=(dev,))
        for thread in (*callers, sender):
            thread.start()
        while len(acknowledged) < 50:
            assert dev.running
            time.sleep(0.01)
        ledger = dev.end()
        for thread in (*callers, sender):
            thread.join()
    # The sender goes on to the end: what came by UDP after the last was stored is counted.
    assert ledger["received"] == ledger["sent"] + ledger["spilled"]
    assert ledger["sent"] > 0
    assert ledger["difference"] == 0
    if data != ":memory:":
        with DevProcess(tmp_path) as dev:
            kept = {one["Id"] for one in dev.summaries()}
            assert not [one for one in acknowledged if one not in kept]


def call_on(dev, acknowledged):
    """Put documents over kept connections until the process is gone."""
    while dev.running:
        connection = http.client.HTTPConnection("127.0.0.1", dev.port, timeout=10)
        try:
            while True:
                document = make_document()
                connection.request(
                    "POST", "/TraceSegments", json.dumps({"TraceSegmentDocuments": [document]})
                )
                response = connection.getresponse()
                response.read()
                if response.status == 200:
                    acknowledged.append(trace_of(document))
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()


def send_on(dev):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        header = b'{"format":"json","version":1}\n'
        while dev.running:
            sock.sendto(header + make_document(size=900).encode(), ("127.0.0.1", dev.port))
            time.sleep(0.001)


def test_terminal_lines_cannot_be_broken_by_senders(tmp_path):
    first = make_document(name="web")
    parent = json.loads(first)
    evil = make_document(
        name="a\n00:00:00  1-6b030ba4-785daaaebc59e78e592b9b4a  ok 200 \r\u2028b",
        trace_id=parent["trace_id"],
        parent_id=parent["id"],
        start_time=parent["start_time"] + 0.01,
    )
    with DevProcess(tmp_path, data=":memory:") as dev:
        assert dev.put(first, evil) == []
        line = dev.wait_for_line(parent["trace_id"]).string
        assert line.isprintable()
        assert r"web → a\n" in line
        dev.end()
    assert all(line.isprintable() for line in dev.lines)
