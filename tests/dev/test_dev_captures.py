"""Recorded traffic of real clients against a process, over its sockets; and junk."""

import json
import socket
import time

import pytest
from api_endpoint import check_answer
from dev_process import DevProcess, post_from
from fakes.captures import load_captures
from fakes.documents import make_document
from fakes.process import PATIENCE_S
from test_api_captures import REFUSED

CAPTURES = load_captures()
CLIENTS = sorted({request.client for request in CAPTURES.requests})
CALLER = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding")

ODD = {
    "nan_infinity_metadata": 1,
    "sqlalchemy_core": 1,
    "names": 8,
    "unicode": 2,
    "explicit_ids_and_parent": 3,
}
"""Documents X-Ray refuses, by scenario; `captures/README.md` says what is odd about them."""


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    with DevProcess(tmp_path_factory.mktemp("dev"), data=":memory:") as process:
        yield process


@pytest.mark.parametrize("client", CLIENTS)
def test_recorded_calls_are_answered_as_clients_expect(client, tmp_path):
    """Twice, the second time with everything there that the first has made."""
    with DevProcess(tmp_path, data=":memory:") as dev:
        requests = [one for one in CAPTURES.requests if one.client == client]
        for number, request in enumerate(requests * 2):
            headers = {name: value for name, value in request.headers if name.lower() not in CALLER}
            answer = dev.request(request.method, request.path, request.body, headers)
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-amzn-requestid"]
            if answer.status == 200:
                check_answer(request.path, answer.body)
            else:
                assert answer.status in (400, 404), (request.path, answer)
                assert answer.headers["x-amzn-errortype"].endswith("Exception")
                assert json.loads(answer.body)["Message"]
                is_repeated = number >= len(requests)
                assert is_repeated or client.startswith("api-boto3"), (request.path, answer)
        dev.end()


def test_the_first_of_boto3s_recorded_calls_fail_only_where_nothing_is_there_yet(tmp_path):
    with DevProcess(tmp_path, data=":memory:") as dev:
        for request in CAPTURES.requests:
            if request.client.startswith("api-boto3"):
                answer = dev.request(request.method, request.path, request.body)
                expected = REFUSED.get(request.path)
                assert answer.headers.get("x-amzn-errortype") == expected, request.path


def test_every_recorded_datagram_is_taken_and_only_the_odd_documents_are_refused(tmp_path):
    datagrams = CAPTURES.datagrams
    with DevProcess(tmp_path, "-m", "64") as dev:
        for number, datagram in enumerate(datagrams):
            dev.send(datagram.data)
            if number % 20 == 19:  # the kernel's buffer may be as small as 208 KB
                wait_for_empty_buffer(dev)
        ledger = dev.end()
        assert dev.stderr == []
    odd = sum(ODD.values())
    assert ledger["received"] == len(datagrams)
    assert (ledger["unprocessed"], ledger["sent"]) == (odd, len(datagrams) - odd)
    assert ledger["rejected"] == ledger["spilled"] == ledger["difference"] == 0
    assert ledger["kernel_dropped"] == 0


def wait_for_empty_buffer(dev):
    deadline = time.monotonic() + PATIENCE_S
    while dev.udp_queued_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.002)


JUNK = [
    b"not json",
    b"[]",
    b"null",
    b"7",
    b'"text"',
    b"\xff\xfe",
    b"{" * 100_000,
    b"[" * 100_000,
    b'{"TraceSegmentDocuments":' + b"[" * 100_000,
    b'{"TraceSegmentDocuments":null}',
    b'{"TraceSegmentDocuments":[null]}',
    b'{"TraceSegmentDocuments":{"a":1}}',
    b'{"TraceSegmentDocuments":"{}"}',
    b'{"TraceIds":[1e999]}',
    b'{"StartTime":NaN,"EndTime":1}',
    b'{"StartTime":1e300,"EndTime":1e308}',
    b'{"StartTime":-1e300,"EndTime":1e300}',
    b'{"StartTime":"yesterday","EndTime":true}',
    b'{"StartTime":0,"EndTime":9999999999,"FilterExpression":"((((("}',
    b'{"StartTime":0,"EndTime":9999999999,"FilterExpression":"' + b"(" * 50_000 + b'"}',
    b'{"StartTime":0,"EndTime":9999999999,"NextToken":"\\u0000"}',
    b'{"SamplingStatisticsDocuments":[{}]}',
    b'{"SamplingStatisticsDocuments":[null,[],{"RuleName":{}}]}',
    b'{"SamplingRule":{"RuleName":"\\u0000"}}',
]
PATHS = (
    *("/TraceSegments", "/Traces", "/TraceSummaries", "/ServiceGraph", "/TraceGraph"),
    *("/SamplingTargets", "/GetSamplingRules", "/CreateSamplingRule", "/TelemetryRecords"),
    *("/TimeSeriesServiceStatistics", "/CreateGroup", "/Groups", "/TagResource"),
)


