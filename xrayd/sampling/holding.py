"""The traces that wait for their verdict: which, since when, and how much of each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import KeysView

from msgspec import Struct

from xrayd.sampling.atwork import RuleAtWork
from xrayd.sampling.document import Document
from xrayd.sampling.verdicts import Verdict


class Release(Struct, frozen=True):
    """A trace whose held documents are now decided.

    Attributes:
        trace: as `trace_key` gave it for each of them.
        verdict: keep or drop.
        documents: how many were held.
        size_bytes: of them all.
    """

    trace: str
    verdict: Verdict
    documents: int
    size_bytes: int


class HeldTrace:
    """A trace that waits.

    Attributes:
        since: when its first document came, in seconds on a clock that never steps.
        documents: how many are held.
        size_bytes: of them all.
        root: its root, as far as it is known while it is in progress.
        condemned_by: the rule that drops it, unless something speaks for it.
    """

    __slots__ = ("condemned_by", "documents", "root", "since", "size_bytes")

    def __init__(self, since: float) -> None:
        self.since = since
        self.documents = 0
        self.size_bytes = 0
        self.root: Document | None = None
        self.condemned_by: RuleAtWork | None = None


class Holding:
    """Traces by `trace_key`, in the order in which they came; the caller keeps their documents.

    Args:
        hold_s: seconds a trace waits.
        documents_max: documents held at most.
        bytes_max: the same for their size.

    Attributes:
        documents: documents held now.
        size_bytes: their size.
    """

    def __init__(self, hold_s: float, documents_max: int, bytes_max: int) -> None:
        self.documents = 0
        self.size_bytes = 0
        self._hold_s = hold_s
        self._documents_max = documents_max
        self._bytes_max = bytes_max
        self._traces: OrderedDict[str, HeldTrace] = OrderedDict()
        self._releases: list[Release] = []

    def keys(self) -> KeysView[str]:
        """The traces held, oldest first; a view."""
        return self._traces.keys()

    def get(self, key: str) -> HeldTrace | None:
        """A trace, if it is held."""
        return self._traces.get(key)

    def due(self, elapsed_s: float) -> str | None:
        """The oldest trace, if it has waited for long enough."""
        oldest = next(iter(self._traces), None)
        if oldest is None or elapsed_s - self._traces[oldest].since < self._hold_s:
            return None
        return oldest

    def in_the_way(self, key: str, size_bytes: int) -> str | None:
        """The trace that must go before another document of `key` fits: the oldest, or `key` itself
        where nothing else would help; None where it fits.
        """
        if self.documents < self._documents_max and self.size_bytes + size_bytes <= self._bytes_max:
            return None
        return next(iter(self._traces), key) if size_bytes <= self._bytes_max else key

    def add(self, key: str, trace: HeldTrace, size_bytes: int) -> None:
        """Count one more document of a trace, which may be new."""
        self._traces[key] = trace
        trace.documents += 1
        trace.size_bytes += size_bytes
        self.documents += 1
        self.size_bytes += size_bytes

    def release(self, key: str, verdict: Verdict) -> None:
        """Let go of a trace that is decided, if it is held."""
        if self._traces and (trace := self._traces.pop(key, None)) is not None:
            self.documents -= trace.documents
            self.size_bytes -= trace.size_bytes
            self._releases.append(Release(key, verdict, trace.documents, trace.size_bytes))

    def take_releases(self) -> list[Release]:
        """What was let go of since the last call, in that order."""
        releases, self._releases = self._releases, []
        return releases
