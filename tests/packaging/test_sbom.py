"""The bill of materials, against CycloneDX's own schema."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def bill(root, tmp_path_factory) -> str:
    """Of this Python's packages, and of a directory with one library in it."""
    frozen = tmp_path_factory.mktemp("frozen")
    (frozen / "_internal").mkdir()
    (frozen / "_internal/libcrypto.so.3").write_bytes(b"a library")
    done = subprocess.run(
        [sys.executable, root / "packaging/sbom.py", frozen],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def refuse(bill: str) -> object:
    schema = pytest.importorskip("cyclonedx.schema")
    validation = pytest.importorskip("cyclonedx.validation.json")
    return validation.JsonStrictValidator(schema.SchemaVersion.V1_5).validate_str(bill)


def test_the_schema_accepts_it(bill):
    assert refuse(bill) is None


def test_the_schema_does_refuse_a_misspelt_key(bill):
    assert refuse(bill.replace('"purl"', '"pURL"')) is not None


def test_it_names_what_is_needed_what_runs_it_and_what_came_from_the_machine(bill):
    parsed = json.loads(bill)
    names = {component["name"] for component in parsed["components"]}
    assert {"botocore", "msgspec", "uvloop", "cpython", "openssl", "libcrypto.so.3"} <= names
    assert "pytest" not in names
    assert "pyarrow" not in names
    assert parsed["metadata"]["component"]["name"] == "xrayd"
