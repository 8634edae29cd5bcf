"""Fixtures for tests that look at xrayd from outside: a fake X-Ray and processes wired to it."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from fakes.captures import Captures, load_captures
from fakes.factory import XraydFactory
from fakes.process import Xrayd
from fakes.xray import FakeXRay
from hypothesis import HealthCheck, settings

# Machines that run tests are shared: how long an example takes says nothing about the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

PROCESSES = pytest.StashKey[list[Xrayd]]()


@pytest.fixture
def fake_xray() -> Iterator[FakeXRay]:
    """An X-Ray endpoint over plain HTTP that accepts `fakes.xray.CREDENTIALS`."""
    with FakeXRay() as fake:
        yield fake


@pytest.fixture(scope="session")
def captures() -> Captures:
    """The recorded traffic of real clients."""
    return load_captures()


@pytest.fixture
def xrayd(
    request: pytest.FixtureRequest, tmp_path: Path, fake_xray: FakeXRay
) -> Iterator[XraydFactory]:
    """A factory of xrayd processes that end with the test; none of them may print a traceback."""
    processes: list[Xrayd] = []
    request.node.stash[PROCESSES] = processes
    yield XraydFactory(tmp_path, fake_xray, processes)
    for process in processes:
        process.stop()
    for process in processes:
        process.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test wrote."""
    report = yield
    if report.failed:
        for process in item.stash.get(PROCESSES, []):
            report.sections.append((f"xrayd {' '.join(process.args)}", process.output))
    return report
