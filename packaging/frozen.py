"""Entry point of the frozen daemon (freeze.spec): what the console script `xrayd` does."""

import sys

from xrayd.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
