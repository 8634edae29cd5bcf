"""Looking at a running daemon: telemetry, metrics, health, logs."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.documents import make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd, clean_environment, free_port
from fakes.verdict import Unprocessed, Verdict
from fakes.xray import FakeXRay


def test_the_last_telemetry_record_counts_the_drained_batch(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.answer(
        Verdict(unprocessed=Unprocessed(match=lambda d: "refuse-me" in d, code="InvalidName"))
    )
    process = xrayd(
        "-a", "arn:aws:ec2:x", env={"AWS_HOSTNAME": "the-host", "AWS_INSTANCE_ID": "i-77"}
    )
    process.send(b"bad")
    process.send_document(*(make_document() for _ in range(9)), make_document(name="refuse-me"))
    process.sigterm()
    assert process.wait(20) == 0
    body = json.loads(fake_xray.requests("/TelemetryRecords")[-1].body)
    record = body.pop("TelemetryRecords")[0]
    sender = {"EC2InstanceId": "i-77", "Hostname": "the-host", "ResourceARN": "arn:aws:ec2:x"}
    assert body == sender
    assert abs(record.pop("Timestamp") - time.time()) < 60
    assert record == {
        "SegmentsReceivedCount": 11,
        "SegmentsSentCount": 9,
        "SegmentsSpilloverCount": 0,
        "SegmentsRejectedCount": 2,
        "BackendConnectionErrors": {
            "TimeoutCount": 0, "ConnectionRefusedCount": 0, "HTTPCode4XXCount": 0,
            "HTTPCode5XXCount": 0, "UnknownHostCount": 0, "OtherCount": 0,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "counter"),
    [
        (Verdict(status=500), "HTTPCode5XXCount"),
        (Verdict(status=429), "HTTPCode4XXCount"),
        (Verdict(abort_at=0, stored=False), "OtherCount"),
    ],
)
def test_connection_errors_are_counted_by_kind(
    xrayd: XraydFactory, fake_xray: FakeXRay, verdict: Verdict, counter: str
) -> None:
    fake_xray.script(verdict)
    process = xrayd()
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    process.sigterm()
    process.wait(20)
    errors = fake_xray.telemetry_records[-1]["BackendConnectionErrors"]
    assert errors.pop(counter) == 1
    assert not any(errors.values())


def test_refused_connections_are_counted(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    fake_xray.down()
    process = xrayd()
    process.send_document(make_document())
    process.wait_for_line("connection_refused")
    fake_xray.up()
    fake_xray.wait_documents(1)
    process.sigterm()
    process.wait(20)
    assert fake_xray.telemetry_records[-1]["BackendConnectionErrors"]["ConnectionRefusedCount"] >= 1


def test_an_unknown_host_is_counted(xrayd: XraydFactory) -> None:
    port = free_port()
    process = xrayd(
        endpoint="https://no-such-host.invalid",
        config={"Metrics": {"Address": f"127.0.0.1:{port}"}},
    )
    process.send_document(make_document())
    process.wait_for_line("unknown_host")
    assert metric(scrape(port), 'xrayd_connection_errors_total{kind="unknown_host"}') >= 1


def test_telemetry_can_be_switched_off(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    process = xrayd(config={"Telemetry": {"Enabled": False}})
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    process.sigterm()
    process.wait(20)
    assert fake_xray.requests("/TelemetryRecords") == []


def test_nothing_is_reported_where_nothing_was_received(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd()
    process.sigterm()
    assert process.wait(20) == 0
    assert fake_xray.requests() == []


def scrape(port: int, path: str = "/metrics") -> str:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not in\n{text}"
    return float(found[1])


def test_metrics_show_the_ledger_and_its_identity(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    port = free_port()
    process = xrayd("-m", "20", config={"Metrics": {"Address": f"127.0.0.1:{port}"}})
    process.send(b"bad", b'{"format":"json","version":1}\n')
    process.send_document(make_document(), "T1Sx", make_document(type="subsegment"), b"\xff{}")
    # Stored is not yet answered: the line tells that the answer was counted.
    process.wait_for_line("Successfully sent batch of 4 segments")
    text = scrape(port)
    for name, value in {
        'xrayd_received_total{transport="udp"}': 6,
        "xrayd_sent_total": 4,
        'xrayd_rejected_total{reason="no_newline"}': 1,
        'xrayd_rejected_total{reason="empty_body"}': 1,
        'xrayd_documents_total{kind="segment"}': 1,
        'xrayd_documents_total{kind="subsegment"}': 1,
        'xrayd_documents_total{kind="otlp_sampled"}': 1,
        'xrayd_documents_total{kind="unreadable"}': 1,
        "xrayd_not_utf8_total": 1,
        "xrayd_ledger_difference": 0,
        "xrayd_queued_documents": 0,
        "xrayd_buffer_bytes": 0,
        "xrayd_buffer_bytes_max": 20_000_000,
        "xrayd_kernel_dropped_total": 0,
        "xrayd_batch_documents_sum": 4,
        "xrayd_request_seconds_count": 1,
        "xrayd_credentials_expiry_seconds": 0,
    }.items():
        assert metric(text, name) == value, name
    assert metric(text, "xrayd_receive_buffer_bytes") > 0
    assert scrape(port, "/readyz").startswith("ready")


def test_metrics_are_off_by_default_and_closed_to_browsers(xrayd: XraydFactory) -> None:
    port = free_port()
    process = xrayd(config={"Metrics": {"Address": f"127.0.0.1:{port}"}})
    other = Xrayd(home=process.home, port=port)
    assert other.get("/metrics").status == 200
    assert other.get("/metrics", {"Origin": "http://evil.example"}).status == 403
    assert other.get("/metrics", {"Host": "evil.example"}).status == 403
    assert other.post("/metrics").status == 403
    assert process.get("/metrics").status == 403
    other.stop()


def test_kernel_drops_are_counted_exactly(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    import signal

    port = free_port()
    process = xrayd(
        config={"Socket": {"ReceiveBufferMB": 0}, "Metrics": {"Address": f"127.0.0.1:{port}"}}
    )
    process.signal(signal.SIGSTOP)
    process.send_document(*(make_document(size=1024) for _ in range(2000)))
    process.signal(signal.SIGCONT)
    process.send_document(marker := make_document())
    fake_xray.wait_for(lambda: marker in fake_xray.documents, what="the marker")
    text = scrape(port)
    dropped = metric(text, "xrayd_kernel_dropped_total")
    assert dropped > 0
    assert dropped == process.udp_drops()
    assert metric(text, 'xrayd_received_total{transport="udp"}') + dropped == 2001


def healthcheck(process: Xrayd, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xrayd", *args],
        env=clean_environment(process.home, env),
        cwd=process.home,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_healthcheck_asks_where_the_daemon_listens(xrayd: XraydFactory) -> None:
    process = xrayd()
    port = process.port
    assert healthcheck(process, "-t", f"127.0.0.1:{port}", "healthcheck").returncode == 0
    assert healthcheck(process, "-t", f"0.0.0.0:{port}", "healthcheck").returncode == 0
    assert healthcheck(process, "healthcheck", XRAYD_SOCKET_TCP_ADDRESS=f":{port}").returncode == 0
    (process.home / "other.yaml").write_text(f"Socket:\n  TCPAddress: '127.0.0.1:{port}' # here\n")
    assert healthcheck(process, "-c", "other.yaml", "healthcheck").returncode == 0
    failed = healthcheck(process, "-t", f"127.0.0.1:{free_port()}", "healthcheck")
    assert failed.returncode == 1
    assert "refused" in failed.stderr


def test_healthcheck_fails_for_a_dead_upstream_only_when_asked(xrayd: XraydFactory) -> None:
    process = xrayd(env={"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None})
    address = ("-t", f"127.0.0.1:{process.port}", "healthcheck")
    assert healthcheck(process, *address).returncode == 0
    process.wait_for_line("Segments are held")
    failed = healthcheck(process, *address, "--upstream")
    assert failed.returncode == 1
    assert "no credentials" in failed.stderr


def test_healthcheck_imports_only_the_standard_library(xrayd: XraydFactory) -> None:
    process = xrayd()
    code = (
        "import sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "import xrayd.cli.main\n"
        f"code = xrayd.cli.main.run(['-t', '127.0.0.1:{process.port}', 'healthcheck'])\n"
        "files = [getattr(m, '__file__', None) or '' for m in sys.modules.values()]\n"
        "print([f for f in files if 'site-packages' in f and '/xrayd/' not in f], code)"
    )
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code],  # -S: no .pth file imports anything on its own
        capture_output=True, text=True, cwd=process.home, timeout=30, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == "[] 0"


def test_log_lines_are_the_contracts(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    process = xrayd()
    process.send_document(*(make_document() for _ in range(3)))
    stamp = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) "
    process.wait_for_line(
        stamp + r"\[Info\] Successfully sent batch of 3 segments \(\d\.\d+ seconds\)$"
    )
    fake_xray.answer(Verdict(unprocessed=Unprocessed(match=lambda _: True, code="InvalidId")))
    process.send_document(make_document())
    process.wait_for_line(
        stamp + r"\[Info\] Sent batch of 1 segments but had 1 Unprocessed segments \(\S+ seconds\)$"
    )


def test_json_logs(xrayd: XraydFactory) -> None:
    process = xrayd("--log-format", "json")
    process.send(b"\x1b\nx")
    process.wait_for_line("Datagram refused")
    for line in process.stdout:
        fields = json.loads(line)
        assert {"time", "level", "logger", "message"} == set(fields)


def test_silent_says_nothing(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    process = xrayd("-l", "silent")
    process.send(b"bad")
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    process.sigterm()
    assert process.wait(20) == 0
    assert process.lines == []


def test_a_log_file(xrayd: XraydFactory) -> None:
    process = xrayd("-f", "xray.log")
    process.sigterm()
    process.wait(20)
    assert "Got shutdown signal" in (process.home / "xray.log").read_text()
    assert process.lines == []


def test_a_log_nobody_reads_does_not_stop_ingestion(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    reader, writer = os.pipe()
    first = xrayd()  # only for its home and configuration
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "xrayd", *first.args[3:], "-l", "dev",
         "-b", f"127.0.0.1:{port}", "-t", f"127.0.0.1:{port}"],
        env=first.env, cwd=first.home, stdout=writer, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    probe = Xrayd(home=first.home, port=port)
    try:
        probe._process = process
        probe.wait_healthy()
        # Far more lines than a pipe holds.
        for start in range(0, 4000, 500):
            probe.send(*(b"junk %d" % n + b"\n" * 2 for n in range(start, start + 500)))
            documents = [make_document() for _ in range(100)]
            probe.send_document(*documents)
            fake_xray.wait_documents(100 + start // 5)
        assert len(fake_xray.documents) == 800
    finally:
        os.close(reader)
        probe.stop()


def test_a_host_name_that_is_no_text_is_reported_as_well_as_it_can_be(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd(env={"AWS_HOSTNAME": "h\udcff"})
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    process.sigterm()
    assert process.wait() == 0
    assert json.loads(fake_xray.requests("/TelemetryRecords")[-1].body)["Hostname"] == "h?"


def test_a_hangup_while_nobody_reads_the_log_is_not_the_end(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path
) -> None:
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        config = {"Sampling": {"Proxy": "forward"}}
        process = xrayd("-l", "dev", "-f", str(pipe), config=config)
        fake_xray.down()
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=20)
        for _ in range(4000):  # a line each: more than the pipe and the queue hold
            connection.request("POST", "/GetSamplingRules")
            assert connection.getresponse().read()
        process.signal(signal.SIGHUP)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        process.wait_healthy()
        connection.close()
    finally:
        os.close(reader)
