"""Writes the bill of materials of a frozen xrayd, CycloneDX 1.5 JSON, to standard output.

    python packaging/sbom.py FROZEN_DIRECTORY

Run by the Python that froze it: lists the packages xrayd needs as that Python has them, the Python
itself with what it is linked to, and the shared libraries taken from the machine. The same input
gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import ssl
import sys
import zlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any


def find_needed(root: str) -> list[str]:
    """Installed distributions that `root` needs, directly and through others, itself first."""
    found: dict[str, None] = {}
    waiting = [root]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop(0)).lower()
        if name in found:
            continue
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:  # its marker names another platform or Python
            continue
        found[name] = None
        plain = (r for r in requirements if "extra ==" not in r)
        waiting += sorted(m.group() for m in (re.match(r"[\w.-]+", r) for r in plain) if m)
    return list(found)


def describe_distribution(name: str) -> dict[str, Any]:
    """One Python package as a CycloneDX component."""
    metadata = distribution(name).metadata
    version = distribution(name).version
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
    }
    licence = metadata.get("License-Expression")
    if licence:
        component["licenses"] = [{"expression": licence}]
    return component


def describe_native(name: str, version: str) -> dict[str, Any]:
    """The Python, or a library it is linked to, by the version that scanners look for."""
    purl = f"pkg:generic/{name}@{version}"
    kind = "platform" if name == "cpython" else "library"
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def describe_library(path: Path) -> dict[str, Any]:
    """One shared library that PyInstaller took from the machine."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "type": "file",
        "bom-ref": f"file:{path.name}",
        "name": path.name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def main() -> None:
    """Prints the bill of the directory named on the command line."""
    if len(sys.argv) != 2 or not Path(sys.argv[1], "_internal").is_dir():
        raise SystemExit("usage: sbom.py FROZEN_DIRECTORY")
    xrayd, *others = find_needed("xrayd")
    root = {**describe_distribution(xrayd), "type": "application"}
    linked = {
        "cpython": ".".join(map(str, sys.version_info[:3])),
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "sqlite": sqlite3.sqlite_version,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }
    libraries = sorted(Path(sys.argv[1], "_internal").glob("lib*.so*"))
    components = [
        *(describe_distribution(name) for name in sorted(others)),
        *(describe_native(name, version) for name, version in linked.items()),
        *(describe_library(path) for path in libraries),
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root},
        "components": components,
    }
    json.dump(bill, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
