"""TCP 2000: what is forwarded, what is taken, and that everything else sends nothing upstream."""

import json
import socket

import botocore.session
import pytest
from fakes.documents import make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd
from fakes.verdict import Verdict
from fakes.xray import FakeXRay

MODEL = botocore.session.Session().get_service_model("xray")
PATHS = {name: MODEL.operation_model(name).http["requestUri"] for name in MODEL.operation_names}
SERVED = {"PutTraceSegments", "PutTelemetryRecords", "GetSamplingRules", "GetSamplingTargets"}
OTHERS = sorted(set(PATHS) - SERVED)

RULES = {
    "SamplingRuleRecords": [
        {"SamplingRule": {"RuleName": "Default", "FixedRate": 0.05, "ReservoirSize": 1}}
    ]
}
FORWARD = {"Sampling": {"Proxy": "forward"}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """One process and one endpoint for the whole table.

    It forwards, so that every request it lets through is seen at the endpoint.
    """
    processes: list[Xrayd] = []
    with FakeXRay() as fake:
        fake.answers["/GetSamplingRules"] = RULES
        yield XraydFactory(tmp_path_factory.mktemp("tcp"), fake, processes)(config=FORWARD), fake
        for process in processes:
            process.stop()
            process.check()


Served = tuple[Xrayd, FakeXRay]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"NextToken":"x"}'])
@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}])
def test_sampling_rules_are_signed_and_forwarded(
    xrayd: XraydFactory, fake_xray: FakeXRay, body: bytes, headers: dict[str, str]
) -> None:
    fake_xray.answers["/GetSamplingRules"] = RULES
    answer = xrayd(config=FORWARD).post("/GetSamplingRules", body, headers)
    assert (answer.status, json.loads(answer.body)) == (200, RULES)
    request = fake_xray.requests("/GetSamplingRules")[0]
    assert request.body == body
    assert request.signature is not None
    assert request.signature.ok


