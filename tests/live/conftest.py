"""Fixtures of the live-client tests: the daemon they run against and the way to run a client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from live.clients import PROGRAMS, RunningClient
from live.daemon import DaemonUnderTest
from live.dev import Dev
from live.recorder import Recorder
from live.relay import Relay
from live.toolchains import ToolchainAbsentError

HERE = Path(__file__).parent
DAEMONS = {"recorder": Recorder, "relay": Relay, "dev": Dev}

# The first test that needs a toolchain installs it; others may wait for the lock meanwhile.
FIRST_RUN_TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(FIRST_RUN_TIMEOUT_S))


@pytest.fixture(params=sorted(DAEMONS))
def daemon(request: pytest.FixtureRequest) -> Iterator[DaemonUnderTest]:
    with DAEMONS[request.param]() as daemon:
        yield daemon


@pytest.fixture
def dev() -> Iterator[Dev]:
    """`xrayd dev`, for what only it can show: traces, summaries and the service graph."""
    with Dev() as dev:
        yield dev


class StartClient(Protocol):
    def __call__(
        self, name: str, scenario: str, *arguments: str, **options: Any
    ) -> RunningClient: ...


class RunClient(Protocol):
    def __call__(
        self, name: str, scenario: str, *arguments: str, **options: Any
    ) -> dict[str, Any]: ...


@pytest.fixture(scope="session")
def start_client() -> StartClient:
    """Start a client program (see RunningClient), or skip the test where it cannot be had."""
    absent: dict[str, str] = {}  # an unreachable registry is asked once, not once per test

    def start(name: str, scenario: str, *arguments: str, **options: Any) -> RunningClient:
        toolchain = PROGRAMS[name].toolchain
        if toolchain not in absent:
            try:
                return RunningClient(name, scenario, *arguments, **options)
            except ToolchainAbsentError as error:
                absent[toolchain] = str(error)
        pytest.skip(absent[toolchain])

    return start


@pytest.fixture(scope="session")
def run_client(start_client: StartClient) -> RunClient:
    """Run a client program to its end and return the JSON line it printed."""

    def run(name: str, scenario: str, *arguments: str, **options: Any) -> dict[str, Any]:
        with start_client(name, scenario, *arguments, **options) as client:
            return client.report()

    return run
