"""What systemd and a service say to each other: readiness, watchdog, sockets it holds for us.

Standard library only, for the sockets are wanted before anything else. Sources: sd_notify(3),
sd_listen_fds(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

_LISTEN_FDS_START = 3


def listen_sockets() -> dict[socket.SocketKind, socket.socket]:
    """Sockets that systemd bound for this process, by kind; none where it did not."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return {}
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    os.environ.pop("LISTEN_FDNAMES", None)
    found: dict[socket.SocketKind, socket.socket] = {}
    for descriptor in range(_LISTEN_FDS_START, _LISTEN_FDS_START + count):
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        sock.set_inheritable(False)
        found[sock.type] = sock
    return found


def notify(state: str) -> None:
    """Tell systemd, such as `READY=1`; nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)


def notify_reloading() -> None:
    """A reload begins; `READY=1` ends it."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


async def keep_watchdog() -> None:
    """Tell systemd twice in each interval that the loop turns, until cancelled."""
    interval_us = os.environ.get("WATCHDOG_USEC", "")
    if not interval_us.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(
        os.getpid()
    ):
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(int(interval_us) / 2e6)
