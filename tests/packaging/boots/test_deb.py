"""The .deb's life, in the order of a host's: each test goes on where the one before has left it.

Started by packaging/systemd-test.sh, in a booted container of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from booted_host import (
    CONFIGURATION,
    IS_BOOT,
    PACKAGES,
    PREVIOUS,
    arrives,
    install,
    is_active,
    measure_start,
    pid_of,
    program_of,
    run,
    send,
    show,
    status_of,
    wait_until,
    write_environment,
)
from fakes.xray import FakeXRay

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not IS_BOOT, reason="packaging/systemd-test.sh boots a host and runs this"),
]
UNIT = "xrayd.service"

WHERE = "Debian, Ubuntu"

# As the original's package behaves: its unit is a configuration file, which outlives the package.
ORIGINAL = {
    "DEBIAN/control": """Package: xray
Version: 3.6.6
Architecture: all
Maintainer: nobody <nobody@example.invalid>
Description: stand-in for the original daemon's package
""",
    "DEBIAN/conffiles": "/etc/amazon/xray/cfg.yaml\n/lib/systemd/system/xray.service\n",
    "DEBIAN/preinst": "#!/bin/sh\nuseradd --system -s /bin/false xray\n",
    "DEBIAN/postinst": "#!/bin/sh\nsystemctl daemon-reload\nsystemctl start xray\n",
    "DEBIAN/prerm": "#!/bin/sh\nsystemctl stop xray\n",
    "etc/amazon/xray/cfg.yaml": 'Region: ""\nVersion: 2\n',
    "lib/systemd/system/xray.service": """[Service]
User=xray
ExecStart=/usr/bin/xray
[Install]
WantedBy=network-online.target
""",
    "usr/bin/xray": "#!/bin/sh\nexec sleep 1000000\n",
}


@pytest.fixture(scope="module")
def upstream():
    with FakeXRay() as fake:
        write_environment(Path("/etc/amazon/xray/environment"), fake)
        yield fake


def test_original_s_package_is_replaced_and_its_edited_configuration_kept(upstream, tmp_path):
    tree = tmp_path / "xray"
    for name, text in ORIGINAL.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    for program in ("preinst", "postinst", "prerm"):
        (tree / "DEBIAN" / program).chmod(0o755)
    (tree / "usr/bin/xray").chmod(0o755)
    run("dpkg-deb", "--root-owner-group", "-b", tree, tmp_path / "xray.deb")
    run("dpkg", "-i", tmp_path / "xray.deb")
    run("systemctl", "enable", "xray.service")
    assert program_of("xray.service") == "/usr/bin/sleep"
    CONFIGURATION.write_text(CONFIGURATION.read_text() + "# the administrator's\n")
    # What an administrator answers whom dpkg asks whether to keep that.
    Path("/etc/dpkg/dpkg.cfg.d/keep").write_text("force-confold\n")

    install(WHERE, PREVIOUS)

    assert program_of(UNIT) == "/usr/lib/xrayd/xray"
    assert "# the administrator's" in CONFIGURATION.read_text()
    original = run("dpkg-query", "-W", "-f", "${db:Status-Status}", "xray", check=False)
    assert original != "installed"
    links = Path("/etc/systemd/system").rglob("xray*.service")
    assert {os.readlink(link) for link in links} == {f"/lib/systemd/system/{UNIT}"}


def test_what_the_original_left_behind_can_be_purged():
    pid = pid_of(UNIT)
    run("dpkg", "-P", "xray")
    assert pid_of(UNIT) == pid
    assert "# the administrator's" in CONFIGURATION.read_text()
    assert show("xray.service", "Id") == UNIT


def test_service_is_active_enabled_and_known_by_both_names():
    for name in (UNIT, "xray.service"):
        assert is_active(name)
        assert run("systemctl", "is-enabled", name).strip() in ("enabled", "alias")
        assert show(name, "Id") == UNIT
    assert run("/usr/bin/xray", "healthcheck", check=True) is not None
    print(f"\nmeasured: .deb, process start to ready {measure_start(UNIT) * 1000:.0f} ms")


def test_segments_arrive(upstream):
    arrives(upstream, send(120))


def test_hardening_holds_in_the_running_process():
    pid = pid_of(UNIT)
    assert run("stat", "-c", "%U", f"/proc/{pid}").strip() == "xray"
    for capabilities in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(status_of(pid, capabilities), 16) == 0
    assert status_of(pid, "NoNewPrivs") == "1"
    assert status_of(pid, "Seccomp") == "2"
    exposure = run("systemd-analyze", "security", "--no-pager", "--threshold=15", UNIT)
    assert "exposure level" in exposure
    print(f"\nmeasured: RSS {int(status_of(pid, 'VmRSS').split()[0]) / 1024:.1f} MiB")


def test_directories_are_the_service_s_own():
    for path in ("/var/log/xray", "/var/lib/xray", "/var/lib/xray/spool"):
        assert run("stat", "-c", "%U", path).strip() == "xray"
    assert Path("/var/log/xray/xray.log").stat().st_size > 0


def test_kill_9_loses_nothing_that_had_been_received(upstream):
    upstream.down()
    try:
        ids = send(100)
        wait_until(lambda: ids[-1].encode() in read_spool(), "the spool on disk")
        pid = pid_of(UNIT)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_active(UNIT) and pid_of(UNIT) not in (0, pid), "the restart")
        assert int(show(UNIT, "NRestarts")) >= 1
    finally:
        upstream.up()
    arrives(upstream, ids)


def read_spool() -> bytes:
    files = (p for p in Path("/var/lib/xray/spool").rglob("*") if p.is_file())
    return b"".join(p.read_bytes() for p in files)


def test_reload_keeps_the_process_and_it_goes_on(upstream):
    pid = pid_of(UNIT)
    run("systemctl", "reload", UNIT)
    wait_until(lambda: is_active(UNIT), "the end of the reload")
    assert pid_of(UNIT) == pid
    arrives(upstream, send(10))


def test_watchdog_ends_a_process_that_hangs():
    drop_in = Path("/run/systemd/system/xrayd.service.d/watchdog.conf")
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=2s\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", UNIT)
    pid = pid_of(UNIT)
    subprocess.run(["sleep", "4"], check=True)  # two of its periods, in which it must be left alone
    assert pid_of(UNIT) == pid
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: is_active(UNIT) and pid_of(UNIT) not in (0, pid), "the watchdog")
    drop_in.unlink()
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", UNIT)


def test_socket_unit_keeps_every_datagram_of_a_restart(upstream):
    run("systemctl", "stop", UNIT)
    run("systemctl", "enable", "--now", "xrayd.socket")
    run("systemctl", "start", UNIT)
    assert buffer_of_port_2000() >= 16 * 1024 * 1024
    run("systemctl", "restart", "--no-block", UNIT)
    ids = send(1500, pause_s=0.001)
    arrives(upstream, ids)
    wait_until(lambda: is_active(UNIT), "the restart")
    assert buffer_of_port_2000() >= 16 * 1024 * 1024


def buffer_of_port_2000() -> int:
    """Bytes of the UDP socket's receive buffer, as `ss` shows it: `skmem:(r0,rb33554432,…`."""
    text = run("ss", "--udp", "--listening", "--numeric", "--memory", "sport", "=", ":2000")
    return int(text.partition(",rb")[2].partition(",")[0])