@pytest.mark.parametrize("path", PATHS)
def test_junk_has_an_answer_and_ends_nothing(path, dev):
    for junk in JUNK:
        answer = dev.post(path, junk)
        assert answer.status in (200, 400, 404), (junk[:80], answer)
        assert isinstance(json.loads(answer.body), dict)
    assert dev.get("/healthz").status == 200


JUNK_DOCUMENTS = [
    *("", " ", "{}", "[]", "null", "1", '"a"', "{", "[{}]", "[" * 5000, "\u0000"),
    *("T1S", "T1S!", "T1SAAAA", "T1U", "M1", "M1S////"),
    make_document(name=None, trace_id=None),
    make_document(start_time="now"),
    make_document(start_time=-1),
    make_document(http=[], aws="x", annotations=[1], metadata=7, subsegments={}),
    make_document(subsegments=[None, 1, {}]),
    make_document(http={"response": {"status": 10**30, "content_length": -1}}),
    make_document(http={"response": {"status": "200"}}),
    make_document(annotations={"a": 1e308, "b" * 1000: "c", "": None}),
    make_document(name="x" * 201),
    make_document(links=[{}, {"trace_id": 1}, {"trace_id": "1-0-0", "id": ""}]),
    make_document(cause={"exceptions": [None, {"stack": "x"}]}),
    make_document(parent_id="0" * 16, type="subsegment"),
]


def test_junk_documents_are_judged_one_by_one_and_end_nothing(tmp_path):
    """Over both ways, with every reading operation behind them."""
    with DevProcess(tmp_path) as dev:
        for document in JUNK_DOCUMENTS:
            answer = dev.post("/TraceSegments", json.dumps({"TraceSegmentDocuments": [document]}))
            assert answer.status == 200, document
        dev.send_document(*JUNK_DOCUMENTS)
        good = make_document()
        dev.send_document(good)
        trace_id = json.loads(good)["trace_id"]
        dev.wait_for_line(trace_id)
        for window in ({"StartTime": 0, "EndTime": 1e10}, {"StartTime": 1e299, "EndTime": 1e300}):
            for path in ("/TraceSummaries", "/ServiceGraph"):
                answer = dev.post(path, json.dumps(window))
                assert answer.status in (200, 400), answer
        assert dev.segments(trace_id)
        ledger = dev.end()
        assert dev.stderr == []
    assert ledger["difference"] == 0


def test_what_is_no_http_is_refused_and_ends_nothing(dev):
    for junk in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"SSH-2.0-x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\0" * 500,
    ):
        with dev.tcp() as tcp:
            tcp.sendall(junk)
            tcp.shutdown(socket.SHUT_WR)
            assert tcp.recv(4096)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 505"), junk
    assert dev.get("/healthz").status == 200


def test_a_body_too_large_is_refused_and_one_of_fifty_full_documents_is_not(dev):
    documents = [make_document(size=64_000) for _ in range(50)]
    assert dev.put(*documents) == []
    with dev.tcp() as tcp:
        tcp.sendall(b"POST /TraceSegments HTTP/1.1\r\nHost: localhost\r\n")
        tcp.sendall(b"Content-Length: 8388609\r\n\r\n")
        assert tcp.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_a_user_who_opens_the_port_is_told_what_it_is(path, dev):
    answer = dev.get(path)
    assert answer.status == 200
    assert "xrayd dev" in answer.body.decode()


@pytest.mark.parametrize("path", ["/favicon.ico", "/TraceSegments", "/../etc/passwd", "/?a=b"])
def test_a_get_of_anything_else_finds_nothing(path, dev):
    assert dev.get(path).status == 404


def test_an_unknown_operation_has_the_error_clients_know(dev):
    answer = post_from(dev, {}, "/NoSuchOperation")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
