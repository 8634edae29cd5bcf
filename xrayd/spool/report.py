"""What the spool tells its caller: records, figures, what it gave up and why it cannot write."""

from __future__ import annotations

import enum
import errno

import msgspec

from xrayd.errors import XraydError


class EvictionReason(enum.StrEnum):
    """Why unacknowledged records left the spool undelivered. Metric label and log word."""

    SPOOL_FULL = "spool_full"
    """The spool reached its own limit in bytes."""
    DISK_LOW = "disk_low"
    """The file system ran out of space, and the spool is the larger part of what fills it."""
    EXPIRED = "expired"
    """The records were older than the age limit."""
    CORRUPT = "corrupt"
    """The records could not be read back: damaged bytes, or a file that is gone."""


class Degraded(enum.StrEnum):
    """Why the spool is not working as it should. Metric label and log word."""

    DISK_FULL = "disk_full"
    """A write found no space."""
    DISK_LOW = "disk_low"
    """Free space is under the floor, and it is not the spool that fills the disk."""
    READ_ONLY = "read_only"
    """The file system or the directory refuses writes."""
    GONE = "gone"
    """The directory or the file written to was deleted, replaced or cut by someone else."""
    IO_ERROR = "io_error"
    """The disk failed to write, to sync or to remove."""


_DEGRADED_BY_ERRNO = {
    errno.ENOSPC: Degraded.DISK_FULL,
    errno.EDQUOT: Degraded.DISK_FULL,
    errno.EROFS: Degraded.READ_ONLY,
    errno.EACCES: Degraded.READ_ONLY,
    errno.EPERM: Degraded.READ_ONLY,
    errno.ENOENT: Degraded.GONE,
    errno.ENOTDIR: Degraded.GONE,
    errno.ESTALE: Degraded.GONE,
}


class DiskLowError(OSError):
    """Free space is under the floor. Kept inside the spool."""


def degraded_by(error: OSError) -> Degraded:
    """The stable word for what an error of the operating system means for the spool."""
    if isinstance(error, DiskLowError):
        return Degraded.DISK_LOW
    return _DEGRADED_BY_ERRNO.get(error.errno or 0, Degraded.IO_ERROR)


def says_disk_is_full(error: OSError) -> bool:
    """Whether the error means that space, not the disk itself, is what is missing."""
    return degraded_by(error) is Degraded.DISK_FULL


class SpoolUnavailableError(XraydError):
    """None of the documents just handed over is on disk; the spool tries again by itself.

    Attributes:
        reason: Why, as a stable word.
    """

    def __init__(self, reason: Degraded) -> None:
        super().__init__(f"spool cannot write: {reason}")
        self.reason = reason


class Record(msgspec.Struct, frozen=True, gc=False):
    """One document read back from the spool."""

    seq: int
    """Its sequence number: unique, and rising in the order of arrival."""
    received_at: float
    """When it was appended, epoch seconds, to the second."""
    document: bytes
    """The bytes as they were appended."""


class Eviction(msgspec.Struct, frozen=True):
    """Unacknowledged records that left the spool without being delivered."""

    reason: EvictionReason
    seqs: tuple[range, ...]
    """Exactly which sequence numbers, in order, none twice."""

    @property
    def records(self) -> int:
        """How many records that is."""
        return sum(len(seqs) for seqs in self.seqs)


class Figures(msgspec.Struct, frozen=True):
    """The spool at one moment."""

    pending_records: int
    """Unacknowledged records on disk."""
    pending_bytes: int
    """Their share of the bytes on disk, taken from the mean record of each file."""
    files: int
    bytes_on_disk: int
    """Of the record files. Cursor, copies of damage and dead letters come on top: under 21 MiB."""
    bytes_max: int
    """What the record files may take."""
    oldest_file_at: float | None
    """When the oldest file with pending records was last written to, epoch seconds."""
    next_seq: int
    degraded: Degraded | None
    faults: int
    """How often the disk failed the spool since it was opened."""
    corrupt_records: int
    """Records lost to damage since it was opened."""
    quarantined: int
    """Damaged regions and unreadable files lying in the quarantine."""
