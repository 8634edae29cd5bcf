"""What can be said of the images without building them.

packaging/image-test.sh builds and runs them.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

DOCKERFILES = ["Dockerfile", "packaging/scratch.Dockerfile"]


def read_instructions(path: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions in order, continuation lines joined, comments left out."""
    lines = [li for li in path.read_text().splitlines() if not li.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name.upper(), rest) for name, rest in pairs]


def last_stage(path: Path) -> dict[str, str]:
    """The final stage's instructions by name; of a repeated one, the last."""
    instructions = read_instructions(path)
    start = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    return dict(instructions[start:])


@pytest.fixture(params=DOCKERFILES)
def dockerfile(request, root) -> Path:
    path = root / request.param
    if not path.exists():
        pytest.fail(f"{request.param} is gone")
    return path


def test_entry_point_is_the_original_image_s(dockerfile):
    entry = json.loads(last_stage(dockerfile)["ENTRYPOINT"])
    assert entry == ["/xray", "-t", "0.0.0.0:2000", "-b", "0.0.0.0:2000"]


def test_ports_are_declared(dockerfile):
    assert last_stage(dockerfile)["EXPOSE"].split() == ["2000/udp", "2000/tcp"]


def test_user_is_a_number_so_that_runasnonroot_can_tell(dockerfile):
    assert last_stage(dockerfile)["USER"] == "10001:10001"


def test_health_check_needs_no_shell(dockerfile):
    words = last_stage(dockerfile)["HEALTHCHECK"]
    assert json.loads(words.partition("CMD")[2]) == ["/usr/bin/xrayd", "healthcheck"]


def test_no_platform_is_named_so_that_one_file_serves_them_all(dockerfile):
    text = dockerfile.read_text()
    assert "--platform=linux" not in text
    assert not re.search(r"^FROM .*(amd64|x86_64|arm64|aarch64)", text, re.MULTILINE)


def test_everything_copied_is_let_through_by_dockerignore(dockerfile, root):
    patterns = [li[1:] for li in (root / ".dockerignore").read_text().splitlines() if li[:1] == "!"]
    for name, rest in read_instructions(dockerfile):
        if name != "COPY" or "--from" in rest:
            continue
        for source in rest.split()[:-1]:
            assert (root / source).exists(), f"{source} is not in the repository"
            assert any(Path(source).match(p) for p in patterns), f".dockerignore hides {source}"


def test_hadolint_finds_nothing(dockerfile, tool):
    run = subprocess.run(
        [tool("hadolint"), dockerfile], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout


def test_shipped_configuration_has_the_original_s_keys(root):
    shipped = yaml.safe_load((root / "packaging/cfg.yaml").read_text())
    assert shipped["Version"] == 2
    assert set(shipped) == {
        "TotalBufferSizeMB", "Concurrency", "Region", "Endpoint", "Socket", "Logging", "LocalMode",
        "ResourceARN", "RoleARN", "NoVerifySSL", "ProxyAddress", "Version",
    }  # fmt: skip
