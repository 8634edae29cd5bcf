"""Root causes: the paths through a trace that its faults, its errors or its slowness came along.

The shapes are the X-Ray API's; how X-Ray chooses a path among several is not published. Here a
path of faults follows every faulted call down to where no further fault is found, and the path of
time follows the longest call while it takes at least half of the root's time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

from xrayd.dev.causes import (
    FaultCause,
    FaultEntity,
    FaultService,
    RootCauseException,
    TimeCause,
    TimeEntity,
    TimeService,
)
from xrayd.dev.model import Entity, Node

COVERAGE_MIN = 0.5
"""The share of the root's time below which a call no longer explains it."""
CAUSES_MAX = 100
"""A trace that fails in more places than this is explained by the first of them."""

Kind = Literal["fault", "error"]


class CallTree:
    """A trace as one tree: subsegments, and below a call the segments it led to."""

    def __init__(
        self,
        segments: Sequence[Entity],
        entities: dict[str, Entity],
        nodes: Sequence[Node],
    ) -> None:
        """Prepare to look for causes.

        Args:
            segments: All segments of the trace, inferred ones included.
            entities: Every entity by id.
            nodes: The service nodes of those segments.
        """
        self._entities = entities
        self._node_of = {segment.id: node for node in nodes for segment in node.segments}
        self._callees: dict[str, list[Entity]] = {}
        for segment in segments:
            if segment.parent_id in entities:
                self._callees.setdefault(segment.parent_id, []).append(segment)
        self._exceptions: dict[str, dict[str, Any]] | None = None

    def find_faults(self, roots: Sequence[Entity], kind: Kind) -> list[FaultCause]:
        """Paths to every fault (or error) that no fault below it explains."""
        causes: list[FaultCause] = []
        visited: set[str] = set()
        # Impacting: everything above on the path is at fault too, so the client got to see it.
        stack: list[tuple[tuple[Entity, ...], bool]] = [((root,), True) for root in reversed(roots)]
        while stack and len(causes) < CAUSES_MAX:
            path, is_impacting = stack.pop()
            entity = path[-1]
            if entity.id in visited:
                continue
            visited.add(entity.id)
            is_faulted = _is_faulted(entity, kind)
            below = list(self._iterate_below(entity))
            if is_faulted and not any(_is_faulted(child, kind) for child in below):
                causes.append(FaultCause(self._describe_faults(path, kind), is_impacting))
            is_impacting = is_impacting and is_faulted
            stack.extend(((*path, child), is_impacting) for child in reversed(below))
        return causes

    def find_slowness(self, root: Entity, slow_s: float) -> list[TimeCause]:
        """The path the root's time was spent on; empty when it took less than `slow_s` seconds."""
        total = root.duration
        if not total or total < slow_s:
            return []
        path = [root]
        visited = {root.id}
        while True:
            below = [child for child in self._iterate_below(path[-1]) if child.id not in visited]
            longest = max(below, key=_read_duration, default=None)
            if longest is None or _read_duration(longest) < COVERAGE_MIN * total:
                break
            visited.add(longest.id)
            path.append(longest)
        return [TimeCause(self._describe_times(path, total), True)]

    def _iterate_below(self, entity: Entity) -> Iterator[Entity]:
        # Callees first: an inferred segment lasts as long as the call, and ends the path there.
        yield from self._callees.get(entity.id, ())
        yield from entity.children

    def _group_by_service(
        self, path: Sequence[Entity]
    ) -> Iterator[tuple[Node, bool, list[Entity]]]:
        for segment_id, steps in groupby(path, key=lambda entity: entity.segment_id):
            yield self._node_of[segment_id], self._entities[segment_id].inferred, list(steps)

    def _describe_faults(self, path: Sequence[Entity], kind: Kind) -> list[FaultService]:
        return [
            FaultService(
                node.name,
                node.names,
                node.type,
                [
                    FaultEntity(
                        node.name if is_inferred else step.name,
                        is_inferred or step.is_remote,
                        self._find_exceptions(step) if _is_faulted(step, kind) else [],
                    )
                    for step in steps
                ],
                is_inferred,
                node.account_id,
            )
            for node, is_inferred, steps in self._group_by_service(path)
        ]

    def _describe_times(self, path: Sequence[Entity], total: float) -> list[TimeService]:
        return [
            TimeService(
                node.name,
                node.names,
                node.type,
                [
                    TimeEntity(
                        node.name if is_inferred else step.name,
                        round(_read_duration(step) / total, 3),
                        is_inferred or step.is_remote,
                    )
                    for step in steps
                ],
                is_inferred,
                node.account_id,
            )
            for node, is_inferred, steps in self._group_by_service(path)
        ]

    def _find_exceptions(self, entity: Entity) -> list[RootCauseException]:
        """An entity's exceptions; an inferred segment's are those of the call it stands for."""
        if entity.inferred:
            entity = self._entities[entity.parent_id]
        return [
            RootCauseException(_read_text(exception, "type"), _read_text(exception, "message"))
            for exception in self._resolve_cause(entity)
        ]

    def _resolve_cause(self, entity: Entity) -> list[dict[str, Any]]:
        """Follow `cause` in its three shapes to exceptions.

        An object that lists exceptions; the id of an exception anywhere in the trace (the Python
        SDK); or, in an object too, the id of the subsegment that has them (the Node SDK).
        """
        visited: set[str] = set()
        while entity.id not in visited:
            visited.add(entity.id)
            cause = entity.document.cause
            if isinstance(cause, dict):
                if exceptions := _read_exceptions(cause):
                    return exceptions
                cause = cause.get("id")
            if not isinstance(cause, str):
                return []
            exception = self._index_exceptions().get(cause)
            if exception is not None:
                return [exception]
            if cause not in self._entities:
                return []
            entity = self._entities[cause]
        return []

    def _index_exceptions(self) -> dict[str, dict[str, Any]]:
        """Every exception of the trace by its id; made when first asked for, which is rare."""
        if self._exceptions is None:
            self._exceptions = {}
            for entity in self._entities.values():
                for exception in _read_exceptions(entity.document.cause):
                    self._exceptions.setdefault(_read_text(exception, "id"), exception)
            self._exceptions.pop("", None)
        return self._exceptions


def _is_faulted(entity: Entity, kind: Kind) -> bool:
    return entity.fault if kind == "fault" else entity.error


def _read_duration(entity: Entity) -> float:
    return entity.duration or 0.0


def _read_exceptions(cause: object) -> list[dict[str, Any]]:
    exceptions = cause.get("exceptions") if isinstance(cause, dict) else None
    if not isinstance(exceptions, list):
        return []
    return [exception for exception in exceptions if isinstance(exception, dict)]


def _read_text(exception: dict[str, Any], key: str) -> str:
    value = exception.get(key)
    return value if isinstance(value, str) else ""
