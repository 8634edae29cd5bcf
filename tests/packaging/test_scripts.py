"""Every script that is shipped: readable by its shell, clean under shellcheck, executable."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    p
    for p in [*(ROOT / "packaging").rglob("*"), *(ROOT / ".ci").iterdir()]
    if p.is_file() and p.read_bytes()[:2] == b"#!" and b"sh" in p.read_bytes().splitlines()[0]
)
HOOK = "prebuild/10_xrayd.sh"


def test_there_are_scripts():
    assert {p.name for p in SCRIPTS} >= {"10_xrayd.sh", "lock.sh"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_its_shell_can_read_it(script):
    shell = script.read_text().splitlines()[0].split("/")[-1].split()[-1]
    run = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script, tool):
    run = subprocess.run(
        [tool("shellcheck"), "-x", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_it_is_executable(script):
    assert os.access(script, os.X_OK)


def test_both_beanstalk_hooks_are_one_script():
    platform = ROOT / "packaging/beanstalk/.platform"
    assert (platform / "hooks" / HOOK).read_bytes() == (
        platform / "confighooks" / HOOK
    ).read_bytes()


def test_beanstalk_option_file_keeps_the_platform_s_switch_on():
    import yaml

    options = yaml.safe_load((ROOT / "packaging/beanstalk/.ebextensions/xray.config").read_text())
    assert options == {"option_settings": {"aws:elasticbeanstalk:xray": {"XRayEnabled": True}}}
