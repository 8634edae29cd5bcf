"""The files of an open spool in order: which are finished, which must go, what goes with them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from xrayd.spool.cursor import CursorState
from xrayd.spool.directory import SpoolDirectory
from xrayd.spool.disk import Disk
from xrayd.spool.files import SpoolFile
from xrayd.spool.report import Eviction, EvictionReason
from xrayd.spool.writer import Writer


class Shelf:
    """All files that hold records, with the writer's at the end.

    Attributes:
        files: In the order of their sequence numbers, oldest first.
        home: The directory they are in; None while there is none.
        evictions: What was given up and not reported yet.
        corrupt_records: How many records were lost to damage.
        fault: The last failure to remove a file, not reported yet.
    """

    def __init__(self, disk: Disk, writer: Writer, crash_point: Callable[[str], None]) -> None:
        self.files: list[SpoolFile] = []
        self.home: SpoolDirectory | None = None
        self.evictions: list[Eviction] = []
        self.corrupt_records = 0
        self.fault: OSError | None = None
        self._disk = disk
        self._writer = writer
        self._crash_point = crash_point

    @property
    def bytes_on_disk(self) -> int:
        """What the files take."""
        return sum(file.size for file in self.files)

    @property
    def removable(self) -> list[SpoolFile]:
        """The files that are not being written to."""
        return [file for file in self.files if file is not self._writer.file]

    def files_from(self, seq: int) -> Iterator[SpoolFile]:
        """The file that holds this sequence number, or the first above it, and all after it."""
        at = bisect_right(self.files, seq, key=lambda file: file.first)
        return iter(self.files[max(at - 1, 0) :])

    def acknowledge(self, spans: Iterable[range]) -> int:
        """Mark records as done and remove the files that are finished by it; returns how many."""
        count = 0
        touched: list[SpoolFile] = []
        for span in spans:
            for file in self.files_from(span.start):
                if file.first >= span.stop:
                    break
                count += file.done.add(max(span.start, file.first), min(span.stop, file.end))
                touched.append(file)
        if count:
            self._crash_point("acked")
            self.remove_finished(touched)
        return count

    def remove_finished(self, files: Iterable[SpoolFile]) -> None:
        """Remove those of the files that have nothing pending and are not being written to."""
        for file in list(files):
            if not file.pending and file is not self._writer.file and file in self.files:
                self._remove(file)

    def evict(self, file: SpoolFile, reason: EvictionReason) -> int:
        """Give up a file, whatever is pending in it; returns how many bytes that freed.

        Zero if it could not be removed, which leaves everything as it was.
        """
        if not self._remove(file):
            return 0
        pending = file.done.missing(file.first, file.end)
        if pending:
            self.evictions.append(Eviction(reason, tuple(pending)))
        self._crash_point("evicted")
        return file.size

    def note_corrupt(self, lost: Sequence[range]) -> None:
        """Note records that turned out not to be readable. They are done with already."""
        self.corrupt_records += sum(map(len, lost))
        self.evictions.append(Eviction(EvictionReason.CORRUPT, tuple(lost)))

    def cursor_state(self, next_seq: int, secret: bytes) -> CursorState:
        """What must be remembered of the acknowledgements."""
        watermark = next_seq
        for file in self.files:
            if file.pending:
                watermark = file.done.missing(file.first, file.end)[0].start
                break
        done = (seqs for file in self.files if file.done for seqs in file.done)
        return CursorState(
            watermark, next_seq, secret, tuple(seqs for seqs in done if seqs.stop > watermark)
        )

    def _remove(self, file: SpoolFile) -> bool:
        if self.home is None:
            return False
        try:
            self._disk.unlink(self.home.fd, file.name)
        except FileNotFoundError:
            pass  # Someone else was faster.
        except OSError as error:
            self.fault = error
            return False
        self.home.reader.drop(file)
        self._writer.drop(file)
        self.files.remove(file)
        self._crash_point("unlinked")
        return True


def mark_done(files: Sequence[SpoolFile], state: CursorState) -> None:
    """Mark as done in the files what a cursor remembers."""
    for seqs in (range(state.watermark), *state.done):
        for file in files:
            file.done.add(max(seqs.start, file.first), min(seqs.stop, file.end))