def test_a_status_that_no_list_names_is_passed_on(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    # Balancers make up their own, such as 520.
    fake_xray.script(Verdict(status=520, error="WebServerIsDown"), path="/GetSamplingRules")
    answer = xrayd(config=FORWARD).post("/GetSamplingRules", b"{}")
    assert answer.status == 520
    assert answer.headers["x-amzn-errortype"] == "WebServerIsDown"


def test_what_a_mesh_adds_is_neither_forwarded_nor_signed(served: Served) -> None:
    process, fake = served
    before = len(fake.requests())
    answer = process.post(
        "/SamplingTargets",
        b'{"SamplingStatisticsDocuments":[]}',
        {
            "x-forwarded-proto": "http",
            "x-envoy-attempt-count": "1",
            "Authorization": "AWS4-HMAC-SHA256 Credential=dummy",
            "X-Amz-Security-Token": "dummy",
            "X-Forwarded-Host": "elsewhere.example",
            "Accept-Encoding": "gzip",
        },
    )
    assert answer.status == 200
    request = fake.requests()[before]
    names = {name.lower() for name, _ in request.headers}
    assert names == {
        "host", "content-type", "content-length", "user-agent", "authorization", "x-amz-date",
        "x-amzn-xray-timestamp",
    }  # fmt: skip


@pytest.mark.parametrize("config", [FORWARD, {}])
def test_an_upstream_error_is_passed_on(
    xrayd: XraydFactory, fake_xray: FakeXRay, config: dict[str, object]
) -> None:
    fake_xray.script(Verdict(status=429, error="ThrottledException"), path="/GetSamplingRules")
    answer = xrayd(config=config).post("/GetSamplingRules")
    assert answer.status == 429
    assert answer.headers["x-amzn-errortype"] == "ThrottledException"


@pytest.mark.parametrize("config", [FORWARD, {}])
def test_an_unreachable_upstream_is_502(
    xrayd: XraydFactory, fake_xray: FakeXRay, config: dict[str, object]
) -> None:
    process = xrayd(config=config)
    fake_xray.down()
    assert process.post("/GetSamplingRules").status == 502


def nothing_upstream(fake: FakeXRay, before: int) -> None:
    assert len(fake.requests()) == before


@pytest.mark.parametrize("operation", OTHERS)
def test_other_operations_are_refused(served: Served, operation: str) -> None:
    process, fake = served
    before = len(fake.requests())
    for method in ("POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"):
        assert process.request(method, PATHS[operation]).status == 403, method
    nothing_upstream(fake, before)


@pytest.mark.parametrize(
    "target",
    [
        "/GetSamplingRules?x=1",
        "/GetSamplingRules#x",
        "/GetSamplingRules/",
        "//GetSamplingRules",
        "/./GetSamplingRules",
        "/x/../GetSamplingRules",
        "/%47etSamplingRules",
        "/GetSamplingRules%00",
        "/GetSamplingRules;x",
        "/getsamplingrules",
        "/GetSamplingRules%2e%2e/DeleteSamplingRule",
        "http://xray.us-east-1.amazonaws.com/GetSamplingRules",
        "http://127.0.0.1/DeleteSamplingRule",
        "*",
        "xray.us-east-1.amazonaws.com:443",
        "/",
    ],
)
def test_tricks_with_the_target_are_refused(served: Served, target: str) -> None:
    process, fake = served
    before = len(fake.requests())
    for method in ("POST", "GET", "CONNECT", "OPTIONS"):
        request = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
        status = ask(process, request.encode())
        assert status in (400, 403), (method, status)
    nothing_upstream(fake, before)


def ask(process: Xrayd, request: bytes) -> int:
    """Send raw bytes; return the status of the first answer, 0 where the connection just ends."""
    with process.tcp() as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while b"\r\n" not in answer:
            try:
                chunk = sock.recv(65_536)
            except ConnectionResetError:
                break
            if not chunk:
                break
            answer += chunk
    return int(answer.split()[1]) if answer else 0


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:2000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Dest": "empty"},
        {"Host": "evil.example"},
        {"Host": "evil.example:2000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "xray-daemon:2000"},
        {"Host": ""},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/GetSamplingRules"), ("POST", "/TraceSegments"), ("GET", "/healthz")],
)
def test_browsers_and_foreign_hosts_are_refused(
    served: Served, header: dict[str, str], method: str, path: str
) -> None:
    process, fake = served
    before = len(fake.requests())
    answer = process.request(method, path, b"{}", header)
    assert answer.status == 403
    assert not any(name.startswith("access-control") for name in answer.headers)
    nothing_upstream(fake, before)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:2000", "LOCALHOST:2000"])
def test_loopback_hosts_are_served(served: Served, host: str) -> None:
    assert served[0].request("GET", "/healthz", b"", {"Host": host}).status == 200


def test_a_configured_host_is_served(xrayd: XraydFactory) -> None:
    process = xrayd(config={"Proxy": {"AllowedHosts": ["Tracing.internal"]}})
    assert process.get("/healthz", {"Host": "tracing.internal:2000"}).status == 200


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent anywhere to learn it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address beside loopback")
        return str(sock.getsockname()[0])


def test_other_peers_may_use_any_host(xrayd: XraydFactory) -> None:
    address = own_address()
    process = xrayd("-t", "0.0.0.0:{port}")
    with socket.create_connection((address, process.port), timeout=10) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: xray-daemon:2000\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
         b"Content-Length: 5\r\n\r\nabcde", {400}),
        (b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n"
         b"Content-Length: 0\r\n\r\n", {400}),
        (b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n"
         b"Content-Length: 0\r\n\r\n", {400, 200}),
        (b"POST /GetSamplingRules HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n", {400}),
        (b"POST  /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\n\r\n", {200, 400, 403}),
        (b"POST /GetSamplingRules HTTP/2.0\r\nHost: localhost\r\n\r\n", {400, 505}),
        (b"POST /GetSamplingRules HTTP/1.1\r\nHost : localhost\r\n\r\n", {400}),
        (b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n"
         b"\r\n", {400}),
        (b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\na",
         {400}),
        (b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
         {400}),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\n"
         b"Connection: Upgrade\r\n\r\n", {200, 400}),
        (b"\x16\x03\x01\x02\x00", {400}),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n", {431}),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", {431}),
        (b"GET /" + b"y" * 20_000, {431}),
    ],
)  # fmt: skip
def test_smuggling_shapes_are_answered_once_and_closed(
    served: Served, request_bytes: bytes, statuses: set[int]
) -> None:
    process, fake = served
    before = len(fake.requests())
    assert ask(process, request_bytes) in statuses
    assert len(fake.requests()) - before <= 1


