"""Entry point of the frozen daemon (freeze.spec): what the console script `xrayd` does."""

import os
import sys
from pathlib import Path

# Where distributions keep their certificate authorities. The frozen OpenSSL looks where the machine
# had them that it was made on.
AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Amazon Linux, Fedora, Red Hat
)

if __name__ == "__main__":
    found = next((path for path in AUTHORITIES if Path(path).exists()), None)
    if found is not None:
        os.environ.setdefault("SSL_CERT_FILE", found)
    from xrayd.__main__ import main

    sys.exit(main())
