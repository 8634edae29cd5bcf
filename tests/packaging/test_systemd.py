"""The units, checked by systemd's own tools; packaging/systemd-test.sh boots them."""

from __future__ import annotations

import configparser
import os
import subprocess

import pytest


@pytest.fixture(scope="session")
def unit(root):
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(root / "systemd/xrayd.service")
    return parser


def test_unit_files_hold_nothing_systemd_does_not_know(root, tool, tmp_path):
    """In a tree with the programs the units name: a missing one would be found as well."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in ("xrayd.service", "xrayd.socket"):
        (units / name).write_text((root / "systemd" / name).read_text())
    targets = "network-online sockets multi-user basic sysinit shutdown network"
    for target in targets.split():
        (units / f"{target}.target").write_text("[Unit]\nDescription=stand-in\n")
    for program in ("usr/bin/xray", "bin/sh"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    run = subprocess.run(
        [tool("systemd-analyze"), "--man=no", f"--root={tmp_path}", "verify",
         "/etc/systemd/system/xrayd.service", "/etc/systemd/system/xrayd.socket"],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_LOG_COLOR": "0"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "xrayd" not in run.stderr


def test_exposure_is_at_most_one_and_a_half(root, tool):
    run = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=15",
         str(root / "systemd/xrayd.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr


def test_unit_answers_to_the_original_s_name(unit):
    assert unit["Install"]["Alias"] == "xray.service"


def test_unit_is_never_given_up(unit):
    assert unit["Service"]["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_unit_tells_when_it_is_ready_and_that_it_lives(unit):
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["WatchdogSec"] == "30s"


def test_spool_lies_in_the_state_directory(unit):
    state = unit["Service"]["StateDirectory"]
    assert unit["Service"]["Environment"] == f"XRAYD_SPOOL_DIRECTORY=/var/lib/{state}/spool"


def test_socket_holds_both_ports_with_a_large_buffer(root):
    text = (root / "systemd/xrayd.socket").read_text()
    assert "ListenDatagram=127.0.0.1:2000" in text
    assert "ListenStream=127.0.0.1:2000" in text
    assert "ReceiveBuffer=16M" in text
