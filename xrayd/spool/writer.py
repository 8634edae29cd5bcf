"""The one open file that records are appended to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from xrayd.spool.disk import Disk
from xrayd.spool.files import NEW_NAME, SpoolFile, finish_file, name_of, write_all, write_trailer
from xrayd.spool.record import Key, encode_header, encode_records
from xrayd.spool.report import says_disk_is_full

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND


class Batch(NamedTuple):
    """Documents appended in one call that are not known to be on stable storage yet."""

    first: int
    appended_at: float
    documents: tuple[bytes, ...]


class Writer:
    """Appends to one file at a time and never trusts a file again that failed to write or to sync.

    After a failed sync the kernel may hold pages for clean that never reached the disk, so a second
    sync that succeeds proves nothing. Therefore what was appended since the last good sync stays in
    memory, and goes into the next file as well, before anything else.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        secret: bytes,
        remembers_unsynced: bool,
        crash_point: Callable[[str], None],
    ) -> None:
        self.directory = -1
        """Where files are made; may be exchanged between two files."""
        self.secret = secret
        self.file: SpoolFile | None = None
        """The file that is open, if one is."""
        self.suspect: SpoolFile | None = None
        """The file that failed, until the next one is made."""
        self._disk = disk
        self._remembers_unsynced = remembers_unsynced
        self._crash_point = crash_point
        self._fd = -1
        self._unsynced: list[Batch] = []
        self._believed_size = 0
        self._is_dirty = False
        self._directory_is_dirty = False

    def create(self, next_seq: int, now: float) -> SpoolFile:
        """Begin a file, with what the suspect file may have lost, if there is one.

        Raises:
            OSError: There is no new file; nothing else has changed.
        """
        carried = self._unsynced
        first = carried[0].first if carried else next_seq
        key = Key.derive(self.secret, first)
        parts = [encode_header(first, now, key)]
        parts += (encode_records(b.documents, b.first, b.appended_at, key) for b in carried)
        data = b"".join(parts)
        fd, inode = self._create(name_of(first), data, must_sync=bool(carried))
        end = carried[-1].first + len(carried[-1].documents) if carried else first
        self.file = SpoolFile(
            name=name_of(first),
            first=first,
            end=end,
            size=len(data),
            inode=inode,
            key=key,
            last_at=now,
            sealed=False,
            bookmark=(first, len(parts[0])),
        )
        if self.suspect is not None:
            self._give_up_suspect(self.suspect, self.file)
        self._fd, self._unsynced, self._believed_size = fd, [], len(data)
        self._is_dirty, self._directory_is_dirty = not carried, True
        with suppress(OSError):
            self._sync_directory()
        return self.file

    def append(self, documents: Sequence[bytes], first: int, now: float) -> None:
        """Append documents in one write: all of them or, as far as anyone will read, none.

        Raises:
            OSError: They are not in the file. It is still open if only space is missing.
        """
        file = self.file
        assert file is not None
        data = encode_records(documents, first, now, file.key)
        try:
            write_all(self._disk, self._fd, data)
        except OSError as error:
            if not self._restore(file) or not says_disk_is_full(error):
                self.abandon()
            raise
        file.end = first + len(documents)
        file.size += len(data)
        file.last_at = now
        self._is_dirty = True
        if self._remembers_unsynced:
            self._unsynced.append(Batch(first, now, tuple(documents)))
        self._crash_point("appended")

    def sync(self) -> None:
        """Make what was appended durable.

        Raises:
            OSError: It may not be durable. The file is closed, unless only its name is in doubt.
        """
        if self.file is None:
            return
        if self._is_dirty:
            try:
                self._disk.fdatasync(self._fd)
            except OSError:
                self.abandon()
                raise
            self._is_dirty = False
            self._unsynced = []
            self._believed_size = self.file.size
            self._crash_point("synced")
        if self._directory_is_dirty:
            self._sync_directory()

    def seal(self) -> None:
        """End the file with a trailer, sync and close it.

        Raises:
            OSError: Its last records may not be durable; they go into the next file.
        """
        file = self.file
        if file is None:
            return
        with suppress(OSError):
            write_trailer(self._disk, self._fd, file)
            self._is_dirty = True
        self._crash_point("trailer-written")
        try:
            self.sync()
        finally:
            if self.file is not None:
                self._close()
        self._crash_point("sealed")

    def abandon(self) -> None:
        """Close the file without believing that anything since the last sync is in it."""
        if self.file is not None:
            self.suspect = self.file
            self._close()

    def take_back(self) -> None:
        """Forget the last batch after a sync that failed: its documents were refused."""
        batch = self._unsynced.pop()
        if self.suspect is not None:
            self.suspect.cut(batch.first)
            self.suspect.size = self._believed_size

    def drop(self, file: SpoolFile) -> None:
        """Let go of a file that is about to be removed."""
        if file is self.file:
            self._unsynced = []
            self._close()
        elif file is self.suspect:
            self._unsynced = []
            self.suspect = None

    def check_in_place(self) -> None:
        """Check that nobody has removed, exchanged, cut or extended the file, be it a suspect.

        Raises:
            OSError: Somebody has.
        """
        file = self.file or self.suspect
        if file is None:
            return
        state = self._disk.stat(self.directory, file.name)
        is_as_left = state.size == file.size or (file is self.suspect and state.size > file.size)
        if state.inode != file.inode or not is_as_left:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), file.name)

    def _create(self, name: str, data: bytes, *, must_sync: bool) -> tuple[int, int]:
        """Make a file that has its name only once it has its header: the file and its inode."""
        with suppress(FileNotFoundError):
            self._disk.unlink(self.directory, NEW_NAME)
        fd = self._disk.open(self.directory, NEW_NAME, _NEW_FILE)
        self._crash_point("roll-created")
        try:
            write_all(self._disk, fd, data)
            self._crash_point("header-written")
            if must_sync:
                self._disk.fdatasync(fd)
            inode = self._disk.fstat(fd).inode
            self._disk.rename(self.directory, NEW_NAME, self.directory, name)
        except OSError:
            with suppress(OSError):
                self._disk.close(fd)
            with suppress(OSError):
                self._disk.unlink(self.directory, NEW_NAME)
            raise
        self._crash_point("roll-renamed")
        return fd, inode

    def _sync_directory(self) -> None:
        self._disk.fsync_directory(self.directory)
        self._directory_is_dirty = False
        self._crash_point("directory-synced")

    def _give_up_suspect(self, suspect: SpoolFile, replacement: SpoolFile) -> None:
        """Let the file that failed end where the new one begins."""
        if replacement.first < suspect.end:
            replacement.done = suspect.cut(replacement.first)
            suspect.size = self._believed_size
        self.suspect = None
        if suspect.first < replacement.first:
            with suppress(OSError):
                finish_file(self._disk, self.directory, suspect)

    def _restore(self, file: SpoolFile) -> bool:
        """Take back what a failed write may have left at the end of the file."""
        try:
            self._disk.truncate(self._fd, file.size)
        except OSError:
            return False
        return True

    def _close(self) -> None:
        with suppress(OSError):
            self._disk.close(self._fd)
        self._fd = -1
        self.file = None
