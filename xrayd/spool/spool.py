"""The write-ahead spool: what is handed to it survives the process, and is read back in order.

Everything here blocks and nothing is locked: one thread drives it and calls `sync` every 100 ms.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, Literal, Self

from xrayd.errors import ConfigError
from xrayd.spool.cursor import SECRET_BYTES
from xrayd.spool.directory import SpoolDirectory
from xrayd.spool.disk import Disk
from xrayd.spool.files import SpoolFile, finish_file
from xrayd.spool.health import Health
from xrayd.spool.reader import Take
from xrayd.spool.record import HEADER_BYTES, RECORD_BYTES, TRAILER_BYTES
from xrayd.spool.recovery import recover
from xrayd.spool.report import (
    Eviction,
    Figures,
    Record,
    SpoolUnavailableError,
    degraded_by,
)
from xrayd.spool.room import Room
from xrayd.spool.seqset import ranges_of
from xrayd.spool.shelf import Shelf, mark_done
from xrayd.spool.writer import Writer

SyncPolicy = Literal["interval", "batch", "off"]

_FILES_MIN: Final = 4
"""The limit holds at least so many files, the disk twice as many: evicting one leaves the rest."""
_FILES_PER_AGE: Final = 16
"""A file spans at most this part of the age limit: records expire nearly when they should."""
_DIRECTORY_IS_GONE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}


def _live_on(point: str) -> None:
    """What happens at a crash point outside of tests."""


class Spool:
    """An open spool directory. Made by `Spool.open`.

    Attributes:
        recovered: How many unacknowledged records were found when it was opened.
    """

    def __init__(
        self,
        path: str,
        *,
        bytes_max: int,
        file_bytes: int,
        age_max_s: float,
        sync: SyncPolicy,
        free_bytes_min: int | None,
        disk: Disk,
        crash_point: Callable[[str], None],
    ) -> None:
        self.recovered = 0
        self._path = path
        self._bytes_max = bytes_max
        self._file_bytes = min(file_bytes, bytes_max // _FILES_MIN)
        self._age_max_s = age_max_s
        self._policy = sync
        self._disk = disk
        self._crash_point = crash_point
        self._writer = Writer(
            disk,
            secret=os.urandom(SECRET_BYTES),
            remembers_unsynced=sync != "off",
            crash_point=crash_point,
        )
        self._shelf = Shelf(disk, self._writer, crash_point)
        self._room = Room(
            disk,
            self._shelf,
            bytes_max=bytes_max,
            age_max_s=age_max_s,
            free_bytes_min=free_bytes_min,
        )
        self._health = Health()
        self._next_seq = 1
        self._file_begun_at = 0.0

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        now: float,
        bytes_max: int = 512 * 1024 * 1024,
        file_bytes: int = 8 * 1024 * 1024,
        age_max_s: float = 86_400,
        sync: SyncPolicy = "interval",
        free_bytes_min: int | None = None,
        disk: Disk | None = None,
        crash_point: Callable[[str], None] = _live_on,
    ) -> Self:
        """Open a spool directory, creating it if only its last component is missing.

        Args:
            directory: Where. It must belong to this user, and no other user may write to it.
            now: Epoch seconds, here and everywhere.
            bytes_max: The most that files of records may take; the oldest file makes room.
            file_bytes: When to begin another file; less where `bytes_max` or the disk is small.
            age_max_s: Files whose last record is older are removed. Seconds.
            sync: `interval`: what was appended is durable after the next `sync`; `batch`: before
                `append` returns; `off`: when the system sees fit.
            free_bytes_min: The floor of free space; by default 256 MiB or 5 % of the file system,
                whichever is less.
            disk: The system calls to use.
            crash_point: Called with the name of each point at which a kill could hurt.

        Raises:
            ConfigError: The directory cannot be used, or another process uses it.
        """
        disk = disk or Disk()
        spool = cls(
            os.fspath(directory),
            bytes_max=bytes_max,
            file_bytes=file_bytes,
            age_max_s=age_max_s,
            sync=sync,
            free_bytes_min=free_bytes_min,
            disk=disk,
            crash_point=crash_point,
        )
        spool._open(now)
        return spool

    def append(self, documents: Sequence[bytes], now: float) -> range:
        """Append documents in one write; returns their sequence numbers, in the same order.

        Raises:
            SpoolUnavailableError: None of them is on disk: they are the caller's to keep. The spool
                tries again by itself, once a second, when asked to append or to sync.
        """
        if self._health.degraded is not None and self._health.refuses(now):
            raise SpoolUnavailableError(self._health.degraded)
        seqs = range(self._next_seq, self._next_seq + len(documents))
        if not documents:
            return seqs
        size = sum(map(len, documents)) + RECORD_BYTES * len(documents)
        try:
            self._heal(now)
            self._prepare(size, now)
            self._write(documents, size, now)
        except OSError as error:
            self._note(error, now, refuse=True)
            raise SpoolUnavailableError(degraded_by(error)) from error
        self._next_seq = seqs.stop
        return seqs

    def sync(self, now: float) -> None:
        """Make what was appended durable, and do what time demands. To be called every 100 ms.

        Removes expired files, notices a directory or file that was taken away, and tries a disk
        that failed again. A disk that fails raises nothing here: it shows in the figures.
        """
        if self._shelf.fault is not None:
            self._note(self._shelf.fault, now)
            self._shelf.fault = None
        if self._health.is_time_to_try(now):
            try:
                self._heal(now)
            except OSError as error:
                self._note(error, now, refuse=True)
            self._room.expire(now)
            self._shelf.remove_finished(self._shelf.files)
        try:
            self._writer.check_in_place()
            if self._policy != "off":
                self._writer.sync()
        except OSError as error:
            self._note(error, now)
            self._writer.abandon()
            self._begin_file_or_refuse(now)

    def read(self, from_seq: int, documents_max: int, bytes_max: int) -> list[Record]:
        """Read unacknowledged records in order, beginning with the first not below `from_seq`.

        Records found to be damaged are left out, and show up among the evictions. A file that
        cannot be opened at the moment is passed over: its records stay pending, to be had by
        reading from the beginning another time.

        Args:
            from_seq: After a call that returned records: one past the last one's number.
            documents_max: The most records to return; at least one is, if there is any.
            bytes_max: The most bytes of documents to return, unless the first record is larger.

        Returns:
            The records; none only if there are none to be had from `from_seq` on.
        """
        take = Take(documents_max, bytes_max)
        lost: list[range] = []
        for file in self._shelf.files_from(from_seq):
            if file.pending and not self._read_file(file, from_seq, take, lost):
                break
        if lost:
            self._shelf.note_corrupt(lost)
            self._shelf.remove_finished(self._shelf.files)
            self._write_cursor()
        return take.records

    def acknowledge(self, seqs: Iterable[int]) -> int:
        """Let go of records; a file none of whose records is pending any more is removed.

        Never fails: what a failing disk keeps it from noting may be delivered twice.

        Args:
            seqs: Sequence numbers, in any order. Unknown ones do no harm.

        Returns:
            How many of them were pending.
        """
        count = self._shelf.acknowledge(ranges_of(seqs))
        if count:
            self._write_cursor()
        return count

    def take_evictions(self) -> list[Eviction]:
        """The unacknowledged records given up since the last call; no record is in two of them."""
        evictions, self._shelf.evictions = self._shelf.evictions, []
        return evictions

    def figures(self) -> Figures:
        """The spool as it is now."""
        shelf = self._shelf
        pending = [file for file in shelf.files if file.pending]
        return Figures(
            pending_records=sum(file.pending for file in pending),
            pending_bytes=sum(f.size * f.pending // (f.end - f.first) for f in pending),
            files=len(shelf.files),
            bytes_on_disk=shelf.bytes_on_disk,
            bytes_max=self._bytes_max,
            oldest_file_at=pending[0].last_at if pending else None,
            next_seq=self._next_seq,
            degraded=self._health.degraded,
            faults=self._health.faults,
            corrupt_records=shelf.corrupt_records,
            quarantined=len(shelf.home.quarantine) if shelf.home else 0,
        )

    def close(self, now: float) -> None:
        """Make everything durable as far as the disk lets; close and unlock the directory."""
        if self._writer.suspect is not None:
            self._begin_file_or_refuse(now)
        with suppress(OSError):
            self._writer.seal()
        home = self._shelf.home
        if home is None:
            return
        self._shelf.remove_finished(self._shelf.files)
        self._write_cursor()
        with suppress(OSError):
            home.cursor.sync()
        home.close()
        self._shelf.home = None

    def _open(self, now: float) -> None:
        try:
            home = self._enter()
        except OSError as error:
            self._note(error, now, refuse=True)
            return
        state = home.cursor.read()
        if state is not None:
            self._writer.secret = state.secret
            self._next_seq = state.next_seq
        try:
            found = recover(
                self._disk, home.fd, self._writer.secret, home.quarantine, self._crash_point
            )
        except OSError as error:
            home.close()
            why = os.strerror(error.errno or 0)
            raise ConfigError(f"spool directory {self._path} cannot be read: {why}") from error
        self._shelf.files, self._shelf.fault = found.files, found.fault
        self._next_seq = max(self._next_seq, found.next_seq)
        if state is not None:
            mark_done(found.files, state)
        self.recovered = sum(file.pending for file in found.files)
        self._write_cursor()
        self._shelf.remove_finished(found.files)

    def _enter(self) -> SpoolDirectory:
        """Open the directory, or the one that has taken its place."""
        if self._shelf.home is not None:
            self._shelf.home.close()
            self._shelf.home = None
        home = SpoolDirectory(self._disk, self._path)
        self._shelf.home = home
        self._writer.directory = home.fd
        with suppress(OSError):
            share = self._disk.space(home.fd).total // (2 * _FILES_MIN)
            self._file_bytes = min(self._file_bytes, share)
        return home

    def _enter_again(self) -> None:
        try:
            self._enter()
        except ConfigError as error:
            raise OSError(errno.ESTALE, str(error)) from error

    def _read_file(self, file: SpoolFile, from_seq: int, take: Take, lost: list[range]) -> bool:
        """Read one file; returns whether to go on with the next."""
        if self._shelf.home is None:
            return False
        try:
            if file in {self._writer.file, self._writer.suspect}:
                # If it is not, what it lacks is still in memory, and the next sync writes it anew.
                self._writer.check_in_place()
            return self._shelf.home.reader.read(file, from_seq, take, lost)
        except OSError as error:
            self._shelf.fault = error
            return True

    def _heal(self, now: float) -> None:
        """Find out whether a fault is over, if there was one and it is time to.

        Raises:
            OSError: It is not.
        """
        if self._health.degraded is None or not self._health.is_time_to_try(now):
            return
        if self._writer.file is None:
            self._begin_file(0, now)
        else:
            self._room.check_floor(self._writer.directory, now)
        self._health.clear()

    def _prepare(self, size: int, now: float) -> None:
        """See to it that there is a file with room for so many bytes of records."""
        file = self._writer.file
        if file is not None and self._is_full(file, size, now):
            try:
                self._writer.seal()
            except OSError as error:
                self._note(error, now)
            self._shelf.remove_finished([file])
        if self._writer.file is None:
            self._begin_file(size, now)
        else:
            self._room.check_floor_now_and_then(self._writer.directory, now)

    def _is_full(self, file: SpoolFile, size: int, now: float) -> bool:
        is_long = file.size + size + TRAILER_BYTES > self._file_bytes
        is_old = now - self._file_begun_at > self._age_max_s / _FILES_PER_AGE
        return file.end > file.first and (is_long or is_old)

    def _write(self, documents: Sequence[bytes], size: int, now: float) -> None:
        try:
            self._writer.append(documents, self._next_seq, now)
        except OSError as error:
            if self._writer.file is None:
                self._note(error, now)
                self._begin_file(size, now)
            elif not self._room.free_up_if_full(self._writer.directory, size):
                raise
            self._writer.append(documents, self._next_seq, now)
        if self._policy == "batch":
            self._sync_batch(size, now)

    def _sync_batch(self, size: int, now: float) -> None:
        try:
            self._writer.sync()
        except OSError as error:
            self._note(error, now)
            if self._writer.file is not None:
                return
            try:
                self._begin_file(size, now)
            except OSError:
                self._writer.take_back()
                raise

    def _begin_file(self, size: int, now: float) -> None:
        """Begin a file that will have to hold at least so many bytes of records.

        Raises:
            OSError: There is no new file.
        """
        if self._shelf.home is None:
            self._enter_again()
        self._room.make(max(self._file_bytes, HEADER_BYTES + size + TRAILER_BYTES))
        self._room.check_floor(self._writer.directory, now)
        files, suspect = self._shelf.files, self._writer.suspect
        if files and not files[-1].sealed and files[-1] is not suspect:
            # Recovered, or closed, on a disk too full for 28 bytes.
            with suppress(OSError):
                finish_file(self._disk, self._writer.directory, files[-1])
        try:
            file = self._writer.create(self._next_seq, now)
        except OSError as error:
            if error.errno not in _DIRECTORY_IS_GONE:
                raise
            self._enter_again()
            file = self._writer.create(self._next_seq, now)
        if suspect is not None and suspect.end == suspect.first:
            files.remove(suspect)  # The new file has its name, and all that was in it.
        files.append(file)
        self._file_begun_at = now

    def _begin_file_or_refuse(self, now: float) -> None:
        try:
            self._begin_file(0, now)
        except OSError as error:
            self._note(error, now, refuse=True)

    def _write_cursor(self) -> None:
        """Note what is acknowledged. Failing to costs duplicates after a restart, nothing else."""
        if self._shelf.home is None:
            return
        state = self._shelf.cursor_state(self._next_seq, self._writer.secret)
        try:
            self._shelf.home.cursor.write(state)
        except OSError as error:
            self._shelf.fault = error
        self._crash_point("cursor-written")

    def _note(self, error: OSError, now: float, *, refuse: bool = False) -> None:
        self._health.note(degraded_by(error), now, refuse=refuse)
