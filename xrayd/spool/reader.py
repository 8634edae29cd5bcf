"""Reads records back, and finds out which ones cannot be read any more."""

from __future__ import annotations

import errno
import os
from typing import Final

from xrayd.spool.disk import Disk
from xrayd.spool.files import SpoolFile, fetch_from
from xrayd.spool.quarantine import Quarantine
from xrayd.spool.record import walk
from xrayd.spool.report import Record

_IS_GONE: Final = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ESTALE}


class Take:
    """What one call may read, filling up with records."""

    def __init__(self, documents_max: int, bytes_max: int) -> None:
        self.records: list[Record] = []
        self._documents_left = documents_max
        self._bytes_left = bytes_max

    def add(self, record: Record) -> bool:
        """Add a record if there is room for it. The first one always has room."""
        size = len(record.document)
        if self.records and (self._documents_left < 1 or size > self._bytes_left):
            return False
        self.records.append(record)
        self._documents_left -= 1
        self._bytes_left -= size
        return True


class Reader:
    """Reads files from first to last; keeps the one open that it read from last."""

    def __init__(self, disk: Disk, directory: int, quarantine: Quarantine) -> None:
        self._disk = disk
        self._directory = directory
        self._quarantine = quarantine
        self._file: SpoolFile | None = None
        self._fd = -1

    def read(self, file: SpoolFile, from_seq: int, take: Take, lost: list[range]) -> bool:
        """Read the pending records of one file from a sequence number on, in order.

        Args:
            file: The file.
            from_seq: Where to begin.
            take: What to put the records into, until it is full.
            lost: What to put the pending records into that are found to be missing or damaged;
                they are marked as done in the file.

        Returns:
            Whether the file has been read to its end.

        Raises:
            OSError: The file cannot be opened or read now, but that may pass.
        """
        try:
            self._open(file)
        except OSError as error:
            if error.errno not in _IS_GONE:
                raise
            self._quarantine.move_in(file.name)
            lost += _give_up(file, range(file.first, file.end))
            return True
        due, sound_until = file.bookmark if from_seq >= file.bookmark[0] else file.start
        fetch = fetch_from(self._disk, self._fd)
        for record in walk(fetch, file.key, sound_until, file.size):
            if record.is_trailer or record.seq >= file.end:
                break
            if record.seq < due:
                continue
            if record.seq > due:
                lost += self._lose(file, range(due, record.seq), sound_until, record.offset)
            if record.seq >= from_seq and record.seq not in file.done:
                document = record.document()
                if document is None:
                    damaged = range(record.seq, record.seq + 1)
                    lost += self._lose(file, damaged, record.offset, record.stop)
                elif not take.add(Record(record.seq, float(record.received_at), document)):
                    file.bookmark = (record.seq, record.offset)
                    return False
            due, sound_until = record.seq + 1, record.stop
        file.bookmark = (due, sound_until)
        lost += self._lose(file, range(due, file.end), sound_until, file.size)
        return True

    def close(self) -> None:
        """Close the open file, if there is one."""
        if self._file is not None:
            self._disk.close(self._fd)
            self._file = None

    def drop(self, file: SpoolFile) -> None:
        """Let go of a file that was removed."""
        if file is self._file:
            self.close()

    def _open(self, file: SpoolFile) -> None:
        if file is self._file:
            return
        self.close()
        fd = self._disk.open(self._directory, file.name, os.O_RDONLY)
        try:
            if self._disk.fstat(fd).inode != file.inode:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), file.name)
        except OSError:
            self._disk.close(fd)
            raise
        self._file, self._fd = file, fd

    def _lose(self, file: SpoolFile, seqs: range, low: int, high: int) -> list[range]:
        """Give up records, keeping a copy of the bytes where they should have been."""
        lost = _give_up(file, seqs)
        if lost and low < high:
            self._quarantine.copy_in(
                file.name, low, fetch_from(self._disk, self._fd)(low, high - low)
            )
        return lost


def _give_up(file: SpoolFile, seqs: range) -> list[range]:
    lost = file.done.missing(seqs.start, seqs.stop)
    file.done.add(seqs.start, seqs.stop)
    return lost
