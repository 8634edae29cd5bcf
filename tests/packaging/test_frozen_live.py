"""The frozen program of the archive: packaging/systemd-test.sh unpacks it and runs this."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from command_tree import every_command
from fakes.documents import make_document
from fakes.process import Xrayd, clean_environment

PROGRAM = os.environ.get("XRAYD_FROZEN", "")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not PROGRAM, reason="packaging/systemd-test.sh makes it and runs this"),
]


def run(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *words], env=clean_environment(home), cwd=home, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_command_explains_itself(words, tmp_path):
    done = run(*words, "--help", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Usage: ")


def test_a_segment_passes(xrayd, fake_xray):
    process = xrayd(command=(PROGRAM,))
    process.send_document(make_document(id="00000000000000aa"))
    fake_xray.wait_ids("00000000000000aa")
    print(f"\nmeasured: archive, RSS {process.rss_mib():.1f} MiB")
    process.sigterm()
    assert process.wait() == 0


def test_dev_shows_its_page_and_its_traces_are_listed(tmp_path):
    flags = ("-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}", "dev", "--data", "traces.sqlite")
    with Xrayd(*flags, "--demo", home=tmp_path, command=(PROGRAM,)) as dev:
        page = dev.get("/", {"Accept": "text/html"})
        assert page.status == 200
        named = re.findall(r'(?:href|src)="(/[^"]+)"', page.body.decode())
        assert len(named) >= 3
        for name in named:
            assert dev.get(name).status == 200, name
        listed = run("-t", f"127.0.0.1:{dev.port}", "traces", home=tmp_path)
        assert listed.returncode == 0, listed.stderr


def test_start_is_quick(xrayd):
    """Printed, not judged: a shared machine's clock is no measure."""
    times = []
    for _ in range(7):
        began = time.monotonic()
        process = xrayd(command=(PROGRAM,), ready=None)
        while f":{process.port:04X} " not in Path("/proc/net/udp").read_text():
            assert process.running, process.output
            time.sleep(0.001)
        times.append(time.monotonic() - began)
        process.kill()
    print(f"\nmeasured: archive, start to port bound {statistics.median(times) * 1000:.0f} ms")
