"""Documents of one trace in, the compiled trace out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from xrayd.dev.assembly import assemble
from xrayd.dev.documents import normalize_trace_id
from xrayd.dev.model import AnnotationValue, Document, Entity, Node, Trace, TraceLink
from xrayd.dev.rootcauses import CallTree
from xrayd.dev.services import find_services

GRACE_S = 5.0
"""How long subsegments wait for their parent before they are shown under a placeholder."""

SLOW_S = 2.0
"""Root response time in seconds from which it is explained; X-Ray's own threshold is unknown."""

MISSING_PARENT = "(missing parent)"
"""Name of the placeholder, where it is not known what function or service the parent is."""

ANNOTATION_KEYS_MAX = 50
"""Annotation keys X-Ray indexes for a trace (AWS X-Ray endpoints and quotas)."""

ANNOTATION_STRING_MAX = 1000
LINKS_MAX = 100
"""Links X-Ray reads from one trace (AWS X-Ray Developer Guide, "Trace linking")."""

_ANNOTATION_KEY = re.compile(r"[A-Za-z0-9_.]{1,500}")
_REFERENCE_TYPE = "aws.xray.reserved.reference_type"

T = TypeVar("T")


def compile_trace(
    trace_id: str,
    documents: Sequence[Document],
    *,
    now: float,
    last_received: float,
    grace_s: float = GRACE_S,
    slow_s: float = SLOW_S,
    missing_parent_name: str = MISSING_PARENT,
    revision: int | None = None,
) -> Trace:
    """Put a trace together.

    Args:
        trace_id: X-Ray form, lower case.
        documents: Accepted documents with that trace id, in order of arrival; the order matters
            only between documents of one id and state, where the later wins. Left untouched.
        now: Epoch seconds.
        last_received: When the last of them arrived, epoch seconds.
        grace_s: Seconds after that in which subsegments wait for their parent.
        slow_s: Root response time in seconds from which it gets a root cause.
        missing_parent_name: Name of the segments made up for parents that stayed away.
        revision: Number of changes so far; the number of documents if not given.
    """
    parts = assemble(
        trace_id,
        documents,
        is_settled=now - last_received >= grace_s,
        missing_parent_name=missing_parent_name,
    )
    segments, entities, roots = parts.segments, parts.entities, parts.roots
    root = roots[0] if roots else None
    nodes, calls = find_services(segments, roots, entities)
    tree = CallTree(segments, entities, nodes)
    survey = _survey(entities.values())
    start = min((entity.start for entity in segments or parts.orphans), default=0.0)
    sent = [segment for segment in segments if not segment.inferred]
    return Trace(
        id=trace_id,
        revision=len(documents) if revision is None else revision,
        segments=segments,
        root=root,
        entities=entities,
        orphans=parts.orphans,
        nodes=nodes,
        calls=calls,
        links=_collect_links(trace_id, nodes, entities),
        start=start,
        end=max(start, survey.end),
        response_time=None if root is None else root.duration,
        is_partial=survey.is_partial or bool(parts.orphans) or root is None,
        has_fault=root is not None and root.fault,
        has_error=root is not None and root.error,
        has_throttle=any(segment.throttle for segment in segments),
        annotations=_collect_annotations(entities.values()),
        users=_find_distinct(segment.document.user for segment in sent),
        resource_arns=_collect_arns(sent),
        instance_ids=_collect_aws(sent, ("ec2", "instance_id")),
        availability_zones=_collect_aws(
            sent, ("ec2", "availability_zone"), ("ecs", "availability_zone")
        ),
        fault_causes=tree.find_faults(roots, "fault") if survey.has_faults else [],
        error_causes=tree.find_faults(roots, "error") if survey.has_errors else [],
        response_time_causes=tree.find_slowness(root, slow_s) if root is not None else [],
    )


class _Survey(msgspec.Struct, gc=False):
    """What one look at every entity tells: the latest end, and whether any is so."""

    end: float = 0.0
    is_partial: bool = False
    has_faults: bool = False
    has_errors: bool = False


def _survey(entities: Iterable[Entity]) -> _Survey:
    found = _Survey()
    for entity in entities:
        end = entity.end
        if end is None or entity.placeholder:
            found.is_partial = True
        if end is not None and end > found.end:
            found.end = end
        found.has_faults |= entity.fault
        found.has_errors |= entity.error
    return found


def _find_distinct(values: Iterable[T | None]) -> list[T]:
    """What is not None or empty, once each, in order of first appearance."""
    return list(dict.fromkeys(value for value in values if value))


def _collect_aws(segments: Iterable[Entity], *paths: tuple[str, str]) -> list[str]:
    """Distinct strings at any of the paths into the segments' `aws` blocks."""
    found: dict[str, None] = {}
    for segment in segments:
        aws = segment.document.aws
        if not aws:
            continue
        for block_name, key in paths:
            block = aws.get(block_name)
            value = block.get(key) if isinstance(block, dict) else None
            if isinstance(value, str) and value:
                found[value] = None
    return list(found)


def _collect_arns(segments: list[Entity]) -> list[str]:
    """What the segments ran on: their own resource, Lambda functions, containers."""
    named = [segment.document.resource_arn for segment in segments]
    functions = [
        arn if isinstance(arn := (segment.document.aws or {}).get("function_arn"), str) else None
        for segment in segments
    ]
    return _find_distinct([*named, *functions, *_collect_aws(segments, ("ecs", "container_arn"))])


def _collect_annotations(entities: Iterable[Entity]) -> dict[str, list[AnnotationValue]]:
    """Indexed annotations: the first fifty keys by start time, each with its distinct values."""
    annotated = [entity for entity in entities if entity.document.annotations]
    annotated.sort(key=lambda entity: (entity.start, entity.id))
    found: dict[str, dict[tuple[bool, AnnotationValue], None]] = {}
    for entity in annotated:
        for key, value in entity.annotations.items():
            if isinstance(value, str) and len(value) > ANNOTATION_STRING_MAX:
                continue
            if key not in found and (
                len(found) == ANNOTATION_KEYS_MAX or not _ANNOTATION_KEY.fullmatch(key)
            ):
                continue
            # True equals 1 in Python, but not in an annotation.
            found.setdefault(key, {})[isinstance(value, bool), value] = None
    return {key: [value for _, value in values] for key, values in found.items()}


def _collect_links(
    trace_id: str, nodes: Iterable[Node], entities: dict[str, Entity]
) -> list[TraceLink]:
    """References to the traces that caused this one; not those to traces it caused itself."""
    linking = [entity for entity in entities.values() if entity.document.links]
    if not linking:
        return []
    node_of = {segment.id: node for node in nodes for segment in node.segments}
    linking.sort(key=lambda entity: (entity.start, entity.id))
    found: list[TraceLink] = []
    for entity in linking:
        for link in entity.document.links or ():
            linked = normalize_trace_id(link.trace_id)
            kind = (link.attributes or {}).get(_REFERENCE_TYPE, "parent")
            if linked in (None, trace_id) or kind != "parent" or not entity.segment_id:
                continue
            segment = entities[entity.segment_id]
            found.append(TraceLink(linked, link.id, node_of[segment.id], segment))
    return found[:LINKS_MAX]
