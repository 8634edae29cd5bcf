"""The README's install lines: each is run as it stands, or as far as one machine can.

The image's line is run by packaging/image-test.sh, the packages' by packaging/systemd-test.sh.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import botocore.session
import pytest
from botocore.validate import ParamValidator
from fakes.process import Xrayd, clean_environment

from xrayd import __version__


@pytest.fixture(scope="session")
def lines(root) -> dict[str, list[str]]:
    """Platform -> the words of its line."""
    section = (root / "README.md").read_text().partition("\n## Install\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", section, re.MULTILINE)
    return {where: shlex.split(line) for where, line in rows}


def test_every_platform_has_a_line(lines):
    assert set(lines) == {
        "laptop", "container", "Debian, Ubuntu", "Amazon Linux 2023, Fedora", "ECS", "Kubernetes",
        "Elastic Beanstalk",
    }  # fmt: skip


def test_laptop_s_line_serves_the_page(lines, wheel, tool, tmp_path):
    program, *words = lines["laptop"]
    assert f"./{wheel.name}" in words
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(wheel, home)
    at = words.index("dev")
    words[at:at] = ["-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}"]
    # Package index, certificates and uv's cache are the caller's; where `dev` keeps data is not.
    callers = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "XRAYD_"))}
    uv = {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "XDG_DATA_HOME": str(home)}
    process = Xrayd(*words, home=home, command=(tool(program),), ready=None, env={**callers, **uv})
    with process:
        process.wait_healthy(110)
        assert b"<html" in process.get("/", {"Accept": "text/html"}).body
        process.sigterm()
        assert process.wait() == 0


def test_image_s_line_asks_for_what_the_image_test_asks_for(lines):
    words = lines["container"]
    assert words[:5] == ["docker", "build", "-t", "xrayd", "."]
    assert {"--read-only", "--cap-drop", "ALL", "2000:2000/udp", "2000:2000/tcp"} <= set(words)


def test_packages_lines_name_what_is_built(lines):
    assert lines["Debian, Ubuntu"] == ["dpkg", "-i", f"xrayd_{__version__}_amd64.deb"]
    assert lines["Amazon Linux 2023, Fedora"] == [
        "rpm", "-U", f"xrayd-{__version__}-1.x86_64.rpm",
    ]  # fmt: skip


def test_ecs_s_line_sends_what_ecs_accepts(lines, root):
    *command, file = lines["ECS"]
    assert command == ["aws", "ecs", "register-task-definition", "--cli-input-json"]
    task = json.loads((root / file.removeprefix("file://")).read_text())
    shape = botocore.session.get_session().get_service_model("ecs")
    shape = shape.operation_model("RegisterTaskDefinition").input_shape
    assert ParamValidator().validate(task, shape).generate_report() == ""


def test_kubernetes_line_renders(lines, root, tool, tmp_path):
    program, _, _, directory = lines["Kubernetes"]
    done = subprocess.run(
        [tool(program), "kustomize", root / directory],
        capture_output=True, text=True, check=False, env=clean_environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kind: DaemonSet" in done.stdout


def test_beanstalk_s_line_copies_hooks_that_may_be_run(lines, root, tmp_path):
    done = subprocess.run(
        [word.replace("APPLICATION", str(tmp_path)) for word in lines["Elastic Beanstalk"]],
        capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for kind in ("hooks", "confighooks"):
        hook = tmp_path / f".platform/{kind}/prebuild/10_xrayd.sh"
        assert hook.stat().st_mode & 0o111
    assert (tmp_path / ".ebextensions/xray.config").exists()
