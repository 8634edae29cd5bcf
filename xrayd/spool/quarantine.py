"""Where damaged bytes are moved, so that nothing is deleted that someone may still want to see."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from xrayd.spool.disk import Disk

NAME: Final = "quarantine"
COPIES_BYTES_MAX: Final = 10 * 1024 * 1024
_COPY_SUFFIX: Final = ".damaged"


class Quarantine:
    """The directory `quarantine` inside the spool's; made when it is first needed.

    Files that cannot be read at all are moved in whole and never removed: a newer xrayd may know
    them. Of damaged regions copies are taken until there are 10 MiB of them. Failing to do either
    stops nothing: the records concerned are counted as lost by whoever found the damage.
    """

    def __init__(self, disk: Disk, spool_directory: int) -> None:
        self._disk = disk
        self._spool_directory = spool_directory
        self._directory = -1
        self._names: set[str] = set()
        self._copies_bytes = 0
        with suppress(OSError):
            self._open()

    def __len__(self) -> int:
        """How many files and regions are in it."""
        return len(self._names)

    @property
    def names(self) -> list[str]:
        """The names of its files, in order."""
        return sorted(self._names)

    def move_in(self, name: str) -> bool:
        """Move a file of the spool's directory here. Returns whether it is here now."""
        try:
            self._open(create=True)
            kept_as = self._free_name(name)
            self._disk.rename(self._spool_directory, name, self._directory, kept_as)
        except OSError:
            return False
        self._names.add(kept_as)
        return True

    def copy_in(self, name: str, offset: int, damaged: bytes) -> None:
        """Keep a copy of a damaged region of a file, unless it is nothing but zeros."""
        kept_as = f"{name}.{offset:08x}{_COPY_SUFFIX}"
        if kept_as in self._names or self._copies_bytes + len(damaged) > COPIES_BYTES_MAX:
            return
        if not damaged.strip(b"\0"):
            return
        with suppress(OSError):
            self._open(create=True)
            self._write(kept_as, damaged)
            self._names.add(kept_as)
            self._copies_bytes += len(damaged)

    def close(self) -> None:
        """Close the directory."""
        if self._directory >= 0:
            self._disk.close(self._directory)
            self._directory = -1

    def _open(self, *, create: bool = False) -> None:
        if self._directory >= 0:
            return
        if create:
            self._disk.make_directory(NAME, self._spool_directory)
        self._directory = self._disk.open_directory(NAME, self._spool_directory)
        self._names = set(self._disk.listdir(self._directory))
        for name in self._names:
            if name.endswith(_COPY_SUFFIX):
                self._copies_bytes += self._disk.stat(self._directory, name).size

    def _write(self, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        fd = self._disk.open(self._directory, name, flags)
        try:
            view = memoryview(data)
            while view:
                view = view[self._disk.write(fd, view) :]
        except OSError:
            self._disk.unlink(self._directory, name)
            raise
        finally:
            self._disk.close(fd)

    def _free_name(self, name: str) -> str:
        kept_as, number = name, 1
        while kept_as in self._names:
            kept_as, number = f"{name}.{number}", number + 1
        return kept_as
