"""The hash-pinned lists that images and packages are installed from."""

from __future__ import annotations

import re
import tomllib

import pytest

LISTS = [
    "requirements.txt",
    "requirements-build.txt",
    "requirements-freeze.txt",
    "requirements-release.txt",
]


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """Name -> the rest of its entry: version, marker and hashes."""
    joined = text.replace("\\\n", " ")
    entries = [li for li in joined.splitlines() if li.strip() and not li.startswith("#")]
    return {normalise(e.split("==")[0].strip()): e.split("==", 1)[1] for e in entries}


def read_names(requirements: list[str]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9._-]+", r) for r in requirements)
    return {normalise(n.group()) for n in names if n}


@pytest.fixture(params=LISTS)
def text(request, root) -> str:
    return (root / "packaging" / request.param).read_text()


def test_every_entry_is_pinned_by_hash(text):
    pins = read_pins(text)
    assert pins
    assert [name for name, rest in pins.items() if "--hash=sha256:" not in rest] == []


def test_no_index_or_address_is_named(text):
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host| @ ", text)


def test_every_runtime_dependency_is_pinned(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pins = read_pins((root / "packaging/requirements.txt").read_text())
    assert read_names(project["dependencies"]) <= set(pins), "run packaging/lock.sh"


def test_every_pin_is_what_pyproject_asks_for(root):
    from packaging.requirements import Requirement

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pins = read_pins((root / "packaging/requirements.txt").read_text())
    asked = [Requirement(line) for line in project["dependencies"]]
    assert len(asked) > 5
    for one in asked:
        version = pins[normalise(one.name)].split()[0]
        assert one.specifier.contains(version), f"{one} is pinned to {version}: packaging/lock.sh"


def test_build_backend_is_pinned(root):
    build = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]
    pins = read_pins((root / "packaging/requirements-build.txt").read_text())
    assert read_names(build["requires"]) <= set(pins), "run packaging/lock.sh"


def test_nothing_pinned_is_a_stranger(root):
    """What the list installs is what an installed xrayd asks for, directly or through others."""
    from importlib.metadata import PackageNotFoundError, requires

    seen: set[str] = set()
    waiting = ["xrayd"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = requires(name) or []
        except PackageNotFoundError:  # for another platform or Python than this one
            continue
        waiting += read_names([n for n in needs if "extra ==" not in n])
    pins = set(read_pins((root / "packaging/requirements.txt").read_text()))
    assert pins - seen == set(), "run packaging/lock.sh"
