"""Elastic Beanstalk's hook on a host with the platform's own xray.service.

Each test goes on where the one before has left the host. Started by packaging/systemd-test.sh, in
a booted container of its own.
"""

from __future__ import annotations

import io
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest
from booted_host import (
    CONFIGURATION,
    IS_BOOT,
    PACKAGES,
    arrives,
    is_active,
    pid_of,
    program_of,
    run,
    send,
    show,
    write_environment,
)
from fakes.xray import FakeXRay
from install_lines import read_line

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not IS_BOOT, reason="packaging/systemd-test.sh boots a host and runs this"),
]
UNIT = "xray.service"
STAGING = Path("/var/app/staging")
ARCHIVE = STAGING / ".platform/files/xrayd.tar.gz"
DROP_IN = Path("/etc/systemd/system/xray.service.d/50-xrayd.conf")
HOME = Path("/opt/xrayd")

# What the platform brings: its unit and a daemon, here a program that only sleeps.
PLATFORM_UNIT = """[Unit]
Description=AWS X-Ray Daemon
After=network.target
[Service]
Type=exec
User=xray
Group=xray
ExecStart=/usr/bin/xray -f /var/log/xray/xray.log
Restart=always
RestartSec=1s
LogsDirectory=xray
[Install]
WantedBy=network-online.target
"""


@pytest.fixture(scope="module")
def upstream():
    with FakeXRay() as fake:
        CONFIGURATION.parent.mkdir(parents=True)
        CONFIGURATION.write_text("Version: 2\n")
        run("useradd", "--system", "--user-group", "xray")
        shutil.copy("/usr/bin/sleep", "/usr/lib/original-xray")
        Path("/usr/bin/xray").write_text("#!/bin/sh\nexec /usr/lib/original-xray 1000000\n")
        Path("/usr/bin/xray").chmod(0o755)
        Path("/etc/systemd/system/xray.service").write_text(PLATFORM_UNIT)
        settings = DROP_IN.with_name("10-test.conf")
        write_environment(settings, fake, prefix="Environment=")
        settings.write_text("[Service]\n" + settings.read_text())
        run("systemctl", "daemon-reload")
        run("systemctl", "start", UNIT)
        STAGING.mkdir(parents=True)
        line = read_line("Elastic Beanstalk").replace("APPLICATION", str(STAGING))
        run(*shlex.split(line), cwd=Path("/source"))
        ARCHIVE.parent.mkdir()
        yield fake


def run_hook(kind: str = "hooks", **properties: str) -> str:
    return run(STAGING / f".platform/{kind}/prebuild/10_xrayd.sh", env=properties)


def is_original() -> bool:
    return is_active(UNIT) and program_of(UNIT) == "/usr/lib/original-xray"


def is_xrayd() -> bool:
    return is_active(UNIT) and program_of(UNIT).startswith("/opt/xrayd/")


def pack(script: str) -> None:
    """An archive whose program is a shell script."""
    with tarfile.open(ARCHIVE, "w:gz") as archive:
        entry = tarfile.TarInfo("xrayd-0-linux/xray")
        entry.mode, entry.size = 0o755, len(script)
        archive.addfile(entry, io.BytesIO(script.encode()))


def test_without_the_archive_nothing_changes(upstream):
    assert "stays" in run_hook()
    assert is_original()
    assert not DROP_IN.exists()


def test_a_program_that_does_not_run_here_changes_nothing():
    pid = pid_of(UNIT)
    for script in (
        "#!/no/such/interpreter\n",
        "#!/bin/sh\nexit 1\n",
        '#!/bin/sh\n[ "$1" = --version ]\n',
    ):
        pack(script)
        assert "stays" in run_hook()
        assert pid_of(UNIT) == pid
        assert not DROP_IN.exists()


def test_a_service_that_does_not_come_up_is_given_back():
    pack('#!/bin/sh\ncase "$*" in --version) ;; *127.0.0.1:0*) exec sleep 9 ;; *) exit 1 ;; esac\n')
    assert "stays" in run_hook()
    assert not DROP_IN.exists()
    assert is_original()


def test_hook_takes_over(upstream):
    (package,) = PACKAGES.glob("xrayd-*-linux-*.tar.gz")
    shutil.copy(package, ARCHIVE)
    assert "in place" in run_hook()
    assert is_xrayd()
    arrives(upstream, send(60))
    assert CONFIGURATION.read_text() == "Version: 2\n"
    assert Path("/usr/bin/xray").read_text().startswith("#!/bin/sh")


def test_a_second_run_changes_nothing():
    pid = pid_of(UNIT)
    for kind in ("hooks", "confighooks"):
        assert "already" in run_hook(kind)
        assert pid_of(UNIT) == pid


def test_what_the_platform_does_after_a_deployment_keeps_it(upstream):
    pid = pid_of(UNIT)
    run("systemctl", "is-active", UNIT)
    run("systemctl", "start", UNIT)
    assert pid_of(UNIT) == pid
    run("systemctl", "stop", UNIT)
    assert show(UNIT, "Result") == "success"
    run("systemctl", "start", UNIT)
    assert is_xrayd()
    arrives(upstream, send(20))


def test_a_newer_archive_replaces_the_older(upstream):
    before = set(HOME.iterdir())
    (package,) = PACKAGES.glob("xrayd-*-linux-*.tar.gz")
    unpacked = package.read_bytes()
    ARCHIVE.write_bytes(unpacked + b"\0" * 512)  # gzip lets what follows be zeros
    pid = pid_of(UNIT)
    assert "in place" in run_hook()
    assert is_xrayd()
    assert pid_of(UNIT) != pid
    assert len(set(HOME.iterdir())) == len(before)
    arrives(upstream, send(20))


def test_switching_it_off_gives_the_service_back():
    run_hook("confighooks", XRAYD_TAKEOVER="off")
    assert is_original()
    assert not DROP_IN.exists()
    assert not HOME.exists()
    run_hook("confighooks", XRAYD_TAKEOVER="off")
    assert is_original()
