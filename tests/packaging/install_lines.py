"""The lines of the README's table "Install", for the tests that run them."""

from __future__ import annotations

import platform
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The README names the packages for x86-64; those for arm64 are called by their own architecture.
ARM64 = {"amd64": "arm64", "x86_64": "aarch64"}


def read_lines() -> dict[str, str]:
    """Platform -> its line, as it stands in the README."""
    section = (ROOT / "README.md").read_text().partition("\n## Install\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", section, re.MULTILINE))


def read_line(where: str) -> str:
    """One platform's line, for the architecture of this machine."""
    line = read_lines()[where]
    if platform.machine() == "aarch64":
        for named, here in ARM64.items():
            line = line.replace(named, here)
    return line
