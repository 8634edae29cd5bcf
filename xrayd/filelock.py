"""A lock on an open file that one process holds and its death frees, on every system."""

from __future__ import annotations

import errno
import os
import sys

_BEYOND = 1 << 30  # Windows lets nobody read a locked byte: one is locked where no text is


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process alone, without waiting.

    The lock is advisory, and is freed when the file is closed, however the process ends.

    Returns:
        False if another process holds it.

    Raises:
        OSError: the file system cannot lock.
    """
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}:
            return False
        raise
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
