"""Segment documents as a test reads them: flat, by id, wherever an entity was nested or sent."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entity:
    """A segment or subsegment with the trace and the parent that its place in a document means."""

    trace_id: str | None
    parent_id: str | None
    is_subsegment: bool
    body: dict[str, Any]

    @property
    def name(self) -> str | None:
        return self.body.get("name")


class Documents:
    """All entities of some documents; what is no JSON object (OTLP payloads) is left out."""

    def __init__(self, lines: Iterable[str]) -> None:
        bodies = [json.loads(line) for line in lines if line.startswith("{")]
        entities = [entity for body in bodies for entity in _top(body)]
        self.by_id = {entity.body["id"]: entity for entity in entities}

    def of_trace(self, trace_id: str) -> list[Entity]:
        return [entity for entity in self.by_id.values() if entity.trace_id == trace_id]


def _top(body: dict[str, Any]) -> Iterator[Entity]:
    is_subsegment = body.get("type") == "subsegment"
    yield Entity(body.get("trace_id"), body.get("parent_id"), is_subsegment, body)
    yield from _nested(body, body.get("trace_id"))


def _nested(parent: dict[str, Any], trace_id: str | None) -> Iterator[Entity]:
    for body in parent.get("subsegments", ()):
        yield Entity(trace_id, parent["id"], True, body)
        yield from _nested(body, trace_id)
