"""Fixtures for tests that look at xrayd from outside: a fake X-Ray and processes wired to it."""

import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes.captures import Captures, load_captures
from fakes.process import Xrayd
from fakes.xray import CREDENTIALS, FakeXRay
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


class XraydFactory:
    """Starts xrayd processes wired to a FakeXRay, as a user would.

    The command line is `-o -n REGION -b 127.0.0.1:PORT -t 127.0.0.1:PORT -c cfg.yaml`, then
    `args`; the file holds the endpoint and `config` (which may remove a key with None); the
    environment holds the fake's credentials and `env` (the same).
    """

    def __init__(self, home: Path, fake: FakeXRay, processes: list[Xrayd]) -> None:
        self._home = home
        self._fake = fake
        self._processes = processes

    def __call__(
        self,
        *args: str,
        endpoint: str | None = None,
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str | None] | None = None,
        region: str | None = "us-east-1",
        home: Path | None = None,
        **options: Any,
    ) -> Xrayd:
        """Start one and wait until it is ready; `options` are those of `fakes.process.Xrayd`.

        `home` (and with it the config file and any spool) may be given to start again what ran
        before.
        """
        if home is None:
            home = self._home / f"xrayd-{len(self._processes)}"
            home.mkdir()
        settings = {"Version": 2, "Endpoint": endpoint or self._fake.url, **(config or {})}
        (home / "cfg.yaml").write_text(  # JSON is YAML
            json.dumps({key: value for key, value in settings.items() if value is not None})
        )
        variables = {**CREDENTIALS, **(env or {})}
        flags = ["-o", "-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}", "-c", "cfg.yaml"]
        if region is not None:
            flags += ["-n", region]
        process = Xrayd(
            *flags,
            *args,
            home=home,
            env={name: value for name, value in variables.items() if value is not None},
            **options,
        )
        self._processes.append(process)
        return process.start()


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
