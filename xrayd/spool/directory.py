"""The spool's directory: made, checked and locked, so that nobody else reads or writes in it."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Final

from xrayd.errors import ConfigError
from xrayd.spool.cursor import Cursor
from xrayd.spool.disk import Disk
from xrayd.spool.quarantine import Quarantine
from xrayd.spool.reader import Reader
from xrayd.spool.report import says_disk_is_full

LOCK_NAME: Final = "lock"
_CANNOT_CREATE = {
    errno.ENOENT: "its parent directory does not exist: create it, or name another",
    errno.ENOTDIR: "a part of its path is no directory: name another",
    errno.EROFS: "the file system is read-only: mount a writable one there, or name another",
    errno.EACCES: "this user may not: give it the parent directory, or name another",
    errno.EPERM: "this user may not: give it the parent directory, or name another",
}
_CANNOT_OPEN = {
    errno.ELOOP: "it is a symbolic link: name the directory it points to",
    errno.ENOTDIR: "it is a file or a symbolic link: name a directory itself",
    errno.EACCES: "this user may not read it: chown it to this user, or name another",
}


class SpoolDirectory:
    """The spool's directory, open and locked, with the small things that lie in it."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Open it, as `open_directory` and `lock_directory` do, and raising what they raise."""
        self._disk = disk
        self.fd = open_directory(disk, path)
        try:
            self._lock = lock_directory(disk, self.fd, path)
        except (ConfigError, OSError):
            disk.close(self.fd)
            raise
        self.cursor = Cursor(disk, self.fd)
        self.quarantine = Quarantine(disk, self.fd)
        self.reader = Reader(disk, self.fd, self.quarantine)

    def close(self) -> None:
        """Close and unlock it."""
        self.reader.close()
        self.cursor.close()
        self.quarantine.close()
        if self._lock >= 0:
            self._disk.close(self._lock)
        self._disk.close(self.fd)


def open_directory(disk: Disk, path: str) -> int:
    """Open the spool's directory, creating it if only its last component is missing.

    Raises:
        ConfigError: It cannot be had, or others than this user could write to it.
        OSError: It does not exist and the disk is too full to create it.
    """
    if os.open not in os.supports_dir_fd:
        raise ConfigError(
            f"spool directory {path}: this system cannot open files inside an open directory, as"
            " Linux and macOS can: leave Spool.Directory unset here"
        )
    try:
        disk.make_directory(path)
    except OSError as error:
        if says_disk_is_full(error):
            raise
        raise _refusal(path, "cannot be created", error, _CANNOT_CREATE) from error
    try:
        directory = disk.open_directory(path)
    except OSError as error:
        raise _refusal(path, "cannot be opened", error, _CANNOT_OPEN) from error
    state = disk.fstat(directory)
    user = os.geteuid()
    problem = ""
    if state.owner != user:
        problem = (
            f"belongs to user {state.owner}, not to user {user} that xrayd runs as: "
            f"chown it, or name another"
        )
    elif state.mode & 0o022:
        mode = stat.S_IMODE(state.mode)
        problem = f"can be written to by other users (mode {mode:04o}): chmod 700 it"
    if problem:
        disk.close(directory)
        raise ConfigError(f"spool directory {path} {problem}")
    return directory


def lock_directory(disk: Disk, directory: int, path: str) -> int:
    """Lock the directory for this process until the returned file is closed.

    Returns:
        The lock file, open; -1 where a read-only file system has none: nobody can write there.

    Raises:
        ConfigError: Another process holds the lock, or the lock file cannot be opened.
        OSError: The disk is too full for even the lock file.
    """
    try:
        fd = _open_lock(disk, directory)
        locked = fd < 0 or disk.lock(fd)
    except OSError as error:
        if says_disk_is_full(error):
            raise
        why = f"cannot be locked: {os.strerror(error.errno or 0)}"
        raise ConfigError(f"spool directory {path} {why}: look at its file {LOCK_NAME}") from error
    if not locked:
        holder = disk.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        disk.close(fd)
        raise ConfigError(
            f"spool directory {path} is in use by process {holder}: "
            f"stop it, or give this one a directory of its own"
        )
    if fd >= 0:
        # Who holds it is a help to the operator only: a full disk is no reason to stop here.
        with suppress(OSError):
            disk.truncate(fd, 0)
            disk.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _open_lock(disk: Disk, directory: int) -> int:
    try:
        return disk.open(directory, LOCK_NAME, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    try:
        return disk.open(directory, LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return -1


def _refusal(path: str, what: str, error: OSError, advice: dict[int, str]) -> ConfigError:
    number = error.errno or 0
    why = advice.get(number) or f"{os.strerror(number)}: name another"
    return ConfigError(f"spool directory {path} {what}: {why}")
