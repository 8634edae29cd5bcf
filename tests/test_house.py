"""The house rules that a machine can hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "xrayd"

# The standard library's data modules: nothing that touches a socket, clock, file or process.
PURE_STDLIB = {
    "__future__", "abc", "array", "ast", "base64", "bisect", "collections", "contextlib",
    "dataclasses", "datetime", "difflib", "enum", "functools", "hashlib", "heapq", "itertools",
    "json", "math",
    "operator", "re", "string", "struct", "typing", "urllib.parse", "zlib",
}  # fmt: skip
PURE_ROOMS = ("relay", "sampling")

# Each outside library is named in few places.
LIBRARY_PLACES = {
    "botocore": {"net/credentials.py", "net/endpoint.py", "net/instance.py", "opening.py",
                 "dev/shapes.py"},
    "opentelemetry": {"dev/otlp.py", "dev/spans.py"},
    "prometheus_client": {"metrics.py", "dev/metrics.py"},
    "pyarrow": {"cli/parquet.py"},
    "yaml": {"config_sources.py"},
    "uvloop": {"lifecycle.py"},
    "httptools": {"net/transport.py", "net/http_connection.py"},
}  # fmt: skip

# Who may import whom inside the package; a room not listed may be imported by every other.
FORBIDDEN = {
    "relay": {"net", "cli", "daemon", "dev", "spool", "config", "logs", "metrics", "pipeline"},
    "sampling": {"net", "cli", "daemon", "dev", "spool", "config", "logs", "metrics", "pipeline"},
    "net": {"cli", "daemon", "dev", "config", "metrics", "pipeline"},
    "spool": {"cli", "daemon", "dev", "config", "metrics", "pipeline", "net"},
}


def modules(room: str = "") -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, allowed: set[str]) -> bool:
    return any(name == known or name.startswith(known + ".") for known in allowed)


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_pure_rooms_import_data_modules_and_msgspec_only(room: str) -> None:
    allowed = PURE_STDLIB | {"msgspec", "xrayd.errors", f"xrayd.{room}", "xrayd"}
    for path in modules(room):
        names = {n for n in imports(path) if n != "xrayd"}
        outside = {n for n in names if not within(n, allowed) and not n.startswith("xrayd.")}
        outside |= {
            n for n in names if n.startswith("xrayd.") and not within(n, allowed - {"xrayd"})
        }
        assert not outside, f"{path.name} imports {outside}"


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_rooms_import_in_one_direction(room: str) -> None:
    for path in modules(room):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "xrayd" and len(parts) > 1:
                assert parts[1] not in FORBIDDEN[room], f"{path.name} imports {name}"


@pytest.mark.parametrize("library", sorted(LIBRARY_PLACES))
def test_libraries_are_named_in_few_places(library: str) -> None:
    places = {
        str(path.relative_to(PACKAGE)) for path in modules() if within_any(imports(path), library)
    }
    assert places <= LIBRARY_PLACES[library]


def within_any(names: set[str], library: str) -> bool:
    return any(within(name, {library}) for name in names)


def test_a_broad_except_stands_at_most_once() -> None:
    broad = [
        f"{path.name}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in
             ("Exception", "BaseException")))
    ]  # fmt: skip
    assert len(broad) <= 1, broad


def test_no_machine_path_and_no_download_address_stands_in_the_project() -> None:
    pattern = re.compile(r"/(?:home|root|Users)/[a-z]|files\.pythonhosted|registry\.npmjs")
    for path in [*modules(), ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "Dockerfile"]:
        if path.exists():
            assert not pattern.search(path.read_text()), path
