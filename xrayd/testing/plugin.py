"""pytest's way to `xrayd.testing`: the fixture `xrayd_dev`. Loaded through the group `pytest11`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xrayd.testing import XrayDev


@pytest.fixture(scope="session")
def xrayd_dev_process() -> Iterator[XrayDev]:
    """One `xrayd dev` for the whole run, started when the first test asks for it."""
    with XrayDev() as running:
        yield running


@pytest.fixture
def xrayd_dev(xrayd_dev_process: XrayDev) -> Iterator[XrayDev]:
    """An X-Ray without traces; `AWS_XRAY_DAEMON_ADDRESS` names it during the test."""
    xrayd_dev_process.clear()
    with xrayd_dev_process.environment():
        yield xrayd_dev_process
