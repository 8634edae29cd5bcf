"""The .rpm's life, in the order of a host's: each test goes on where the one before has left it.

Started by packaging/systemd-test.sh, in a booted container of its own. The host is Debian's, so
rpm is told not to ask for packages it depends on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from booted_host import (
    CONFIGURATION,
    IS_BOOT,
    PACKAGES,
    PREVIOUS,
    arrives,
    is_active,
    pid_of,
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


@pytest.fixture(scope="module")
def upstream():
    with FakeXRay() as fake:
        write_environment(Path("/etc/amazon/xray/environment"), fake)
        yield fake


def find_package(directory: Path) -> Path:
    (package,) = directory.glob("xrayd-*.rpm")
    return package


def test_package_replaces_the_original_s():
    facts = run("rpm", "-qp", "--provides", "--obsoletes", find_package(PACKAGES))
    assert "xray\n" in facts
    assert "xray < " in facts


def test_installation_starts_it(upstream):
    run("rpm", "-i", "--nodeps", find_package(PREVIOUS))
    assert is_active(UNIT)
    assert show("xray.service", "Id") == UNIT
    assert run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    arrives(upstream, send(60))


def test_upgrade_restarts_it_and_keeps_the_configuration(upstream):
    CONFIGURATION.write_text(CONFIGURATION.read_text() + "# the administrator's\n")
    pid = pid_of(UNIT)
    run("rpm", "-U", "--nodeps", find_package(PACKAGES))
    wait_until(lambda: is_active(UNIT), "the restart")
    assert pid_of(UNIT) != pid
    assert run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert "# the administrator's" in CONFIGURATION.read_text()
    arrives(upstream, send(60))


def test_files_are_as_packaged():
    changed = run("rpm", "-V", "--nodeps", "xrayd", check=False).splitlines()
    assert [li for li in changed if not li.endswith(str(CONFIGURATION))] == []


def test_removal_stops_it_and_keeps_the_edited_configuration():
    run("rpm", "-e", "--nodeps", "xrayd")
    assert not is_active(UNIT)
    assert not Path("/usr/bin/xray").exists()
    assert not Path("/etc/systemd/system/xray.service").is_symlink()
    assert Path(f"{CONFIGURATION}.rpmsave").exists()
