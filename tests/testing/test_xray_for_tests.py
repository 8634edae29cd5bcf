"""`xrayd.testing`, as a project that tests its own tracing uses it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.documents import make_datagram, make_document
from fakes.process import clean_environment
from fakes.server import PATIENCE_S

from xrayd.testing import ADDRESS_VARIABLE, TraceNotFoundError, XrayDev

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


@pytest.fixture(scope="module")
def running():
    with XrayDev() as xray:
        yield xray


def send(xray: XrayDev, **fields) -> None:
    port = int(re.search(r"udp:127\.0\.0\.1:(\d+)$", xray.daemon_address)[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(make_datagram(make_document(**fields)), ("127.0.0.1", port))


def test_a_trace_is_waited_for_and_whole(running):
    send(running, name="api", fault=True, annotations={"order": 42})
    found = running.wait_for_trace('service("api") {fault}', timeout=PATIENCE_S)
    assert found.summary["HasFault"] is True
    assert found.id == found.summary["Id"] == found.segments[0]["trace_id"]
    assert found.segments[0]["annotations"] == {"order": 42}


def test_what_was_cleared_is_not_found_again_and_later_traces_are(running):
    send(running, name="before")
    running.clear()
    assert running.traces() == []
    send(running, name="after")
    assert running.wait_for_trace(timeout=PATIENCE_S).segments[0]["name"] == "after"
    assert [found.segments[0]["name"] for found in running.traces()] == ["after"]
    assert running.traces('service("before")') == []


def test_nothing_that_matches_says_what_came(running):
    running.clear()
    with pytest.raises(TraceNotFoundError, match="none came at all"):
        running.wait_for_trace(timeout=0)
    send(running, name="other", error=True)
    running.wait_for_trace(timeout=PATIENCE_S)
    with pytest.raises(TraceNotFoundError, match=r"1 came:\n  1-.* Error .*'other'"):
        running.wait_for_trace("fault", timeout=0)


def test_a_wrong_filter_is_told_at_once(running):
    from xrayd.dev.client import CallError

    with pytest.raises(CallError, match="position 0"):
        running.wait_for_trace("falt", timeout=PATIENCE_S)


@pytest.mark.parametrize("before", [None, "127.0.0.1:2000"])
def test_the_environment_is_put_back(running, monkeypatch, before):
    if before is None:
        monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(ADDRESS_VARIABLE, before)
    with running.environment():
        assert os.environ[ADDRESS_VARIABLE] == running.daemon_address
    assert os.environ.get(ADDRESS_VARIABLE) == before


def test_it_says_when_it_is_not_running():
    with pytest.raises(RuntimeError, match="not running"):
        XrayDev().traces()


def test_it_ends_with_the_process_that_was_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", "from xrayd.testing import XrayDev; import time\n"
         "x = XrayDev().start(); print(x._process.pid, flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE, env=clean_environment(tmp_path),
    )  # fmt: skip
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + PATIENCE_S
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pytest_in(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env=clean_environment(folder, env),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )


def test_the_readmes_example_passes_as_it_stands(tmp_path):
    pytest.importorskip("aws_xray_sdk")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 12
    (tmp_path / "test_example.py").write_text(example)
    result = pytest_in(tmp_path, "-q")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


def test_tests_of_one_run_do_not_see_each_others_traces(tmp_path):
    (tmp_path / "test_two.py").write_text(
        "import os, socket, pytest\n"
        "from fakes.documents import make_datagram, make_document\n"
        "@pytest.mark.parametrize('name', ['one', 'two'])\n"
        "def test_own(xrayd_dev, name):\n"
        "    assert xrayd_dev.traces() == []\n"
        "    address = os.environ['AWS_XRAY_DAEMON_ADDRESS'].rpartition(':')\n"
        "    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    sock.sendto(make_datagram(make_document(name=name)), ('127.0.0.1', int(address[2])))\n"
        "    sock.close()\n"
        "    assert xrayd_dev.wait_for_trace(timeout=60).segments[0]['name'] == name\n"
    )
    tests = str(Path(__file__).parent.parent)
    result = pytest_in(tmp_path, "-q", "-W", "error", PYTHONPATH=tests)
    assert "2 passed" in result.stdout, result.stdout + result.stderr


def test_those_who_do_not_use_it_pay_nothing(tmp_path):
    (tmp_path / "test_modules.py").write_text(
        "import sys\n"
        "def test_nothing_heavy():\n"
        "    ours = {name for name in sys.modules if name.split('.')[0] == 'xrayd'}\n"
        "    assert ours == {'xrayd', 'xrayd.testing', 'xrayd.testing.plugin'}\n"
        "    heavy = {'httpx', 'msgspec', 'click', 'botocore', 'uvloop', 'sqlite3', 'asyncio'}\n"
        "    assert not heavy & sys.modules.keys()\n"
    )
    # only this plugin: what others import is not ours to answer for
    plugins = ("-p", "xrayd.testing.plugin")
    result = pytest_in(tmp_path, "-q", *plugins, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "1 passed" in result.stdout, result.stdout + result.stderr
