"""Every command explains itself, with no file, no spool and nobody who listens."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_tree import every_command
from fakes.process import clean_environment


def test_commands_are_found():
    assert {("dev", "import"), ("traces",), ("spool", "replay")} <= set(every_command())


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_command_explains_itself(words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xrayd", *words, "--help"], env=clean_environment(tmp_path),
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Usage: ")
