// Rows over a common time axis: nested, collapsible, zoomable.

import { flatten } from "./assemble.js";
import { h, replace } from "./dom.js";
import { STATES, duration } from "./format.js";
import { VirtualList } from "./virtual.js";

const INDENT_MAX = 14;

export function makeWaterfall({ onSelect }) {
  let tree = { roots: [], start: 0, end: 1 };
  let view = [0, 1];
  let onlyCritical = false;
  const collapsed = new Set();
  const ruler = h("div", { class: "ruler", "aria-hidden": "true" });
  const list = new VirtualList({ label: "Waterfall", rowHeight: () => 28, render: row, keyOf: (node) => node.id, onOpen: onSelect, onKey: key });
  const critical = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    onlyCritical = !onlyCritical;
    critical.setAttribute("aria-pressed", String(onlyCritical));
    refresh();
  } }, "Critical path only");
  const toolbar = h("div", { class: "controls tools" },
    h("button", { type: "button", onclick: () => zoom(0.5), "aria-label": "Zoom in" }, "+"),
    h("button", { type: "button", onclick: () => zoom(2), "aria-label": "Zoom out" }, "−"),
    h("button", { type: "button", onclick: () => setView(tree.start, tree.end) }, "Whole trace"),
    h("button", { type: "button", onclick: collapseAll }, "Collapse"),
    h("button", { type: "button", onclick: () => { collapsed.clear(); refresh(); } }, "Expand"), critical);
  const node = h("div", { class: "waterfall" }, toolbar,
    h("div", { class: "row wf head", "aria-hidden": "true" }, h("span", {}, "Name"), h("span", { class: "took" }, "Duration"), ruler), list.node);

  const share = (time) => ((time - view[0]) / (view[1] - view[0])) * 100;

  function row(one) {
    const hasChildren = one.children.length > 0;
    const isClosed = collapsed.has(one.id);
    const toggle = hasChildren
      ? h("button", { type: "button", class: "toggle", tabindex: "-1", "aria-expanded": String(!isClosed), "aria-label": `${isClosed ? "Expand" : "Collapse"} ${one.entity.name}`,
        onclick: () => toggleNode(one) }, isClosed ? "▸" : "▾")
      : h("span", { class: "toggle" });
    const took = one.end === null ? "in progress" : duration(one.end - one.start);
    const left = share(one.start);
    const right = share(one.shownEnd);
    const kinds = ["bar-box", one.state, one.isSegment && "segment", one.isInferred && "inferred", one.isCritical && "critical"].filter(Boolean).join(" ");
    const bar = right >= 0 && left <= 100 && h("span", { class: kinds, style: { left: `${Math.max(-1, left)}%`, width: `${Math.min(101, right) - Math.max(-1, left)}%` } });
    return h("div", { class: "wf", "data-entity": one.id },
      h("span", { role: "cell", class: one.isSegment ? "name top-level" : "name", style: { "padding-left": `${Math.min(one.depth, INDENT_MAX) * 16}px` } },
        toggle, h("span", { class: `state ${one.state}`, title: STATES[one.state].label }, h("i", { role: "img", "aria-label": STATES[one.state].label }, STATES[one.state].shape)),
        one.entity.name, one.isInferred && h("span", { class: "tag" }, "inferred"),
        one.depth > INDENT_MAX && h("span", { class: "tag" }, `level ${one.depth}`)),
      h("span", { role: "cell", class: "took" }, took),
      h("span", { role: "cell", class: "lane" }, bar));
  }

  function toggleNode(one) {
    if (collapsed.has(one.id)) collapsed.delete(one.id);
    else collapsed.add(one.id);
    refresh();
  }

  function collapseAll() {
    for (const one of tree.all) if (one.isSegment && one.children.length && one.parent) collapsed.add(one.id);
    if (tree.all.every((one) => !one.parent || !one.isSegment || !one.children.length)) {
      for (const one of tree.roots) collapsed.add(one.id);
    }
    refresh();
  }

  function key(name, one) {
    if (name === "+" || name === "=") zoom(0.5);
    else if (name === "-") zoom(2);
    else if (name === "0") setView(tree.start, tree.end);
    else if (name === "ArrowRight" && one && collapsed.has(one.id)) toggleNode(one);
    else if (name === "ArrowLeft" && one && one.children.length && !collapsed.has(one.id)) toggleNode(one);
    else if (name === "ArrowLeft" && one?.parent) list.activate(list.items.indexOf(one.parent));
    else if (name === " " && one) onSelect(one);
    else return false;
    return true;
  }

  function zoom(factor) {
    const active = list.items[list.active];
    const middle = active ? (active.start + active.shownEnd) / 2 : (view[0] + view[1]) / 2;
    const half = ((view[1] - view[0]) * factor) / 2;
    setView(middle - half, middle + half);
  }

  function setView(from, to) {
    const least = Math.max(1e-5, (tree.end - tree.start) / 1e5);
    const low = Math.max(tree.start, from);
    view = [low, Math.min(tree.end, Math.max(to, low + least))];
    drawRuler();
    list.refresh();
  }

  function drawRuler() {
    const ticks = [0, 0.25, 0.5, 0.75, 1];
    replace(ruler, ticks.map((at) => h("span", { style: { left: `${at * 100}%` }, class: at === 1 ? "end" : at === 0 ? "start" : "" },
      duration(view[0] + at * (view[1] - view[0]) - tree.start))));
  }

  function refresh() { list.set(flatten(tree, collapsed, onlyCritical)); }

  // Drag over the axis to zoom to what is between.
  let dragged = null;
  const timeAt = (event) => {
    const box = ruler.getBoundingClientRect();
    return view[0] + Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * (view[1] - view[0]);
  };
  ruler.addEventListener("pointerdown", (event) => { dragged = timeAt(event); ruler.setPointerCapture(event.pointerId); });
  ruler.addEventListener("pointerup", (event) => {
    const to = timeAt(event);
    if (dragged !== null && Math.abs(to - dragged) > (view[1] - view[0]) / 100) setView(Math.min(dragged, to), Math.max(dragged, to));
    dragged = null;
  });

  return {
    node,
    set(next) {
      const wasWhole = view[0] === tree.start && view[1] === tree.end;
      const isFirst = tree.all === undefined;
      tree = next;
      if (isFirst || wasWhole) view = [tree.start, tree.end];
      drawRuler();
      refresh();
    },
    select(id) {
      for (let at = tree.nodes.get(id)?.parent; at; at = at.parent) collapsed.delete(at.id);
      refresh();
      const index = list.items.findIndex((one) => one.id === id);
      if (index >= 0) list.activate(index);
    },
    close() { list.observer.disconnect(); },
  };
}