def test_upgrade_restarts_it_and_keeps_the_configuration(upstream):
    pid = pid_of(UNIT)
    install(WHERE)
    wait_until(lambda: is_active(UNIT), "the restart")
    assert pid_of(UNIT) != pid
    assert "# the administrator's" in CONFIGURATION.read_text()
    arrives(upstream, send(10))


def test_sigterm_with_a_backlog_drains_it(upstream):
    ids = send(300)
    run("systemctl", "stop", "xrayd.socket", UNIT)
    assert show(UNIT, "Result") == "success"
    assert show(UNIT, "ExecMainStatus") == "0"
    arrives(upstream, ids)
    run("systemctl", "disable", "xrayd.socket")
    run("systemctl", "start", UNIT)


def test_a_disabled_service_stays_disabled_through_an_upgrade():
    run("systemctl", "disable", "--now", UNIT)
    install(WHERE)
    assert not is_active(UNIT)
    assert run("systemctl", "is-enabled", UNIT, check=False).strip() == "disabled"
    run("systemctl", "enable", "--now", UNIT)


def test_removal_stops_it_and_keeps_the_configuration():
    run("dpkg", "-r", "xrayd")
    assert not is_active(UNIT)
    assert not Path("/usr/bin/xray").exists()
    assert not Path("/etc/systemd/system/xray.service").is_symlink()
    assert CONFIGURATION.exists()


def test_installed_again_it_runs_again():
    install(WHERE)
    assert is_active(UNIT)
    assert run("systemctl", "is-enabled", "xray.service").strip() == "alias"


def test_purge_leaves_nothing():
    run("dpkg", "-P", "xrayd")
    left = [p for p in ("/etc/amazon", "/var/log/xray", "/var/lib/xray", "/usr/lib/xrayd") if
            os.path.lexists(p)]  # fmt: skip
    assert left == []
    assert "xray" not in Path("/etc/passwd").read_text()
    assert list(Path("/etc/systemd/system").rglob("xray*")) == []


def test_by_hand_it_is_what_the_readme_says(upstream):
    (archive,) = PACKAGES.glob("xrayd-*-linux-*.tar.gz")
    Path("/opt/xrayd/bin").mkdir(parents=True)
    run("tar", "-xzf", archive, "-C", "/opt/xrayd", "--strip-components=1")
    Path("/opt/xrayd/bin/xrayd").symlink_to("/opt/xrayd/xray")
    text = Path("/source/packaging/README.md").read_text().partition("\nBy hand it is ")[2]
    write_environment(Path("/etc/amazon/xray/environment"), upstream)
    run("sh", "-euc", text.split("```")[1], cwd=Path("/source"))
    assert is_active("xray.service")
    assert program_of(UNIT) == "/opt/xrayd/xray"
    arrives(upstream, send(20))
