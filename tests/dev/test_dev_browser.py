"""Which pages may use the API of `xrayd dev`, over the socket: its own, and no other."""

import json
import socket

import pytest
from dev_process import DevProcess, post_from
from fakes.documents import make_document
from fakes.process import Xrayd

OWN = "http://127.0.0.1:{port}"
PAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
TYPED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
LINKED = TYPED | {"Sec-Fetch-Site": "cross-site"}
IN_A_FRAME = LINKED | {"Sec-Fetch-Dest": "iframe"}
SCRIPT = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    home = tmp_path_factory.mktemp("dev")
    (home / "cfg.yaml").write_text('{"Proxy": {"AllowedHosts": ["devbox.example"]}}')
    with DevProcess(home, "-c", "cfg.yaml", data=":memory:") as process:
        yield process


def filled(dev, headers):
    return {name: value.replace("{port}", str(dev.port)) for name, value in headers.items()}


def check_no_cors(answer):
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "cross-origin-resource-policy" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": OWN}, 200),
        ({"Origin": OWN, **PAGE}, 200),
        ({**PAGE}, 200),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}", **PAGE}, 200),
        ({"Host": "[::1]:{port}", "Origin": "http://[::1]:{port}", **PAGE}, 200),
        ({"Host": "xray.localhost:{port}", "Origin": "http://xray.localhost:{port}"}, 200),
        ({"Host": "devbox.example:{port}"}, 200),
        ({"Host": "devbox.example:{port}", "Origin": "http://devbox.example:{port}"}, 200),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example:{port}"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:{port}/"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": OWN, **PAGE, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": OWN, **PAGE, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**TYPED}, 403),
        ({**LINKED}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Sec-Fetch-Site": "same-origin, cross-site"}, 403),
    ],
)
def test_a_post_is_answered_to_programs_and_the_listeners_own_page(headers, status, dev):
    answer = post_from(dev, filled(dev, headers))
    assert answer.status == status, answer.body
    check_no_cors(answer)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        (PAGE, 200),
        (TYPED, 200),
        (LINKED, 200),
        (LINKED | {"Sec-Fetch-Site": "same-site"}, 200),
        (IN_A_FRAME, 403),
        (SCRIPT, 403),
        (SCRIPT | {"Sec-Fetch-Dest": "image"}, 403),
        (SCRIPT | {"Sec-Fetch-Mode": "cors", "Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        (LINKED | {"Host": "evil.example:{port}"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_get_is_answered_to_the_user_and_the_listeners_own_page(method, headers, status, dev):
    answer = post_from(dev, filled(dev, headers), "/", method)
    assert answer.status == status
    check_no_cors(answer)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Access-Control-Request-Method": "POST"}, 405),
        ({"Access-Control-Request-Method": "POST", "Origin": OWN, **PAGE}, 405),
        ({"Access-Control-Request-Method": "POST", "Origin": "http://evil.example"}, 403),
        (
            {"Access-Control-Request-Private-Network": "true", "Origin": "http://evil.example"},
            403,
        ),
    ],
)
def test_no_preflight_is_ever_granted(headers, status, dev):
    answer = post_from(dev, filled(dev, headers), "/TraceSegments", "OPTIONS")
    assert answer.status == status
    check_no_cors(answer)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_refused(method, dev):
    assert post_from(dev, {}, "/TraceSegments", method).status == 405


def test_a_refused_page_stores_nothing(dev):
    document = make_document()
    body = json.dumps({"TraceSegmentDocuments": [document]})
    foreign = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    assert dev.post("/TraceSegments", body, foreign).status == 403
    assert dev.segments(json.loads(document)["trace_id"]) == []


def address_of_this_machine():
    """An address of its own that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        host = sock.getsockname()[0]
    return "" if host.startswith("127.") else host


def test_a_rebound_name_is_refused_to_pages_also_where_the_peer_is_another_machine(tmp_path):
    """Behind a published container port every caller seems to be another machine."""
    host = address_of_this_machine()
    if not host:
        pytest.skip("this machine has no address but loopback")
    entry = ("-t", "0.0.0.0:{port}", "-b", "127.0.0.1:{port}", "dev", "--data", ":memory:")
    with Xrayd(*entry, home=tmp_path) as dev, socket.create_connection((host, dev.port), 30) as tcp:
        for origin, status in (("", b"200"), ("Origin: http://evil.example:1\r\n", b"403")):
            request = f"POST /GetSamplingRules HTTP/1.1\r\nHost: evil.example:1\r\n{origin}"
            tcp.sendall(request.encode() + b"Content-Length: 0\r\n\r\n")
            assert tcp.recv(65_536).split()[1] == status
