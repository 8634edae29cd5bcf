"""Keeps the spool within its limits: in bytes, in age, and in what it leaves to others."""

from __future__ import annotations

import errno
import os
from typing import Final

from xrayd.spool.disk import Disk
from xrayd.spool.report import DiskLowError, EvictionReason
from xrayd.spool.shelf import Shelf

FREE_BYTES_MIN: Final = 256 * 1024 * 1024
FREE_SHARE_MIN: Final = 0.05
SPACE_CHECK_S: Final = 0.1
_MARGIN_BYTES: Final = 1024 * 1024
"""File systems run out before they say so."""


class Room:
    """What may be on the shelf. Whole files are evicted, the oldest first."""

    def __init__(
        self,
        disk: Disk,
        shelf: Shelf,
        *,
        bytes_max: int,
        age_max_s: float,
        free_bytes_min: int | None,
    ) -> None:
        self._disk = disk
        self._shelf = shelf
        self._bytes_max = bytes_max
        self._age_max_s = age_max_s
        self._free_bytes_min = free_bytes_min
        self._checked_at = 0.0

    def make(self, size: int) -> None:
        """Evict files until another one of this size stays within the limit.

        Raises:
            OSError: The oldest file cannot be removed.
        """
        shelf = self._shelf
        while shelf.files and shelf.bytes_on_disk + size > self._bytes_max:
            if not shelf.evict(shelf.files[0], EvictionReason.SPOOL_FULL):
                raise shelf.fault or OSError(errno.EIO, os.strerror(errno.EIO))

    def check_floor_now_and_then(self, directory: int, now: float) -> None:
        """Do `check_floor` if it has not been done for a while."""
        if not 0 <= now - self._checked_at < SPACE_CHECK_S:
            self.check_floor(directory, now)

    def check_floor(self, directory: int, now: float) -> None:
        """Check that there is more free space than must be left, and make some if not.

        Raises:
            DiskLowError: There is too little, and evicting records is not the way to have more.
        """
        self._checked_at = now
        space = self._disk.space(directory)
        floor = self._free_bytes_min
        if floor is None:
            floor = min(FREE_BYTES_MIN, int(space.total * FREE_SHARE_MIN))
        if space.free < floor and not self.free_up(directory, floor - space.free):
            raise DiskLowError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def free_up_if_full(self, directory: int, size: int) -> bool:
        """Evict files to make a write of this size possible that has found no space.

        Not if there is space by all appearances: what is used up then, a quota or the inodes, a
        file less would hardly give back.
        """
        free = self._disk.space(directory).free
        short = size + _MARGIN_BYTES - free
        return short > 0 and self.free_up(directory, min(size, short))

    def free_up(self, directory: int, size: int) -> bool:
        """Evict files to free so many bytes of disk; returns whether that was possible.

        Nothing is evicted if others are what fills the disk: the space gained would soon be theirs
        as well, and then the backlog would be lost for nothing. It can still be delivered from
        there, while what cannot be appended stays in memory.
        """
        files = self._shelf.removable
        used = self._disk.space(directory).used
        if 2 * self._shelf.bytes_on_disk < used or sum(file.size for file in files) < size:
            return False
        for file in files:
            if size <= 0:
                break
            size -= self._shelf.evict(file, EvictionReason.DISK_LOW)
        return size <= 0

    def expire(self, now: float) -> None:
        """Evict files whose last record is too old."""
        while self._shelf.files:
            oldest = self._shelf.files[0]
            is_young = oldest.last_at + self._age_max_s >= now
            if is_young or not oldest.pending:
                return
            if not self._shelf.evict(oldest, EvictionReason.EXPIRED):
                return
