"""Takes out of an installation what xrayd never opens, and packs what botocore reads packed too.

That is 430 of botocore's service models and the sources of C modules: half of the size.

    python packaging/trim.py PREFIX

PREFIX is a virtual environment or any directory with a `site-packages` below it.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path

# xray is what xrayd speaks; the others are how botocore's credential chain gets credentials:
# assumed roles and web identities, IAM Identity Center, and `aws login`.
BOTOCORE_SERVICES = frozenset({"xray", "sts", "sso", "sso-oidc", "signin"})

C_SOURCES = frozenset({".c", ".h", ".pxd", ".pyx"})


def trim(site_packages: Path) -> None:
    """Deletes unneeded files below one `site-packages` directory.

    Raises:
        SystemExit: a service model that xrayd needs is not there: botocore has changed its layout.
    """
    data = site_packages / "botocore" / "data"
    missing = sorted(s for s in BOTOCORE_SERVICES if not (data / s).is_dir())
    if missing:
        raise SystemExit(f"trim: no {', '.join(missing)} in {data}: has botocore moved its models?")
    for service in data.iterdir():
        if service.is_dir() and service.name not in BOTOCORE_SERVICES:
            shutil.rmtree(service)
    for examples in data.rglob("examples-1.json*"):
        examples.unlink()
    # 1.3 MB that botocore finds under this name as well, and unpacks in 2 ms.
    endpoints = data / "endpoints.json"
    endpoints.with_name("endpoints.json.gz").write_bytes(
        gzip.compress(endpoints.read_bytes(), mtime=0)
    )
    endpoints.unlink()
    # httpx's own command line, which would bring click into the daemon: 1.2 MiB of memory.
    (site_packages / "httpx" / "_main.py").unlink(missing_ok=True)
    for source in site_packages.rglob("*"):
        if source.suffix in C_SOURCES and source.is_file():
            source.unlink()


def main() -> None:
    """Trims every `site-packages` below the directory named on the command line."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: trim.py PREFIX")
    found = [p for p in Path(sys.argv[1]).rglob("site-packages") if (p / "botocore").is_dir()]
    if not found:
        raise SystemExit(f"trim: no site-packages with botocore below {sys.argv[1]}")
    for site_packages in found:
        trim(site_packages)


if __name__ == "__main__":
    main()
