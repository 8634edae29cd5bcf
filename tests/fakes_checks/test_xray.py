"""The fake X-Ray endpoint: what it accepts, and each way it can misbehave."""

import gzip
import http.client
import json
import socket
import threading
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from fakes.documents import document_id, make_document
from fakes.sigv4 import Reason
from fakes.xray import (
    ACCESS_KEY,
    SECRET_KEY,
    FakeXRay,
    Unprocessed,
    Verdict,
    refuse_above,
    refuse_containing,
    throttle_above,
)


def connect(fake, secret=SECRET_KEY, key=ACCESS_KEY, token=None, region="us-east-1", **config):
    session = boto3.session.Session(key, secret, token, region)
    retries = {"total_max_attempts": 1}
    return session.client(
        "xray",
        endpoint_url=fake.url,
        config=Config(retries=retries, proxies={}, read_timeout=20, **config),
    )


@pytest.fixture
def fake():
    with FakeXRay() as fake:
        yield fake


@pytest.fixture
def unsigned():
    """A fake that takes unsigned requests, for tests of the answers alone."""
    with FakeXRay() as fake:
        fake.verify_signatures = False
        yield fake


EMPTY_BATCH = (
    b"POST /TraceSegments HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n"
    b'{"TraceSegmentDocuments":[]}'
)


def send(fake, *documents, path="/TraceSegments"):
    """One unsigned request over a connection of its own: status, headers, body."""
    connection = http.client.HTTPConnection(*fake.address, timeout=20)
    try:
        connection.request("POST", path, json.dumps({"TraceSegmentDocuments": documents}))
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


# --- signatures -----------------------------------------------------------------------------------


def test_a_boto3_client_is_accepted_and_its_documents_are_kept(fake):
    documents = [make_document(), make_document(name="ü€😀"), "T1Snot-json"]
    answer = connect(fake).put_trace_segments(TraceSegmentDocuments=documents)
    assert answer["UnprocessedTraceSegments"] == []
    assert fake.documents == documents
    assert fake.document_ids == {document_id(d): 1 for d in documents}
    [request] = fake.requests("/TraceSegments")
    assert request.signature.reason is Reason.OK
    assert request.answered
    assert request.header("HOST") == f"127.0.0.1:{fake.port}"
    assert fake.body_bytes_received == len(request.body)


def test_every_operation_a_boto3_client_may_call_is_signed_acceptably(fake):
    client = connect(fake)
    for path in ("/TraceSummaries", "/TagResource"):
        fake.answers[path] = {}
    client.get_sampling_rules()
    client.get_trace_summaries(StartTime=0, EndTime=1)
    client.tag_resource(
        ResourceARN="arn:aws:xray:us-east-1:1:group/g/1", Tags=[{"Key": "k", "Value": "v"}]
    )
    assert [r.signature.reason for r in fake.requests()] == [Reason.OK] * 3


@pytest.mark.parametrize(
    ("code", "reason", "how"),
    [
        ("InvalidSignatureException", Reason.SIGNATURE_MISMATCH, {"secret": "wrong"}),
        ("UnrecognizedClientException", Reason.UNKNOWN_ACCESS_KEY, {"key": "AKIDOTHER"}),
        ("UnrecognizedClientException", Reason.WRONG_TOKEN, {"token": "unknown"}),
        ("InvalidSignatureException", Reason.WRONG_REGION, {"region": "eu-west-1"}),
    ],
)
def test_wrong_credentials_are_refused_as_aws_does(fake, code, reason, how):
    with pytest.raises(ClientError) as caught:
        connect(fake, **how).put_trace_segments(TraceSegmentDocuments=[make_document()])
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert fake.requests()[0].signature.reason is reason
    assert fake.documents == []


