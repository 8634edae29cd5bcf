"""The process runner, with a stand-in for xrayd."""

import socket
import sys
from pathlib import Path

import pytest
from fakes.documents import document_id, make_document
from fakes.process import Xrayd, free_port
from fakes.xray import CREDENTIALS

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))


@pytest.fixture
def start(tmp_path):
    def start(*args, **options):
        return Xrayd("{port}", *args, home=tmp_path, command=STAND_IN, **options)

    return start


def test_it_is_ready_when_it_answers_and_its_lines_are_kept(start, tmp_path):
    with start("-o") as process:
        assert process.wait_for_line("started with (.*)")[1] == "-o"
        assert process.wait_for_line("HOME (.*)")[1] == str(tmp_path)
        assert process.running


def test_it_may_be_ready_by_a_line_of_its_output(start):
    with start(ready="^listening$") as process:
        assert "listening" in process.output


def test_datagrams_and_requests_reach_it(start):
    document = make_document()
    with start() as process:
        process.send(b"raw")
        process.send_document(document, header=b"header\n")
        assert process.post("/receive").body == b"raw"
        assert process.post("/receive").body == b"header\n" + document.encode()
        status, headers, body = process.post("/echo", "body", {"X-Any": "1"})
        assert (status, headers["content-length"], body) == (200, "4", b"body")
        with process.tcp() as raw:
            raw.sendall(b"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
            assert raw.recv(100).startswith(b"HTTP/1.0 200")


def test_nothing_of_the_callers_settings_is_inherited(start, monkeypatch):
    for name in ("AWS_PROFILE", "XRAYD_REGION", "HTTPS_PROXY", "no_proxy", "SECRET_OF_THE_CALLER"):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    with start(env={"AWS_REGION": "us-east-1"}) as process:
        names = set(process.get("/environment").body.decode().split())
    assert {"AWS_REGION", "AWS_EC2_METADATA_DISABLED", "HOME", "PATH", "PYTHONHASHSEED"} <= names
    assert not names & {"AWS_PROFILE", "XRAYD_REGION", "HTTPS_PROXY", "no_proxy"}
    assert "SECRET_OF_THE_CALLER" not in names


def test_sigterm_and_kill_have_their_exit_codes(start):
    with start() as process:
        process.sigterm()
        assert process.wait() == 0
        assert process.stdout[-1] == "Got shutdown signal: terminated"
        assert process.stderr == [f"HOME {process.home}"]
    with start() as process:
        process.kill()
        assert process.wait() == -9


def test_a_process_that_ends_early_says_why(start):
    with pytest.raises(AssertionError, match=r"ended with 3(?s:.*)started with fail"):
        start("fail").__enter__()
    with pytest.raises(AssertionError, match="no line matches"):
        start("fail", ready="never").__enter__()


def test_a_process_that_should_fail_can_be_waited_for(start):
    with start("fail", ready=None) as process:
        assert process.wait() == 3


def test_a_traceback_fails_the_test(start):
    with pytest.raises(AssertionError, match="ZeroDivisionError"), start("raise", ready=None) as p:
        p.wait()
    with start("raise", ready=None, allow_traceback=True) as p:
        p.wait()


def test_a_failing_test_shows_what_the_process_wrote(start):
    with pytest.raises(AssertionError) as caught, start() as process:
        process.wait_for_line("no such line", timeout=0.05)
    assert "  | listening" in caught.value.__notes__[0]


def test_its_resources_can_be_measured(start):
    with start() as process:
        assert 1 < process.rss_mib() <= process.peak_rss_mib() < 500
        assert process.cpu_seconds() >= 0
        assert process.open_files() >= 3
        assert process.udp_drops() == 0
        process.send(*[b"x" * 10_000] * 200)  # the stand-in reads none of them
        assert process.udp_drops() > 0
        assert process.udp_queued_bytes() > 0


def test_a_free_port_is_free_for_udp_and_tcp():
    port = free_port()
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.1", port))


def test_documents_are_valid_and_their_ids_their_own():
    documents = [make_document(size=2000, name="ü") for _ in range(100)]
    assert {len(d.encode()) for d in documents} == {2000}
    assert len({document_id(d) for d in documents}) == 100
    assert '"end_time"' not in make_document(end_time=None, in_progress=True)


def test_the_fixture_wires_a_process_to_the_fake_x_ray(xrayd, fake_xray):
    process = xrayd("extra", command=(sys.executable, "-c", FIXTURE_SCRIPT), ready="done")
    assert process.lines[0] == (
        f"['-o', '-b', '127.0.0.1:{process.port}', '-t', '127.0.0.1:{process.port}', "
        "'-c', 'cfg.yaml', '-n', 'us-east-1', 'extra']"
    )
    assert process.lines[1] == f'{{"Version": 2, "Endpoint": "{fake_xray.url}"}}'
    assert process.lines[2] == CREDENTIALS["AWS_ACCESS_KEY_ID"]


FIXTURE_SCRIPT = """
import os, sys
print(sys.argv[1:])
print(open("cfg.yaml").read())
print(os.environ["AWS_ACCESS_KEY_ID"])
print("done")
"""


def test_the_captures_are_all_there(captures):
    assert len(captures.datagrams) == 697
    assert len(captures.requests) == 58
    assert all(d.data.startswith(b"{") and d.body for d in captures.datagrams)
