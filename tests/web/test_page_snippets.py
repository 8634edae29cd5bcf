"""The first-run snippets, as the page shows them: each is run, and its trace arrives."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import DevXrayd, Page, open_browser
from live.clients import ENVIRONMENT
from live.toolchains import TOOLCHAINS, ToolchainAbsentError, installed

pytestmark = pytest.mark.timeout(900)  # the first test that needs a toolchain installs it

Command = tuple[list[str], dict[str, str]]


def python(code: str, home: Path) -> Command:
    return [sys.executable, "-c", code], {}


def node(code: str, home: Path) -> Command:
    packages = installed(TOOLCHAINS["node"]) / "node_modules"
    return ["node", "-e", code], {"NODE_PATH": str(packages)}


def java(code: str, home: Path) -> Command:
    (home / "First.java").write_text(code)
    address = code.partition("AWS_XRAY_DAEMON_ADDRESS=")[2].split()[0]
    libraries = f"{installed(TOOLCHAINS['java'])}/libs/*"
    return ["java", "-cp", libraries, "First.java"], {"AWS_XRAY_DAEMON_ADDRESS": address}


def go(code: str, home: Path) -> Command:
    target = installed(TOOLCHAINS["go"])
    for name in ("go.mod", "go.sum"):
        shutil.copy(target / name, home)
    (home / "main.go").write_text(code)
    return ["go", "run", "-mod=readonly", "."], {"CGO_ENABLED": "0"}


def opentelemetry(code: str, home: Path) -> Command:
    programs = installed(TOOLCHAINS["adot"]) / "venv/bin"
    return ["bash", "-c", code], {"PATH": f"{programs}:{os.environ['PATH']}"}


def shell(code: str, home: Path) -> Command:
    return ["bash", "-c", code], {}


RUN: dict[str, Callable[[str, Path], Command]] = {
    "Python": python,
    "Node": node,
    "Java": java,
    "Go": go,
    "OpenTelemetry": opentelemetry,
    "Shell": shell,
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, dict[str, str]]]:
    """A page in front of an empty xrayd, and the snippets that it showed."""
    home = tmp_path_factory.mktemp("first")
    with DevXrayd(home) as empty, open_browser(empty, home) as page:
        page.open()
        page.find("h1", "No traces yet")
        names, codes = page.texts(".snippet h2"), page.texts(".snippet pre")
        yield page, dict(zip(names, codes, strict=True))


def test_there_is_a_way_to_run_each(opened):
    assert opened[1].keys() == RUN.keys()


@pytest.mark.parametrize("name", RUN)
def test_a_snippet_sends_a_trace_that_is_seen(name, opened, tmp_path):
    page, snippets = opened
    service = f"hello-from-{name.lower()}"
    try:
        command, variables = RUN[name](snippets[name].replace("hello", service), tmp_path)
    except ToolchainAbsentError as error:
        pytest.skip(str(error))
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT | kept | variables, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page.find(".rows > .row", service).click()
    page.find(".wf .name", service)
    page.open()
