"""The process behind `xrayd.testing.XrayDev`: it ends when standard input does.

Its parent holds the other end, so it cannot outlive a test run that was killed.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading

from xrayd.dev.server import DevSettings, run_dev
from xrayd.lifecycle import run_loop
from xrayd.net.sockets import bind, describe_address

_BUFFER_BYTES = 16 * 1024 * 1024


def main() -> None:
    """Bind, say where, and run until the parent has gone."""
    udp = bind("127.0.0.1:0", socket.SOCK_DGRAM, "UDP")
    tcp = bind("127.0.0.1:0", socket.SOCK_STREAM, "TCP")
    logging.getLogger("xrayd").setLevel(logging.CRITICAL)  # nobody reads it
    sys.stdout.write(f"listening udp {describe_address(udp)} tcp {describe_address(tcp)}\n")
    sys.stdout.flush()
    threading.Thread(target=_watch_parent, daemon=True).start()
    run_loop(
        run_dev(
            DevSettings(
                udp=udp,
                tcp=tcp,
                data=":memory:",
                region="us-east-1",
                demo=False,
                allowed_hosts=(),
                bytes_max=_BUFFER_BYTES,
                receive_buffer_bytes=_BUFFER_BYTES,
                concurrency=8,
            )
        )
    )


def _watch_parent() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
