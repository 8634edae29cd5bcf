"""Forgetting: traces that are too old, and the oldest where there are too many; in small steps."""

from __future__ import annotations

from xrayd.dev.compiling import FORGET_INDEX
from xrayd.dev.observations import MINUTE_S
from xrayd.dev.store import Store

AGE_S_MAX = 30 * 24 * 3600.0
"""Seconds since its last document after which a trace goes (AWS X-Ray keeps 30 days)."""

BYTES_MAX = 512 * 1024 * 1024
"""Bytes of data and indexes above which the oldest traces go."""

STEP_TRACES = 200
"""Traces to a step: short, so that documents do not wait long for the writer."""

_SUMS_SLACK_S = 3600.0  # calls can begin a little before the first segment of their trace


def retain(
    store: Store, now: float, *, age_s_max: float = AGE_S_MAX, bytes_max: int = BYTES_MAX
) -> int:
    """Forget one step's worth of traces.

    Args:
        store: where they are.
        now: epoch seconds.
        age_s_max: seconds since a trace's last document.
        bytes_max: bytes of data and indexes that may stay.

    Returns:
        How many were forgotten; call again while it is not 0.

    Raises:
        StoreError: reading or writing failed; nothing of this step is forgotten.
    """
    is_full = store.database.used_bytes() > bytes_max
    with store.compiling, store.database.writing() as connection:
        oldest = connection.execute(
            "SELECT trace_id FROM arrival WHERE touched_at < ? ORDER BY touched_at LIMIT ?",
            (float("inf") if is_full else now - age_s_max, STEP_TRACES),
        ).fetchall()
        if not oldest:
            return 0
        for statement in (*FORGET_INDEX, *_FORGET_REST):
            connection.executemany(statement, oldest)
        (start,) = connection.execute("SELECT min(start_time) FROM trace").fetchone()
        connection.execute(
            "DELETE FROM rollup WHERE minute < ?",
            (((now if start is None else start) - _SUMS_SLACK_S) // MINUTE_S,),
        )
    return len(oldest)


_FORGET_REST = (
    "DELETE FROM document WHERE trace_id = ?",
    "DELETE FROM summary WHERE trace_id = ?",
    "DELETE FROM arrival WHERE trace_id = ?",
)
