"""The .rpm's life, in the order of a host's: each test goes on where the one before has left it.

Started by packaging/systemd-test.sh, in a booted container of its own. The host is Debian's, so
what the package asks of an Amazon Linux host is provided by an empty package.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from booted_host import (
    CONFIGURATION,
    IS_BOOT,
    PREVIOUS,
    arrives,
    install,
    is_active,
    pid_of,
    program_of,
    run,
    send,
    show,
    wait_until,
    write_environment,
)
from fakes.xray import FakeXRay

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not IS_BOOT, reason="packaging/systemd-test.sh boots a host and runs this"),
]
UNIT = "xrayd.service"
WHERE = "Amazon Linux 2023, Fedora"

HOST = """Name: host
Version: 2023
Release: 1
Summary: stand-in for the host's own packages
License: none
BuildArch: noarch
Provides: /bin/sh, glibc = 2.36, libz.so.1()(64bit), shadow-utils
%description
Empty.
%files
"""

# What rpm does when the original's package goes: its unit is a configuration file, stopped after
# the new package's installation, and removed last.
ORIGINAL = """Name: xray
Version: 3.6.6
Release: 1
Summary: stand-in for the original daemon's package
License: none
BuildArch: noarch
%description
As the original's package behaves.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc/amazon/xray %{buildroot}/etc/systemd/system
printf '#!/bin/sh\\nexec sleep 1000000\\n' >%{buildroot}/usr/bin/xray
chmod 755 %{buildroot}/usr/bin/xray
printf 'Region: ""\\nVersion: 2\\n' >%{buildroot}/etc/amazon/xray/cfg.yaml
cat >%{buildroot}/etc/systemd/system/xray.service <<UNIT
[Service]
User=xray
ExecStart=/usr/bin/xray
[Install]
WantedBy=network-online.target
UNIT
%files
/usr/bin/xray
%config(noreplace) /etc/amazon/xray/cfg.yaml
%config(noreplace) /etc/systemd/system/xray.service
%pre
[ $1 -ne 1 ] || useradd --system -s /bin/false xray
%preun
[ $1 -ne 0 ] || systemctl stop xray
%posttrans
systemctl start xray
"""


@pytest.fixture(scope="module")
def upstream():
    with FakeXRay() as fake:
        write_environment(Path("/etc/amazon/xray/environment"), fake)
        yield fake


def build_package(spec: str, directory: Path) -> Path:
    (directory / "package.spec").write_text(spec)
    run("rpmbuild", "-bb", "--define", f"_topdir {directory}", directory / "package.spec")
    (package,) = directory.rglob("*.rpm")
    return package


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory):
    run("rpm", "-i", build_package(HOST, tmp_path_factory.mktemp("host")))
    run("rpm", "-i", build_package(ORIGINAL, tmp_path_factory.mktemp("original")))
    run("systemctl", "enable", "xray.service")
    assert program_of("xray.service").startswith("/usr/bin/sleep")


def test_original_s_package_is_replaced_and_its_edited_configuration_kept(upstream):
    CONFIGURATION.write_text(CONFIGURATION.read_text() + "# the administrator's\n")

    install(WHERE, PREVIOUS)

    assert run("rpm", "-q", "xray", check=False).strip() == "package xray is not installed"
    wait_until(lambda: is_active(UNIT), "the start")
    assert program_of(UNIT) == "/usr/lib/xrayd/xray"
    assert "# the administrator's" in CONFIGURATION.read_text()
    arrives(upstream, send(60))


def test_service_is_enabled_and_known_by_both_names():
    assert show("xray.service", "Id") == UNIT
    assert run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    links = Path("/etc/systemd/system").rglob("xray*.service")
    assert {str(os.readlink(link)) for link in links} == {f"/lib/systemd/system/{UNIT}"}


def test_upgrade_restarts_it_and_keeps_the_configuration(upstream):
    pid = pid_of(UNIT)
    install(WHERE)
    wait_until(lambda: is_active(UNIT), "the restart")
    assert pid_of(UNIT) != pid
    assert run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert "# the administrator's" in CONFIGURATION.read_text()
    arrives(upstream, send(60))


def test_files_are_as_packaged():
    changed = run("rpm", "-V", "xrayd", check=False).splitlines()
    assert [li for li in changed if not li.endswith(str(CONFIGURATION))] == []


def test_removal_stops_it_and_keeps_the_edited_configuration():
    run("rpm", "-e", "xrayd")
    assert not is_active(UNIT)
    assert not Path("/usr/bin/xray").exists()
    assert not Path("/etc/systemd/system/xray.service").is_symlink()
    assert Path(f"{CONFIGURATION}.rpmsave").exists()


def test_installed_without_the_original_it_starts_as_well(upstream):
    write_environment(Path("/etc/amazon/xray/environment"), upstream)
    install(WHERE)
    assert is_active(UNIT)
    assert show("xray.service", "Id") == UNIT
    arrives(upstream, send(10))