def test_a_missing_signature_is_refused(fake):
    status, headers, _ = send(fake, make_document())
    assert (status, headers["x-amzn-ErrorType"]) == (403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize("offset_s", [960, -960])
def test_a_clock_that_differs_by_sixteen_minutes_is_refused_and_dated(fake, offset_s):
    fake.clock_offset_s = offset_s
    with pytest.raises(ClientError, match=r"Signature (expired|not yet current)") as caught:
        connect(fake).get_sampling_rules()
    metadata = caught.value.response["ResponseMetadata"]
    date = time.strptime(metadata["HTTPHeaders"]["date"], "%a, %d %b %Y %H:%M:%S GMT")
    shift = time.mktime(date) - time.mktime(time.gmtime())
    assert abs(shift - offset_s) < 60
    assert fake.requests()[0].signature.reason is Reason.SKEWED


def test_temporary_credentials_work_until_they_expire(fake):
    fake.trust("ASIATEMP", "temporary", "session/token==")
    client = connect(fake, "temporary", "ASIATEMP", "session/token==")
    client.get_sampling_rules()
    fake.expire("ASIATEMP")
    with pytest.raises(ClientError, match="ExpiredTokenException"):
        client.get_sampling_rules()


def test_a_script_does_not_let_a_wrong_signature_through(fake):
    fake.script(Verdict(status=200))
    send(fake, make_document())
    assert fake.documents == []
    assert fake.scripted == 1


# --- answers --------------------------------------------------------------------------------------


def test_verdicts_are_given_in_order_and_then_the_usual_answer(unsigned):
    unsigned.script(
        Verdict(status=503),
        Verdict(status=429, error="ThrottledException", headers={"Retry-After": "7"}),
    )
    answers = [send(unsigned, make_document()) for _ in range(3)]
    assert [status for status, _, _ in answers] == [503, 429, 200]
    assert answers[1][1]["x-amzn-ErrorType"] == "ThrottledException"
    assert answers[1][1]["Retry-After"] == "7"
    assert json.loads(answers[2][2]) == {"UnprocessedTraceSegments": []}
    assert len(unsigned.documents) == 1
    assert [r.verdict.status for r in unsigned.requests()] == [503, 429, 200]


def test_the_standing_answer_changes_while_it_runs(unsigned):
    unsigned.answer(Verdict(status=500), path="*")
    assert send(unsigned)[0] == 500
    assert send(unsigned, path="/GetSamplingRules")[0] == 500
    unsigned.answer(None, path="*")
    assert send(unsigned)[0] == 200


def test_a_script_for_one_path_leaves_the_others_alone(unsigned):
    unsigned.script(Verdict(status=500), path="/SamplingTargets")
    assert send(unsigned)[0] == 200
    assert send(unsigned, path="/GetSamplingRules")[0] == 200
    assert send(unsigned, path="/SamplingTargets")[0] == 500


def test_the_answers_of_the_other_operations_can_be_set(fake):
    client = connect(fake)
    assert client.get_sampling_rules()["SamplingRuleRecords"] == []
    fake.answers["/GetSamplingRules"] = {
        "SamplingRuleRecords": [{"SamplingRule": {"RuleName": "Default"}}]
    }
    [record] = client.get_sampling_rules()["SamplingRuleRecords"]
    assert record["SamplingRule"]["RuleName"] == "Default"


def test_telemetry_is_kept_record_by_record(fake):
    client = connect(fake)
    client.put_telemetry_records(TelemetryRecords=[{"Timestamp": 1, "SegmentsReceivedCount": 5}])
    client.put_telemetry_records(TelemetryRecords=[{"Timestamp": 2}, {"Timestamp": 3}])
    assert [r.get("SegmentsReceivedCount") for r in fake.telemetry_records] == [5, None, None]


@pytest.mark.parametrize("with_id", [True, False])
def test_chosen_documents_are_listed_unprocessed_and_not_stored(fake, with_id):
    good, bad = make_document(), make_document(name="bad")
    fake.script(
        Verdict(
            unprocessed=Unprocessed(
                match=lambda d: '"bad"' in d, code="InvalidSegment", with_id=with_id
            )
        )
    )
    answer = connect(fake).put_trace_segments(TraceSegmentDocuments=[good, bad])
    [listed] = answer["UnprocessedTraceSegments"]
    assert listed["ErrorCode"] == "InvalidSegment"
    assert listed.get("Id") == (document_id(bad) if with_id else None)
    assert fake.documents == [good]


@pytest.mark.parametrize(
    ("reply", "documents", "status"),
    [
        (refuse_containing("poison"), ["a poison b"], 400),
        (refuse_containing("poison"), ["fine"], 200),
        (refuse_above(100), ["x" * 100], 413),
        (refuse_above(100), ["x"], 200),
        (throttle_above(0.001, burst=0), ["x"], 429),
        (throttle_above(0.001, burst=1), ["x"], 200),
        (Verdict(), ["x"] * 50, 200),
        (Verdict(), ["x"] * 51, 400),
        (Verdict(), [1], 400),
    ],
)
def test_answers_may_depend_on_the_request(unsigned, reply, documents, status):
    unsigned.answer(reply)
    assert send(unsigned, *documents)[0] == status
    assert unsigned.documents == (documents if status == 200 else [])


def test_a_bucket_lets_pass_what_its_rate_allows(unsigned):
    unsigned.answer(throttle_above(0.001, burst=3))
    assert [send(unsigned)[0] for _ in range(5)] == [200, 200, 200, 429, 429]


def test_bodies_can_be_compressed_oversized_chunked_or_no_json(unsigned):
    unsigned.script(
        Verdict(gzip=True, body=b"0" * 1_000_000),
        Verdict(body=b"x" * 2_000_000),
        Verdict(body="<html>"),
        Verdict(chunked=True),
    )
    compressed = send(unsigned)
    assert compressed[1]["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed[2]) == b"0" * 1_000_000
    assert len(send(unsigned)[2]) == 2_000_000
    assert send(unsigned)[2] == b"<html>"
    assert json.loads(send(unsigned)[2]) == {"UnprocessedTraceSegments": []}


def test_a_redirect_is_answered(unsigned):
    unsigned.script(Verdict(status=307, headers={"Location": "http://127.0.0.1:9/"}))
    status, headers, _ = send(unsigned)
    assert (status, headers["Location"]) == (307, "http://127.0.0.1:9/")


# --- misbehaviour ---------------------------------------------------------------------------------


def test_a_connection_is_reset_before_any_answer_though_the_documents_were_stored(unsigned):
    unsigned.script(Verdict(abort_at=0))
    with pytest.raises(ConnectionResetError):
        send(unsigned, "kept")
    assert unsigned.documents == ["kept"]
    assert [r.answered for r in unsigned.requests()] == [False]


def test_a_reset_need_not_store(unsigned):
    unsigned.script(Verdict(abort_at=0, stored=False))
    with pytest.raises(ConnectionResetError):
        send(unsigned, "lost")
    assert unsigned.documents == []


def test_a_connection_is_reset_within_the_head_of_the_answer(unsigned):
    unsigned.script(Verdict(abort_at=20))
    with socket.create_connection(unsigned.address, 20) as sock:
        sock.sendall(EMPTY_BATCH)
        with pytest.raises(ConnectionResetError):
            receive_all(sock, received := bytearray())
    assert bytes(received) == b"HTTP/1.1 200 OK\r\nDat"


def receive_all(sock, received):
    while data := sock.recv(1000):
        received += data


def test_a_connection_is_reset_within_the_request(unsigned):
    unsigned.script(Verdict(abort_request_at=3))
    with socket.create_connection(unsigned.address, 20) as sock:
        sock.sendall(b"POST /TraceSegments HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n012")
        with pytest.raises(ConnectionResetError):
            receive_all(sock, bytearray())
    [request] = unsigned.requests()
    assert request.body == b"012"


def test_a_hanging_answer_never_comes_and_ends_with_the_client(unsigned):
    unsigned.script(Verdict(hang=True))
    connection = http.client.HTTPConnection(*unsigned.address, timeout=0.2)
    connection.request("POST", "/TraceSegments", "{}")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    assert unsigned.open_connections == 1
    connection.close()
    unsigned.wait_for(lambda: unsigned.open_connections == 0)


def test_a_delayed_answer_comes_later(unsigned):
    unsigned.script(Verdict(delay_s=0.3))
    started = time.monotonic()
    assert send(unsigned, "slow")[0] == 200
    assert time.monotonic() - started >= 0.3


def test_a_dripping_answer_comes_whole_but_slowly(unsigned):
    unsigned.script(Verdict(drip_bps=1000))
    started = time.monotonic()
    _, _, body = send(unsigned)
    assert json.loads(body) == {"UnprocessedTraceSegments": []}
    assert time.monotonic() - started >= 0.1


def test_a_kept_alive_connection_is_closed_after_an_answer_without_a_word(unsigned):
    unsigned.script(Verdict(), Verdict(close=True))
    with socket.create_connection(unsigned.address, 20) as sock:
        sock.sendall(EMPTY_BATCH)
        first = sock.recv(1000)
        sock.sendall(EMPTY_BATCH)
        receive_all(sock, second := bytearray())  # ends: the server closed
    for received in (first, bytes(second)):
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert b"Connection: close" not in received


def test_a_close_may_be_announced(unsigned):
    unsigned.script(Verdict(announce_close=True))
    assert send(unsigned)[1]["Connection"] == "close"


def test_down_resets_and_refuses_and_up_listens_on_the_same_port(fake):
    client = connect(fake)
    client.get_sampling_rules()
    with socket.create_connection(fake.address, 20) as idle:
        fake.wait_for(lambda: fake.open_connections == 2)
        fake.down()
        with pytest.raises(ConnectionResetError):
            idle.recv(1)
    with pytest.raises(EndpointConnectionError):
        client.get_sampling_rules()
    fake.up()
    client.get_sampling_rules()
    assert len(fake.requests()) == 2


def test_down_interrupts_an_answer_that_is_being_delayed(unsigned):
    unsigned.script(Verdict(delay_s=600))
    failures = []

    def run():
        try:
            send(unsigned, "x")
        except ConnectionResetError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    unsigned.wait_requests(1)
    unsigned.down()
    thread.join(20)
    assert len(failures) == 1


def test_a_chunked_request_and_one_that_asks_first_are_read(unsigned):
    with socket.create_connection(unsigned.address, 20) as sock:
        sock.sendall(
            b"POST /TraceSegments HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b'5\r\n{"Tra\r\n17\r\nceSegmentDocuments":["a\r\n3\r\n"]}\r\n0\r\n\r\n')
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert unsigned.documents == ["a"]


def test_a_function_in_the_script_that_fails_fails_the_test():
    def broken(request):
        raise ZeroDivisionError

    def use_it():
        with FakeXRay() as fake:
            fake.verify_signatures = False
            fake.script(broken)
            with pytest.raises(ConnectionError):
                send(fake)

    with pytest.raises(AssertionError, match="FakeXRay failed"):
        use_it()


def test_waiting_in_vain_says_what_did_happen(unsigned):
    send(unsigned, "one")
    with pytest.raises(AssertionError, match=r"2 documents.*'POST /TraceSegments 200': 1.*1 doc"):
        unsigned.wait_documents(2, timeout=0.05)


def test_hundreds_of_full_batches_are_taken(fake):
    """Counts, not speed: 100 signed requests of 50 documents over four connections."""
    batches = [[make_document(size=1000) for _ in range(50)] for _ in range(100)]

    def run(part):
        client = connect(fake)
        for batch in part:
            client.put_trace_segments(TraceSegmentDocuments=batch)

    threads = [threading.Thread(target=run, args=(batches[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    assert len(fake.wait_documents(5000, timeout=60)) == 5000
    for thread in threads:
        thread.join()
    assert set(fake.document_ids.values()) == {1}
    assert fake.connections == 4


def test_a_long_run_may_keep_only_the_ids():
    documents = [make_document() for _ in range(3)]
    with FakeXRay(keep=document_id) as fake:
        fake.verify_signatures = False
        send(fake, *documents)
        fake.wait_ids(*map(document_id, documents))
    assert fake.documents == [document_id(d) for d in documents]
    assert fake.document_ids == {document_id(d): 1 for d in documents}
    assert fake.requests()[0].body == b""


def test_requests_at_the_same_time_are_counted(unsigned):
    unsigned.answer(Verdict(hang=True))
    connections = [http.client.HTTPConnection(*unsigned.address, timeout=20) for _ in range(3)]
    for connection in connections:
        connection.request("POST", "/TraceSegments", '{"TraceSegmentDocuments":[]}')
    unsigned.wait_requests(3)
    assert (unsigned.max_in_flight, unsigned.connections) == (3, 3)
    unsigned.reset_connections()
    for connection in connections:
        with pytest.raises(ConnectionResetError):
            connection.getresponse()
        connection.close()
    unsigned.answer(None)
    assert send(unsigned)[0] == 200


def test_a_document_that_never_comes_is_missed_by_its_id(unsigned):
    send(unsigned, make_document())
    with pytest.raises(AssertionError, match="1 ids"):
        unsigned.wait_ids("0123456789abcdef", timeout=0.05)
