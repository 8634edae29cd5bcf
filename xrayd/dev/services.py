"""The service nodes of a trace and the calls between them."""

from __future__ import annotations

from collections.abc import Iterable

from xrayd.dev.inferred import name_downstream
from xrayd.dev.model import Call, Entity, Node

NodeKey = tuple[str, str, str]


def find_services(
    segments: list[Entity], roots: list[Entity], entities: dict[str, Entity]
) -> tuple[list[Node], list[Call]]:
    """Group segments into nodes and find who called whom.

    Args:
        segments: All segments of the trace by start time, inferred ones included.
        roots: Those nothing in the trace called; the first is the entry point. Each gets a client.
        entities: Every entity by id, also subsegments that belong to no segment yet.

    Returns:
        Nodes in order of first appearance, and calls by start time.
    """
    nodes: dict[NodeKey, Node] = {}
    node_of: dict[str, Node] = {}
    for root in roots:
        key = (root.name, "client", "")
        if key not in nodes:
            nodes[key] = Node(root.name, "client", "", [root.name], "unknown", False, [])
    for segment in segments:
        node_of[segment.id] = _join_node(nodes, segment, entities)
    if roots:
        node_of[roots[0].id].is_root = True
    for node in nodes.values():
        if len(node.names) > 1:
            node.names[1:] = sorted(node.names[1:])
    root_ids = {root.id for root in roots}
    return list(nodes.values()), _find_calls(segments, root_ids, entities, nodes, node_of)


def read_account_id(entity: Entity) -> str:
    """The AWS account an entity says it belongs to, "" if it does not."""
    account_id = (entity.document.aws or {}).get("account_id")
    return account_id if isinstance(account_id, str) else ""


def _join_node(nodes: dict[NodeKey, Node], segment: Entity, entities: dict[str, Entity]) -> Node:
    if segment.inferred:
        name, node_type = name_downstream(entities[segment.parent_id].document)
    else:
        name, node_type = segment.name, segment.document.origin or ""
    key = (name, node_type, read_account_id(segment))
    node = nodes.get(key)
    if node is None:
        node = nodes[key] = Node(*key, [name], "unknown", False, [])
    if segment.name not in node.names:
        node.names.append(segment.name)
    if not segment.inferred:
        node.state = "active"
    node.segments.append(segment)
    return node


def _find_calls(
    segments: Iterable[Entity],
    root_ids: set[str],
    entities: dict[str, Entity],
    nodes: dict[NodeKey, Node],
    node_of: dict[str, Node],
) -> list[Call]:
    calls: list[Call] = []
    seen: set[tuple[str, NodeKey]] = set()
    for segment in segments:
        target = node_of[segment.id]
        if segment.id in root_ids:
            calls.append(Call(nodes[segment.name, "client", ""], target, segment, segment))
            continue
        caller = entities.get(segment.parent_id)
        source = None if caller is None else node_of.get(caller.segment_id)
        if caller is None or source is None:
            continue  # under a subsegment that belongs to no segment yet
        if caller.is_segment:
            calls.append(Call(source, target, segment, segment))
        elif (caller.id, target.key) not in seen:
            # One call that two segments of one service answered (a retry below the SDK) is one.
            seen.add((caller.id, target.key))
            calls.append(Call(source, target, caller, segment))
    calls.sort(key=lambda call: (call.entity.start, call.segment.id))
    return calls
