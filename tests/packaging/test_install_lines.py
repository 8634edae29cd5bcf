"""The README's install lines, each run as it stands.

The image's line is run by packaging/image-test.sh, the packages' by packaging/systemd-test.sh, and
there is no AWS and no cluster behind `aws` and `kubectl` but what checks like them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from fakes.process import Xrayd, clean_environment
from fakes.xray import CREDENTIALS
from install_lines import ROOT, read_line, read_lines

from xrayd import __version__


def test_every_platform_has_a_line():
    assert set(read_lines()) == {
        "laptop", "container", "Debian, Ubuntu", "Amazon Linux 2023, Fedora", "ECS", "Kubernetes",
        "Elastic Beanstalk",
    }  # fmt: skip


@pytest.fixture
def uv_environment(tmp_path):
    """Package index, certificates and uv's cache are the caller's; what is AWS's is not."""
    callers = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "XRAYD_"))}
    own = {
        "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "XDG_DATA_HOME": tmp_path,
        "PIPX_HOME": tmp_path / "pipx", "PIPX_DEFAULT_PYTHON": sys.executable,
    }  # fmt: skip
    return {**callers, **{k: str(v) for k, v in own.items()}}


@pytest.mark.parametrize("runner", ["uvx", "pipx"])
def test_laptop_s_line_serves_the_page(runner, wheel, tool, uv_environment, tmp_path):
    lines = read_lines()["laptop"] + "\n" + (ROOT / "packaging/README.md").read_text()
    program, *words = shlex.split(re.search(rf"^{runner} .* dev$", lines, re.MULTILINE)[0])
    command = (tool("uvx"), *(["--quiet", "pipx"] if program == "pipx" else []))
    shutil.copy(wheel, tmp_path)
    # As it stands but for the port, which on this machine may be somebody else's.
    at = words.index("dev")
    words[at:at] = ["-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}"]
    process = Xrayd(*words, home=tmp_path, command=command, ready=None, env=uv_environment)
    with process:
        process.wait_healthy(110)
        assert b"<html" in process.get("/", {"Accept": "text/html"}).body
        process.sigterm()
        assert process.wait() == 0


def test_packages_lines_name_what_is_built():
    assert read_lines()["Debian, Ubuntu"] == f"dpkg -i xrayd_{__version__}_amd64.deb"
    assert read_lines()["Amazon Linux 2023, Fedora"] == f"rpm -U xrayd-{__version__}-1.x86_64.rpm"


def test_ecs_s_line_registers_the_task_definition(root, tool, uv_environment, tmp_path):
    control_planes = pytest.importorskip("control_planes")
    aws = [tool("uv"), "tool", "run", "--quiet", "--from", "awscli"]
    with control_planes.FakeEcs() as ecs:
        done = subprocess.run(
            [*aws, *shlex.split(read_line("ECS"))],
            capture_output=True, text=True, check=False, cwd=root,
            env={
                **uv_environment, **CREDENTIALS, "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_ENDPOINT_URL_ECS": ecs.url,
            },
        )  # fmt: skip
    if "error sending request" in done.stderr.lower():
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["taskDefinition"]["family"] == "app"
    (task,) = ecs.registered
    assert task == json.loads((root / "packaging/ecs/task-definition.json").read_text())


def test_kubernetes_line_creates_everything(root, tool, tmp_path):
    control_planes = pytest.importorskip("control_planes")
    program, *words = shlex.split(read_line("Kubernetes"))
    with control_planes.FakeCluster() as cluster:
        (tmp_path / "config").write_text(
            "{apiVersion: v1, kind: Config, current-context: here, "
            f"clusters: [{{name: here, cluster: {{server: '{cluster.url}'}}}}], "
            "contexts: [{name: here, context: {cluster: here}}]}\n"
        )
        done = subprocess.run(
            [tool(program), *words], capture_output=True, text=True, check=False, cwd=root,
            env=clean_environment(tmp_path, {"KUBECONFIG": str(tmp_path / "config")}),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kinds = [resource["kind"] for resource in cluster.created]
    assert sorted(kinds) == ["ConfigMap", "DaemonSet", "Service", "ServiceAccount"]


def test_beanstalk_s_line_copies_hooks_that_may_be_run(root, tmp_path):
    line = read_line("Elastic Beanstalk").replace("APPLICATION", str(tmp_path))
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    for kind in ("hooks", "confighooks"):
        hook = tmp_path / f".platform/{kind}/prebuild/10_xrayd.sh"
        assert hook.stat().st_mode & 0o111
    assert (tmp_path / ".ebextensions/xray.config").exists()
