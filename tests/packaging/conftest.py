"""Where the files are that people copy, and how their checkers are found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tool():
    """A checker's path: beside the running Python or on PATH; else a visible skip."""

    def find(name: str) -> str:
        beside = Path(sys.executable).with_name(name)
        path = str(beside) if beside.exists() else shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@pytest.fixture(scope="session")
def wheel(root, tool, tmp_path_factory):
    uv = tool("uv")
    out = tmp_path_factory.mktemp("dist")
    words = [uv, "build", "--quiet", "--wheel", "--out-dir", out, root]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr.lower():
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("xrayd-*.whl")
    return wheel
