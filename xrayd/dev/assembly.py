"""Puts the documents of one trace into their places, in whatever order they arrived.

Subsegments are nested where their parents are, wherever that is; downstreams that sent nothing are
inferred from the calls to them; subsegments whose parent stays away get a placeholder for it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from copy import copy

import msgspec

from xrayd.dev.documents import supersedes
from xrayd.dev.inferred import derive_id, infer_segment
from xrayd.dev.model import Document, Entity

DEPTH_MAX = 100
"""Subsegments nested deeper hang on their ancestor at this depth: encoders recurse."""


class Assembly(msgspec.Struct, gc=False):
    """A trace's entities in their places.

    Attributes:
        segments: Sent, placeholder and inferred segments by start time.
        orphans: Subsegments whose parent has not arrived and has no placeholder, by start time.
        roots: The segments nothing in the trace called, the entry point first. Never empty when
            there are segments, unless all of them were called by orphans.
        entities: Every entity by id, those below orphans too.
    """

    segments: list[Entity]
    orphans: list[Entity]
    roots: list[Entity]
    entities: dict[str, Entity]


class _Candidate(msgspec.Struct, gc=False):
    """One of the places a segment or subsegment was found in."""

    document: Document
    parent_id: str
    is_segment: bool
    is_embedded: bool

    def rank(self) -> tuple[bool, bool, bool, bytes]:
        """What decides between two with one id: complete, segment, sent by itself, content."""
        return (
            not self.document.is_in_progress,
            self.is_segment,
            not self.is_embedded,
            msgspec.json.encode(self.document),
        )


def assemble(
    trace_id: str, documents: Iterable[Document], *, is_settled: bool, missing_parent_name: str
) -> Assembly:
    """Build the trees of a trace.

    Args:
        trace_id: The trace the documents belong to.
        documents: In order of arrival; left untouched.
        is_settled: Whether parents that are missing are no longer expected.
        missing_parent_name: What to call their placeholders.
    """
    entities = {
        id_: _build_entity(found.document, found.parent_id, is_segment=found.is_segment)
        for id_, found in _find_candidates(documents).items()
    }
    segments = [entity for entity in entities.values() if entity.is_segment]
    orphans = _nest(segments, entities)
    if orphans and is_settled:
        placeholders = _make_placeholders(trace_id, orphans, entities, missing_parent_name)
        entities.update((placeholder.id, placeholder) for placeholder in placeholders)
        segments += placeholders
        orphans = []
    inferred = _infer_segments(trace_id, segments, entities)
    entities.update((segment.id, segment) for segment in inferred)
    segments += inferred
    segments.sort(key=_order)
    return Assembly(segments, orphans, _find_roots(segments, entities), entities)


def _order(entity: Entity) -> tuple[float, str]:
    return (entity.document.start_time, entity.document.id)


def _find_candidates(documents: Iterable[Document]) -> dict[str, _Candidate]:
    """The one document that counts for each id, with the parent it names or is embedded in."""
    sent: dict[str, Document] = {}
    for document in documents:
        earlier = sent.get(document.id)
        if earlier is None or supersedes(document, earlier):
            sent[document.id] = document
    found = {
        id_: _Candidate(document, document.parent_id, not document.is_subsegment, False)
        for id_, document in sent.items()
    }
    for document in sent.values():
        stack = [document] if document.subsegments else []
        while stack:
            parent = stack.pop()
            for child in parent.subsegments:
                candidate = _Candidate(child, parent.id, False, True)
                rival = found.get(child.id)
                if rival is None or candidate.rank() > rival.rank():
                    found[child.id] = candidate
                if child.subsegments:
                    stack.append(child)
    return found


def _build_entity(
    sent: Document,
    parent_id: str,
    *,
    is_segment: bool,
    is_inferred: bool = False,
    is_placeholder: bool = False,
) -> Entity:
    document = copy(sent)
    document.subsegments = []
    document.type = ""
    document.inferred = True if is_inferred else None
    if not is_segment:
        document.trace_id = ""
        document.parent_id = ""
    http = sent.http
    status = 0 if http is None or http.response is None else http.response.status or 0
    return Entity(
        document,
        is_segment,
        parent_id,
        document.id if is_segment else "",
        [],
        is_inferred,
        is_placeholder,
        fault=status >= 500 if sent.fault is None else sent.fault,
        error=400 <= status < 500 if sent.error is None else sent.error,
        throttle=status == 429 if sent.throttle is None else sent.throttle,
    )


def _nest(segments: Iterable[Entity], entities: dict[str, Entity]) -> list[Entity]:
    """Hang every subsegment on its parent; returns those that have none."""
    orphans: list[Entity] = []
    for entity in entities.values():
        if not entity.is_segment:
            parent = entities.get(entity.parent_id)
            if parent is None:
                orphans.append(entity)
            else:
                parent.children.append(entity)
    placed = sum(_place(segment, segment.id) for segment in segments)
    placed += sum(_place(orphan, "") for orphan in orphans)
    if placed < len(entities):
        orphans += _break_cycles(orphans, segments, entities)
    orphans.sort(key=_order)
    return orphans


def _place(top: Entity, segment_id: str) -> int:
    """Order a tree, say in it which segment it belongs to, and count it."""
    count = 0
    stack = [(top, 0)]
    while stack:
        entity, depth = stack.pop()
        count += 1
        entity.segment_id = segment_id
        children = entity.children
        if not children:
            continue
        if depth == DEPTH_MAX:
            children = entity.children = _flatten(entity)
        if len(children) > 1:
            children.sort(key=_order)
        entity.document.subsegments = [child.document for child in children]
        stack.extend((child, depth + 1) for child in children)
    return count


def _flatten(top: Entity) -> list[Entity]:
    below = [entity for entity in top.walk() if entity is not top]
    for entity in below:
        entity.children = []
        entity.document.subsegments = []
    return below


def _break_cycles(
    orphans: Iterable[Entity], segments: Iterable[Entity], entities: dict[str, Entity]
) -> list[Entity]:
    """Subsegments that are each other's parents: the first by id is taken for an orphan."""
    unplaced = set(entities)
    for top in (*segments, *orphans):
        unplaced.difference_update(entity.id for entity in top.walk())
    broken: list[Entity] = []
    for id_ in sorted(unplaced):
        if id_ not in unplaced:
            continue
        entity = entities[id_]
        entities[entity.parent_id].children.remove(entity)
        _place(entity, "")
        unplaced.difference_update(below.id for below in entity.walk())
        broken.append(entity)
    return broken


