"""The clients' packages, installed by name from their registries into a cache outside the tree."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLIENTS = Path(__file__).parent.parent / "clients"
INSTALL_TIMEOUT_S = 600.0

# What npm, pip, Maven and Go print when a registry does not answer, unlike "no such package".
UNREACHABLE = (
    *("ECONNREFUSED", "ECONNRESET", "EAI_AGAIN", "ENETUNREACH", "ENOTFOUND", "ETIMEDOUT"),
    *("ERR_SOCKET_TIMEOUT", "Failed to establish a new connection", "Read timed out"),
    *("Temporary failure in name resolution", "Unknown host", "Connection refused"),
    *("Connection timed out", "Network is unreachable", "no such host", "dial tcp", "i/o timeout"),
    *("Name or service not known", "Could not transfer artifact", "502 Bad Gateway"),
    *("503 Service Unavailable", "504 Gateway"),
)

Command = Sequence[str | Path]


class ToolchainAbsentError(Exception):
    """This machine cannot run the clients of a toolchain: a program or a registry is missing."""


@dataclass(frozen=True)
class Toolchain:
    """One folder under tests/clients and the way to make it runnable.

    Attributes:
        folder: its name.
        tools: programs that must be on the PATH.
        sources: the files, as globs, on which the installation depends.
        steps: commands which install into a directory that holds a copy of the sources.
    """

    folder: str
    tools: tuple[str, ...]
    sources: tuple[str, ...]
    steps: Callable[[Path], list[Command]]


def _python_steps(target: Path) -> list[Command]:
    pip = target / "venv/bin/pip"
    patience = ("--retries", "1", "--timeout", "20")
    quick = ("--quiet", "--disable-pip-version-check", "--no-compile")
    return [
        [sys.executable, "-m", "venv", target / "venv"],
        [pip, "install", *quick, *patience, "-r", target / "requirements.txt"],
    ]


def _node_steps(target: Path) -> list[Command]:
    quiet = ("--no-package-lock", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error")
    patience = ("--fetch-retries=1", "--fetch-retry-mintimeout=2000")
    return [["npm", "install", "--prefix", target, "--ignore-scripts", *patience, *quiet]]


def _java_steps(target: Path) -> list[Command]:
    copy = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
    runtime = (f"-DoutputDirectory={target / 'libs'}", "-DincludeScope=runtime")
    sources = sorted(target.glob("*.java"))
    return [
        ["mvn", "-q", "-B", "-ntp", "-f", target / "pom.xml", copy, *runtime],
        [
            "javac",
            "-encoding",
            "UTF-8",
            "-d",
            target / "classes",
            "-cp",
            f"{target}/libs/*",
            *sources,
        ],
    ]


def _go_steps(target: Path) -> list[Command]:
    return [["go", "-C", target, "build", "-mod=readonly", "-o", target / "client", "."]]


TOOLCHAINS = {
    toolchain.folder: toolchain
    for toolchain in (
        Toolchain("python", (), ("requirements.txt",), _python_steps),
        Toolchain("adot", (), ("requirements.txt",), _python_steps),
        Toolchain("node", ("node", "npm"), ("package.json",), _node_steps),
        Toolchain("java", ("java", "javac", "mvn"), ("pom.xml", "*.java"), _java_steps),
        Toolchain("go", ("go",), ("go.mod", "go.sum", "*.go"), _go_steps),
    )
}


def installed(toolchain: Toolchain) -> Path:
    """The directory which holds the toolchain's packages, installed there now if they were not yet.

    Raises:
        ToolchainAbsentError: a tool or the registry is not there.
        AssertionError: the installation itself failed; the message is its output.
    """
    missing = [tool for tool in toolchain.tools if shutil.which(tool) is None]
    if missing:
        raise ToolchainAbsentError(
            f"{toolchain.folder} clients need {', '.join(missing)} on the PATH"
        )
    folder = CLIENTS / toolchain.folder
    sources = sorted(path for glob in toolchain.sources for path in folder.glob(glob))
    target = _cache() / f"{toolchain.folder}-{_key(sources)}"
    with _locked(target.with_suffix(".lock")):
        if not (target / "ready").exists():
            shutil.rmtree(target, ignore_errors=True)  # what an interrupted installation left
            target.mkdir()
            for source in sources:
                shutil.copy(source, target)
            for step in toolchain.steps(target):
                _install(toolchain, step)
            (target / "ready").touch()
    return target


def _cache() -> Path:
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("XRAYD_TEST_CACHE") or Path(user_cache) / "xrayd-tests")
    cache.mkdir(parents=True, exist_ok=True)
    return cache.resolve()


def _key(sources: list[Path]) -> str:
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix}".encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(toolchain: Toolchain, step: Command) -> None:
    environment = os.environ | {"CGO_ENABLED": "0"}
    try:
        done = subprocess.run(
            list(map(str, step)),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{toolchain.folder} clients: {step[0]} took more than {error.timeout:g} s"
        raise ToolchainAbsentError(message) from error
    if done.returncode == 0:
        return
    for line in done.stdout.splitlines():
        if any(sign in line for sign in UNREACHABLE):
            tool = Path(step[0]).name
            raise ToolchainAbsentError(f"{toolchain.folder} clients: {tool}: {line.strip()[:300]}")
    raise AssertionError(f"{' '.join(map(str, step))}\n{done.stdout}")
