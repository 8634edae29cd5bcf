"""A booted host as the checks see it: its unit manager, its service, what the service sends."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path

from fakes.documents import make_datagram, make_document
from fakes.xray import CREDENTIALS, FakeXRay
from install_lines import read_line

PATIENCE_S = 60.0
PACKAGES = Path("/packages")
PREVIOUS = PACKAGES / "previous"
IS_BOOT = os.environ.get("XRAYD_BOOT") == "1"
CONFIGURATION = Path("/etc/amazon/xray/cfg.yaml")


def run(*words: str | Path, check: bool = True, env=None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{journal()}"
    return done.stdout + done.stderr


def journal() -> str:
    done = subprocess.run(
        ["journalctl", "--no-pager", "-n", "30", "-o", "cat"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "\n--- journal ---\n" + done.stdout


def install(where: str, directory: Path = PACKAGES) -> str:
    """Run the README's line for a platform where its package lies; for PREVIOUS, with that one."""
    *command, package = shlex.split(read_line(where))
    if directory == PREVIOUS:
        (package,) = directory.glob(f"*{Path(package).suffix}")
    return run(*command, package, cwd=directory)


def show(unit: str, name: str) -> str:
    return run("systemctl", "show", "--property", name, "--value", unit).strip()


def pid_of(unit: str) -> int:
    return int(show(unit, "MainPID"))


def program_of(unit: str) -> str:
    return os.readlink(f"/proc/{pid_of(unit)}/exe")


def is_active(unit: str) -> bool:
    return show(unit, "ActiveState") == "active"


def wait_until(is_so, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain: {what}{journal()}"
        time.sleep(0.05)


def send(count: int, pause_s: float = 0.0005) -> list[str]:
    """Send `count` segments to UDP 2000; their ids."""
    ids = [f"{int.from_bytes(os.urandom(8)):016x}" for _ in range(count)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for segment_id in ids:
            sock.sendto(make_datagram(make_document(id=segment_id)), ("127.0.0.1", 2000))
            time.sleep(pause_s)
    return ids


def environment_for(upstream: FakeXRay) -> dict[str, str]:
    return {
        **CREDENTIALS,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_XRAY": upstream.url,
    }


def write_environment(path: Path, upstream: FakeXRay, prefix: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{prefix}{k}={v}\n" for k, v in environment_for(upstream).items())
    path.write_text("".join(lines))


def status_of(pid: int, field: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def arrives(upstream: FakeXRay, ids: list[str]) -> None:
    try:
        upstream.wait_ids(*ids, timeout=PATIENCE_S)
    except AssertionError as error:
        log = Path("/var/log/xray/xray.log")
        tail = log.read_text()[-3000:] if log.exists() else ""
        raise AssertionError(f"{error}{journal()}\n--- log ---\n{tail}") from error


def measure_start(unit: str) -> float:
    """Seconds from the process's start to its being ready, as systemd counted them."""
    began = int(show(unit, "ExecMainStartTimestampMonotonic"))
    ready = int(show(unit, "ActiveEnterTimestampMonotonic"))
    return (ready - began) / 1e6