def _make_placeholders(
    trace_id: str, orphans: Iterable[Entity], entities: dict[str, Entity], name: str
) -> list[Entity]:
    """A segment for each missing parent, as long as what is known to have happened in it."""
    groups: dict[str, list[Entity]] = {}
    for orphan in orphans:
        # In a broken cycle the parent is there, so its id is taken.
        is_cyclic = orphan.parent_id in entities
        id_ = _free_id(trace_id, f"above {orphan.id}", entities) if is_cyclic else orphan.parent_id
        groups.setdefault(id_, []).append(orphan)
    placeholders: list[Entity] = []
    for id_, group in groups.items():
        members = [entity for orphan in group for entity in orphan.walk()]
        ends = [entity.end for entity in members]
        known_ends = [end for end in ends if end is not None]
        is_complete = len(known_ends) == len(ends)
        document = Document(
            name=name,
            id=id_,
            trace_id=trace_id,
            start_time=min(entity.start for entity in group),
            end_time=max(known_ends) if is_complete else None,
            in_progress=None if is_complete else True,
        )
        placeholder = _build_entity(document, "", is_segment=True, is_placeholder=True)
        placeholder.children = group
        _place(placeholder, id_)
        placeholders.append(placeholder)
    return placeholders


def _infer_segments(
    trace_id: str, segments: Iterable[Entity], entities: dict[str, Entity]
) -> list[Entity]:
    answered = {segment.parent_id for segment in segments}
    inferred: list[Entity] = []
    for call in entities.values():
        if call.segment_id and not call.is_segment and call.is_remote and call.id not in answered:
            id_ = _free_id(trace_id, call.id, entities)
            document = infer_segment(trace_id, id_, call.document)
            inferred.append(_build_entity(document, call.id, is_segment=True, is_inferred=True))
    return inferred


def _free_id(trace_id: str, seed: str, taken: Container[str]) -> str:
    """A derived id that no document has: whoever sends can derive ids too."""
    id_ = derive_id(trace_id, seed)
    while id_ in taken:
        id_ = derive_id(trace_id, f"{seed} beside {id_}")
    return id_


def _find_roots(segments: list[Entity], entities: dict[str, Entity]) -> list[Entity]:
    """Segments whose parent is not in the trace: those that name none first, then by start."""
    roots = [segment for segment in segments if segment.parent_id not in entities]
    if not roots and all(entities[segment.parent_id].segment_id for segment in segments):
        roots = segments[:1]  # they all call each other
    return sorted(
        roots, key=lambda root: (root.placeholder, bool(root.parent_id), root.start, root.id)
    )
