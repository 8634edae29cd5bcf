// The documents of a trace as one tree of rows.

import { stateOfEntity } from "./format.js";

// A node: {id, entity, segment, parent, children, start, end, state, isSegment, isInferred, isCritical}
export function assemble(trace) {
  const nodes = new Map();
  const all = [];
  const tops = [];
  for (const { Document: text } of trace.Segments) {
    const pending = [[JSON.parse(text), null, null]];
    while (pending.length) {
      const [entity, parent, segment] = pending.pop();
      const node = { id: entity.id, entity, parent, segment, children: [], isSegment: !parent, isInferred: Boolean(entity.inferred),
        start: entity.start_time, end: entity.end_time ?? null, state: stateOfEntity(entity), isCritical: false, depth: 0 };
      node.segment = segment || node;
      all.push(node);
      nodes.set(node.id, node);
      if (parent) parent.children.push(node);
      else tops.push(node);
      for (const child of entity.subsegments || []) pending.push([child, node, node.segment]);
    }
  }
  const roots = [];
  for (const top of tops) {
    const parent = nodes.get(top.entity.parent_id);
    if (parent && parent !== top && !isAbove(top, parent)) {
      parent.children.push(top);
      top.parent = parent;
    } else roots.push(top);
  }
  let start = Infinity;
  let end = -Infinity;
  for (const node of all) {
    start = Math.min(start, node.start);
    end = Math.max(end, node.end ?? node.start);
  }
  for (const node of all) {
    node.shownEnd = node.end ?? Math.max(end, node.start);
    node.children.sort((a, b) => a.start - b.start);
  }
  roots.sort((a, b) => a.start - b.start);
  for (const root of roots) markCritical(root);
  return { roots, nodes, all, start, end: Math.max(end, start + 1e-6) };
}

function isAbove(node, other) {
  for (let at = other; at; at = at.parent) if (at === node) return true;
  return false;
}

// What the end of each entity waited for: from its end backwards, the child that ended last.
function markCritical(root) {
  const pending = [root];
  while (pending.length) {
    const node = pending.pop();
    node.isCritical = true;
    let until = node.shownEnd + 1e-6;
    for (const child of [...node.children].sort((a, b) => b.shownEnd - a.shownEnd)) {
      if (child.shownEnd > until) continue;
      pending.push(child);
      until = child.start + 1e-6;
    }
  }
}

// The rows to be shown, in order; children of collapsed ids are left out.
export function flatten(tree, collapsed, onlyCritical = false) {
  const rows = [];
  const pending = [...tree.roots].reverse().map((root) => [root, 0]);
  while (pending.length) {
    const [node, depth] = pending.pop();
    if (onlyCritical && !node.isCritical) continue;
    node.depth = depth;
    rows.push(node);
    if (collapsed.has(node.id)) continue;
    for (let index = node.children.length - 1; index >= 0; index -= 1) pending.push([node.children[index], depth + 1]);
  }
  return rows;
}

// The exceptions of an entity's cause; one that is only named is looked for in the whole trace.
export function exceptionsOf(node, tree) {
  const { cause } = node.entity;
  if (typeof cause !== "string") return cause?.exceptions || [];
  for (const { entity } of tree.all) {
    const found = (entity.cause?.exceptions || []).find((one) => one.id === cause);
    if (found) return [found];
  }
  return [];
}
