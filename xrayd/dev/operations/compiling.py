"""Bringing what is known of traces up to date, with the groups that count them."""

from __future__ import annotations

from contextlib import suppress

from xrayd.dev.backend import Backend
from xrayd.dev.compiling import GroupFilter, compile_due, count_due
from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.evaluate import compile_filter
from xrayd.dev.operations.groups import expressions_of, load_groups
from xrayd.dev.rollups import DEFAULT_GROUP
from xrayd.errors import StoreError

READ_DUE_MAX = 500
"""Due traces that a read compiles before it looks: some tenths of a second. Where there are more,
documents arrive faster than they can be compiled, and reads answer from what there is."""

_READ_BUDGET_S = 0.5


def compile_in_background(backend: Backend, limit: int, budget_s: float) -> int:
    """Compile up to `limit` traces that are due, in about `budget_s` seconds; how many it were.

    Raises:
        StoreError: reading or writing failed; what was not compiled stays due.
    """
    return compile_due(
        backend.store,
        _group_filters(backend),
        backend.counters,
        backend.clock(),
        limit=limit,
        budget_s=budget_s,
    )


def compile_for_reading(backend: Backend) -> None:
    """Compile what is due, unless that is too much to wait for, or there is no room for it.

    Raises:
        StoreError: reading failed.
    """
    due = count_due(backend.store, backend.clock(), READ_DUE_MAX + 1)
    if 0 < due <= READ_DUE_MAX:
        # On a full disk there is still much to read; who compiles in the background says so.
        with suppress(StoreError):
            compile_in_background(backend, READ_DUE_MAX, _READ_BUDGET_S)


def _group_filters(backend: Backend) -> list[GroupFilter]:
    groups = load_groups(backend)
    expressions = expressions_of(groups)
    filters = []
    for group in groups.values():
        try:
            matches = compile_filter(group.expression, expressions).matches
        except FilterError:  # it names a group that was deleted since: it matches nothing
            continue
        if group.name != DEFAULT_GROUP:
            filters.append(GroupFilter(group.arn, group.name, matches))
    return filters