def test_a_second_request_behind_the_first_is_not_answered(served: Served) -> None:
    process, fake = served
    before = len(fake.requests())
    one = b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with process.tcp() as sock:
        sock.sendall(one + one)
        answer = b""
        while chunk := sock.recv(65_536):
            answer += chunk
    assert answer.count(b"HTTP/1.1 200") == 1
    assert len(fake.requests()) - before == 1


def test_a_body_longer_than_announced_is_cut_as_announced(served: Served) -> None:
    # Node's X-Ray SDK counts UTF-16 units for its Content-Length.
    process, _ = served
    body = '{"x":"é"}'.encode()
    request = (
        b"POST /SamplingTargets HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
        % (len(body) - 1, body)
    )
    assert ask(process, request) in (200, 400)


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/GetSamplingRules", 1024 * 1024 + 1, 413),
        ("/TraceSegments", 4 * 1024 * 1024 + 1, 413),
        ("/GetSamplingRules", 300_000_000, 413),
    ],
)
def test_large_bodies_are_refused_by_their_announcement(
    served: Served, path: str, size: int, status: int
) -> None:
    process, fake = served
    before, memory = len(fake.requests()), process.rss_mib()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    assert ask(process, head.encode()) == status
    nothing_upstream(fake, before)
    assert process.rss_mib() < memory + 4


