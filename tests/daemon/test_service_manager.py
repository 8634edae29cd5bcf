"""What systemd expects of a Type=notify service, with the test in systemd's place."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.documents import HEADER, make_document
from fakes.factory import XraydFactory
from fakes.process import clean_environment
from fakes.xray import CREDENTIALS, FakeXRay


@pytest.fixture
def notifications(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that a service tells its state."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        yield sock


def wait_for(notifications: socket.socket, word: str) -> str:
    while True:
        state = notifications.recv(4096).decode()
        if word in state:
            return state


def test_ready_watchdog_reload_and_stopping_are_told(
    xrayd: XraydFactory, notifications: socket.socket
) -> None:
    process = xrayd(env={"NOTIFY_SOCKET": notifications.getsockname(), "WATCHDOG_USEC": "200000"})
    wait_for(notifications, "READY=1")
    wait_for(notifications, "WATCHDOG=1")
    wait_for(notifications, "WATCHDOG=1")
    process.signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in wait_for(notifications, "RELOADING=1")
    wait_for(notifications, "READY=1")
    process.sigterm()
    wait_for(notifications, "STOPPING=1")
    assert process.wait(20) == 0


def test_sockets_that_systemd_holds_are_used_with_what_waits_in_them(
    tmp_path: Path, fake_xray: FakeXRay
) -> None:
    document = make_document()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        udp.setsockopt(socket.SOL_SOCKET, 33, 8 * 1024 * 1024)  # SO_RCVBUFFORCE, as systemd does
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        sender.sendto(HEADER + document.encode(), udp.getsockname())
        # The shell is the process whose id LISTEN_PID must name, and becomes xrayd.
        script = 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" -m xrayd -o -n us-east-1 3<&$A 4<&$B'
        process = subprocess.Popen(
            ["bash", "-c", script, sys.executable],
            env={
                **clean_environment(tmp_path, CREDENTIALS),
                "AWS_ENDPOINT_URL_XRAY": fake_xray.url,
                "A": str(udp.fileno()),
                "B": str(tcp.fileno()),
            },
            cwd=tmp_path,
            pass_fds=(udp.fileno(), tcp.fileno()),
            stdout=subprocess.DEVNULL,
        )
        try:
            assert fake_xray.wait_documents(1) == [document]
        finally:
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(20) == 0


def test_a_reload_changes_what_it_can_and_names_the_rest(xrayd: XraydFactory) -> None:
    process = xrayd("-f", "xray.log", config={"Concurrency": 2})
    path = process.home / "cfg.yaml"
    path.write_text(
        path.read_text().replace('"Concurrency": 2', '"Concurrency": 3, "ResourceARN": "x"')
    )
    os.rename(process.home / "xray.log", process.home / "xray.log.old")
    process.signal(signal.SIGHUP)
    process.get("/healthz")
    process.sigterm()
    process.wait(20)
    text = (process.home / "xray.log").read_text()
    assert "3 requests at once" in text
    assert "need a restart: ResourceARN" in text


def test_a_reload_of_a_bad_file_changes_nothing(xrayd: XraydFactory) -> None:
    process = xrayd()
    (process.home / "cfg.yaml").write_text("Nonsense: 1")
    process.signal(signal.SIGHUP)
    process.wait_for_line("Reload: cfg.yaml line 1: unknown key Nonsense.*nothing was changed")
    assert process.get("/healthz").status == 200
