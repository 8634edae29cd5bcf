"""A developer's machine: the wheel run by its runners, and systems without Linux's modules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.documents import make_document
from fakes.process import Xrayd

OTHER_SYSTEM = Path(__file__).with_name("other_system.py")
SYSTEMS = ["macOS", "Windows"]
# Not reached on Windows: the spool says so and is not opened, and nobody sets NOTIFY_SOCKET.
POSIX_ONLY = {"xrayd/spool/disk.py", "xrayd/spool/directory.py", "xrayd/systemd.py"}


@pytest.mark.parametrize(("platform", "exempt"), [("darwin", set()), ("win32", POSIX_ONLY)])
def test_nothing_is_used_that_the_platform_s_python_does_not_have(
    platform, exempt, root, tool, tmp_path
):
    """By the type stubs of its standard library, which say what exists where."""
    done = subprocess.run(
        [tool("mypy"), "--platform", platform, "--cache-dir", tmp_path],
        capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    missing = re.findall(r"^(\S+?):\d+: error: .*\[attr-defined\]", done.stdout, re.MULTILINE)
    assert "checked 1" in done.stdout or "in 1" in done.stdout, done.stdout + done.stderr
    assert set(missing) == exempt, done.stdout


def run_there(system: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, OTHER_SYSTEM, system, *arguments],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_module_can_be_imported(system, tmp_path):
    done = run_there(system, "imports", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_segment_passes_and_the_end_is_orderly(system, xrayd, fake_xray):
    process = xrayd(command=(sys.executable, str(OTHER_SYSTEM), system))
    process.send_document(make_document(id="00000000000000aa"))
    fake_xray.wait_ids("00000000000000aa")
    process.sigterm()
    assert process.wait() == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_dev_shows_its_page_and_one_process_has_its_file(system, tmp_path):
    command = (sys.executable, str(OTHER_SYSTEM), system)
    flags = ("-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}", "dev", "--data", "traces.sqlite")
    with Xrayd(*flags, home=tmp_path, command=command) as first:
        assert b"<html" in first.get("/", {"Accept": "text/html"}).body
        with Xrayd(*flags, home=tmp_path, command=command, ready=None) as second:
            assert second.wait() == 1
            assert f"in use by another xrayd (process {first.pid})" in second.output
        first.sigterm()
        assert first.wait() == 0


def test_the_spool_works_on_macos(xrayd, fake_xray, tmp_path):
    spool = {"XRAYD_SPOOL_DIRECTORY": str(tmp_path / "spool")}
    process = xrayd(command=(sys.executable, str(OTHER_SYSTEM), "macOS"), env=spool)
    process.send_document(make_document(id="00000000000000ab"))
    fake_xray.wait_ids("00000000000000ab")
    assert list((tmp_path / "spool").iterdir())


def test_the_spool_is_refused_on_windows_with_a_reason(xrayd, tmp_path):
    spool = {"XRAYD_SPOOL_DIRECTORY": str(tmp_path / "spool")}
    process = xrayd(command=(sys.executable, str(OTHER_SYSTEM), "Windows"), env=spool, ready=None)
    assert process.wait() == 1
    assert "leave Spool.Directory unset" in process.output


def test_uvloop_is_asked_for_where_it_exists(wheel):
    from email import message_from_bytes
    from zipfile import ZipFile

    from packaging.requirements import Requirement

    archive = ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    needs = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist")
    (uvloop,) = (one for one in map(Requirement, needs) if one.name == "uvloop")
    systems = ("linux", "darwin", "win32")
    assert [s for s in systems if uvloop.marker.evaluate({"sys_platform": s})] == [
        "linux",
        "darwin",
    ]


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    from zipfile import ZipFile

    names = ZipFile(wheel).namelist()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"xrayd"}
    assert "xrayd/py.typed" in names
    assert not any("__pycache__" in n or n.startswith("tests") for n in names)
