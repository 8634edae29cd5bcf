"""Where the files are that people copy, and how their checkers are found."""

from __future__ import annotations

import shutil
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
