"""Which of the documents that came together are roots of new traces: nearly all, most of the time.

Those are decided together, ahead of everything else, by whole sets where that is possible: of what
the daemon's own sampling costs, most was to go through the same steps for each document.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from xrayd.sampling.document import Document
from xrayd.sampling.verdicts import TRACE_ID_LENGTH, VerdictTable, trace_key


def new_roots(
    complete: Sequence[Document], known: VerdictTable, waiting: AbstractSet[str]
) -> Sequence[Document]:
    """Of complete roots those of traces that nothing is known of, as they came.

    Left out are those whose id is not written as its `trace_key`. Of several with one id, it is the
    first. Where the clock that made an id is ahead of ours, or ours stepped back, its trace may be
    among the old kept.

    Args:
        complete: what came.
        known: what was decided.
        waiting: traces of which documents are held, which are left out too, by `trace_key`.
    """
    if not complete:
        return complete
    as_they_came = [root.trace_id for root in complete]
    ids = set(as_they_came)
    least, greatest = min(as_they_came), max(as_they_came)
    young, old = known.young, known.old
    # A drop is always looked for, not to tear a trace. To look into an old, large table costs as
    # much as to find a rule, for it is cold: so that is done only where an id is older.
    unfit = (ids & young.kept) | (ids & young.drops.keys()) | (ids & old.drops.keys())
    unfit |= ids & waiting
    if least <= known.young_from:
        unfit |= ids & old.kept
    text = "".join(as_they_came)
    are_keys = (
        set(map(len, as_they_came)) == {TRACE_ID_LENGTH}
        and least > "1-"
        and greatest < "1."  # the sign that follows: so all begin with it
        and text == text.lower()
    )
    if not are_keys:
        unfit |= {each for each in ids if trace_key(each) != each}
    if not unfit and len(ids) == len(complete):
        return complete
    roots: dict[str, Document] = {}
    for trace_id, root in zip(as_they_came, complete, strict=True):
        if trace_id not in unfit:
            roots.setdefault(trace_id, root)
    return list(roots.values())