def test_endless_chunks_are_refused(served: Served) -> None:
    process, fake = served
    before, memory = len(fake.requests()), process.rss_mib()
    with process.tcp() as sock:
        sock.sendall(
            b"POST /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        with pytest.raises(ConnectionError):
            send_for_ever(sock, chunk)
    nothing_upstream(fake, before)
    assert process.rss_mib() < memory + 8


def test_large_bodies_of_many_connections_stay_within_memory(xrayd: XraydFactory) -> None:
    process = xrayd("-m", "3")
    memory = process.rss_mib()
    head = b"POST /TraceSegments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000001\r\n\r\n"
    held: list[socket.socket] = []
    for _ in range(40):
        sock = process.tcp()
        held.append(sock)
        sock.sendall(head + b"x" * 4_000_000)
    assert process.get("/healthz").status == 200
    assert process.peak_rss_mib() < memory + 40
    for sock in held:
        sock.close()


def test_a_body_in_tiny_chunks_costs_what_its_bytes_cost(xrayd: XraydFactory) -> None:
    process = xrayd()
    memory = process.rss_mib()
    chunks = b"2\r\nab\r\n" * (1024 * 1024)
    with process.tcp() as sock:
        sock.sendall(
            b"POST /TraceSegments HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 400 ")
    assert process.peak_rss_mib() < memory + 30


@pytest.mark.parametrize("start", [b"0\r\nX: ", b"1;"])
def test_a_trailer_or_an_extension_without_end_is_refused(served: Served, start: bytes) -> None:
    request = (
        b"POST /TraceSegments HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + start
    )
    with served[0].tcp() as sock:
        sock.sendall(request)
        sock.sendall(b"y" * 1_000_000)
        assert sock.recv(100).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("path", ["/TraceSegments", "/nonsense"])
def test_who_sends_too_much_at_once_still_reads_why_it_was_refused(
    served: Served, path: str
) -> None:
    status = 413 if path == "/TraceSegments" else 403
    assert served[0].post(path, b"x" * 12_000_000).status == status


def test_a_refused_head_request_is_answered_without_a_body(served: Served) -> None:
    with served[0].tcp() as sock:
        sock.sendall(b"HEAD /GetSamplingRules HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while chunk := sock.recv(1000):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"\r\n\r\n")


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def test_an_offer_of_http_2_is_passed_over(served: Served) -> None:
    # Java's HttpClient makes it with each request, and leaves the choice to the server.
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    post = b"POST /SamplingTargets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
    with served[0].tcp() as sock:
        for request, status in (
            (get + OFFER + b"\r\n", b"200"),
            (get + b"\r\n", b"200"),
            (post + OFFER + b"\r\n{}", b"400"),
        ):
            sock.sendall(request)
            assert sock.recv(1000).split()[1] == status


def test_who_speaks_http_1_0_is_not_told_to_continue(served: Served) -> None:
    with served[0].tcp() as sock:
        sock.sendall(
            b"POST /TelemetryRecords HTTP/1.0\r\nHost: localhost\r\n"
            b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        sock.sendall(b"{}")
        assert sock.recv(1000).split()[1] == b"200"


def send_for_ever(sock: socket.socket, chunk: bytes) -> None:
    for _ in range(2000):
        sock.sendall(chunk)


def test_posted_segments_go_the_way_of_datagrams(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    process = xrayd()
    fine = [make_document(size=64 * 1024), make_document()]
    large = make_document(size=64 * 1024 + 1)
    answer = process.post(
        "/TraceSegments", json.dumps({"TraceSegmentDocuments": [*fine, large, "x" * 70_000]})
    )
    assert answer.status == 200
    listed = json.loads(answer.body)["UnprocessedTraceSegments"]
    assert [entry["Id"] for entry in listed] == [json.loads(large)["id"], None]
    assert all(entry["ErrorCode"] and entry["Message"] for entry in listed)
    assert sorted(fake_xray.wait_documents(2)) == sorted(fine)
    process.sigterm()
    process.wait(20)
    process.wait_for_line(r"Stopped: received=4 .*sent=2 rejected=2 .*difference=0")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"TraceSegmentDocuments":[1]}', b"\xff", b"[" * 100_000]
)
def test_a_body_that_is_no_segments_call_is_400(served: Served, body: bytes) -> None:
    answer = served[0].post("/TraceSegments", body)
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"] == "InvalidRequestException"


def test_a_full_buffer_answers_429(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    fake_xray.answer(Verdict(hang=True))
    process = xrayd("-m", "3")
    body = json.dumps({"TraceSegmentDocuments": [make_document(size=60_000) for _ in range(30)]})
    answers = [process.post("/TraceSegments", body) for _ in range(5)]
    assert answers[0].status == 200
    assert answers[-1].status == 429
    assert answers[-1].headers["x-amzn-errortype"] == "ThrottledException"


def test_telemetry_of_another_daemon_is_taken(served: Served) -> None:
    process, fake = served
    before = len(fake.requests())
    assert process.post("/TelemetryRecords", b'{"TelemetryRecords":[]}').body == b"{}"
    nothing_upstream(fake, before)


def test_listed_operations_are_forwarded(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    fake_xray.answers["/TraceSummaries"] = {"TraceSummaries": []}
    process = xrayd(config={"Proxy": {"Operations": ["GetTraceSummaries"]}})
    assert process.post("/TraceSummaries", b"{}").status == 200
    assert process.post("/ServiceGraph", b"{}").status == 403


def test_many_slow_connections_do_not_touch_delivery(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd()
    slow: list[socket.socket] = []
    for _ in range(1500):
        try:
            sock = process.tcp(timeout=5)
            sock.sendall(b"POST /GetSamplingRules HTTP/1.1\r\nHost: loc")
        except OSError:
            continue
        slow.append(sock)
        if len(slow) > 900:  # the test's own descriptors are bounded too
            slow.pop(0).close()
    documents = [make_document() for _ in range(200)]
    process.send_document(*documents)
    fake_xray.wait_documents(200)
    assert process.get("/healthz").status == 200
    assert process.open_files() < 256 + 64
    for sock in slow:
        sock.close()
