"""What is put in order when a spool is opened: what a kill, a power loss or a version left."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from xrayd.spool.disk import Disk
from xrayd.spool.files import NEW_NAME, Found, fetch_from, find_files, finish_file
from xrayd.spool.quarantine import Quarantine
from xrayd.spool.record import HEADER_BYTES


def recover(
    disk: Disk,
    directory: int,
    secret: bytes,
    quarantine: Quarantine,
    crash_point: Callable[[str], None],
) -> Found:
    """Find the files of a spool and leave each either whole or out of the way.

    What cannot be repaired because the disk is full, read-only or failing is left as it is: nothing
    but the next start depends on it.

    Raises:
        OSError: The directory or its newest file cannot be read.
    """
    with suppress(OSError):
        disk.unlink(directory, NEW_NAME)
    found = find_files(disk, directory, secret)
    for name in found.unreadable:
        quarantine.move_in(name)
        crash_point("moved-aside")
    for name in found.empty:
        with suppress(OSError):
            _keep_rest(disk, directory, name, HEADER_BYTES, quarantine)
            disk.unlink(directory, name)
            crash_point("empty-unlinked")
    if found.files:
        newest = found.files[-1]
        try:
            if disk.stat(directory, newest.name).size > newest.size:
                _keep_rest(disk, directory, newest.name, newest.size, quarantine)
                crash_point("tail-copied")
            # Also if it has its trailer: the process may have died before it was synced.
            finish_file(disk, directory, newest)
            crash_point("recovered")
        except OSError as error:
            found.fault = error
    with suppress(OSError):
        disk.fsync_directory(directory)
    return found


def _keep_rest(disk: Disk, directory: int, name: str, offset: int, quarantine: Quarantine) -> None:
    fd = disk.open(directory, name, os.O_RDONLY)
    try:
        size = disk.fstat(fd).size
        if size > offset:
            quarantine.copy_in(name, offset, fetch_from(disk, fd)(offset, size - offset))
    finally:
        disk.close(fd)
