"""`xrayd`, and `python -m xrayd`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # Imported here so that a health check pays for nothing else.
    from xrayd.cli.main import run  # noqa: PLC0415

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
