"""The system calls that the spool makes, in one place so that tests can stand in for them."""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from xrayd.filelock import try_lock


class FileState(msgspec.Struct, frozen=True):
    """What the spool wants to know about a file or a directory."""

    size: int
    inode: int
    owner: int
    mode: int
    """Type and permission bits, as in `st_mode`."""


class Space(msgspec.Struct, frozen=True):
    """The room on a file system, in bytes."""

    total: int
    used: int
    free: int
    """What this process may still use; less than `total - used` where blocks are reserved."""


class Disk:
    """The real one. Every method raises OSError as the call it wraps does.

    Directories are held open and every name is looked up inside the open directory, so that nobody
    can exchange a directory on the path between two calls. Links are never followed, nothing is
    inherited by child processes, and what is created is for this user alone.
    """

    def make_directory(self, name: str, inside: int | None = None) -> None:
        """Create a directory with mode 0700, durably. It is no error if the name exists already."""
        try:
            os.mkdir(name, 0o700, dir_fd=inside)
        except FileExistsError:
            return
        with suppress(OSError):  # A parent that may not be read cannot be synced.
            parent = os.open(os.path.dirname(name) or ".", os.O_RDONLY, dir_fd=inside)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)

    def open_directory(self, name: str, inside: int | None = None) -> int:
        """Open an existing directory, refusing a symbolic link in its last component."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=inside)

    def open(self, directory: int, name: str, flags: int) -> int:
        """Open a file by name; created ones get mode 0600."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)

    def close(self, fd: int) -> None:
        """Close a file or a directory."""
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write at the file's end (files to write to are opened with O_APPEND); may write less."""
        return os.write(fd, data)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Write at an offset; may write less."""
        return os.pwrite(fd, data, offset)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes at an offset; less at the end of the file."""
        return os.pread(fd, size, offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        """Return once the file's data is on stable storage."""
        # macOS has only fsync, and there that is as much as the other asks for.
        getattr(os, "fdatasync", os.fsync)(fd)

    def fsync_directory(self, directory: int) -> None:
        """Return once names created, renamed or removed in the directory are on stable storage."""
        os.fsync(directory)

    def fstat(self, fd: int) -> FileState:
        """The state of an open file or directory."""
        return _state(os.fstat(fd))

    def stat(self, directory: int, name: str) -> FileState:
        """The state of what the name stands for now; of a link itself, not of its target."""
        return _state(os.stat(name, dir_fd=directory, follow_symlinks=False))

    def unlink(self, directory: int, name: str) -> None:
        """Remove a file's name."""
        os.unlink(name, dir_fd=directory)

    def rename(self, directory: int, name: str, into: int, new_name: str) -> None:
        """Move a file, replacing what has the new name, in one step."""
        os.rename(name, new_name, src_dir_fd=directory, dst_dir_fd=into)

    def listdir(self, directory: int) -> list[str]:
        """The names in a directory, in no particular order."""
        return os.listdir(directory)

    def space(self, directory: int) -> Space:
        """The room on the file system that holds the directory."""
        state = os.fstatvfs(directory)
        return Space(
            total=state.f_blocks * state.f_frsize,
            used=(state.f_blocks - state.f_bfree) * state.f_frsize,
            free=state.f_bavail * state.f_frsize,
        )

    def lock(self, fd: int) -> bool:
        """Lock the file for this process alone. False if another holds it; freed when closed."""
        return try_lock(fd)


def _state(state: os.stat_result) -> FileState:
    return FileState(size=state.st_size, inode=state.st_ino, owner=state.st_uid, mode=state.st_mode)
