// A drawing of services and the calls between them.

import { h, replace, svg, visible } from "./dom.js";
import { count, duration } from "./format.js";
import { layOut } from "./layout.js";

export const keyOf = (service) => `${service.Name}\u0001${service.Type || ""}\u0001${service.AccountId || ""}`;

// From the answer of GetServiceGraph or GetTraceGraph. `folded` types are one node each.
export function readGraph(services, folded = new Set()) {
  const byReference = new Map();
  const nodes = new Map();
  const edges = new Map();
  for (const service of services) {
    const isFolded = folded.has(service.Type || "");
    const key = isFolded ? `\u0001${service.Type}` : keyOf(service);
    byReference.set(service.ReferenceId, key);
    const node = nodes.get(key) || { key, name: isFolded ? `all of ${service.Type || "no type"}` : service.Name, type: service.Type || "",
      isFolded, members: [], stats: zero(), histogram: [] };
    node.members.push(service);
    add(node.stats, service.SummaryStatistics);
    node.histogram.push(...(service.ResponseTimeHistogram || []));
    nodes.set(key, node);
  }
  for (const service of services) {
    for (const edge of service.Edges || []) {
      const from = byReference.get(service.ReferenceId);
      const to = byReference.get(edge.ReferenceId);
      if (to === undefined) continue;
      const key = `${from}\u0002${to}`;
      const one = edges.get(key) || { key, from, to, isLink: edge.EdgeType === "link", stats: zero() };
      add(one.stats, edge.SummaryStatistics);
      edges.set(key, one);
    }
  }
  return { nodes, edges: [...edges.values()] };
}

function zero() { return { ok: 0, error: 0, throttle: 0, fault: 0, total: 0, time: 0 }; }

function add(stats, more) {
  if (!more) return;
  stats.ok += more.OkCount;
  stats.error += more.ErrorStatistics.OtherCount;
  stats.throttle += more.ErrorStatistics.ThrottleCount;
  stats.fault += more.FaultStatistics.TotalCount;
  stats.total += more.TotalCount;
  stats.time += more.TotalResponseTime;
}

export function neighbours(graph, key) {
  const near = new Set([key]);
  for (const edge of graph.edges) {
    if (edge.from === key) near.add(edge.to);
    if (edge.to === key) near.add(edge.from);
  }
  return near;
}

// Above so many edges, only those of the chosen node have their figures written beside them.
const BUSY = 60;
// What is shown at first is no larger than this, so that it can be read; the rest is a drag away.
const READABLE = [1500, 850];

const RING = ["ok", "error", "throttle", "fault"];
// Told apart without colour too: a ring is solid, or dashed in a way of its own.
const DASH = { ok: 0, error: 3, throttle: 2, fault: 0 };

function ring(stats, radius) {
  const round = 2 * Math.PI * radius;
  let from = 0;
  return RING.filter((kind) => stats[kind] > 0).map((kind) => {
    const length = (stats[kind] / stats.total) * round;
    const step = DASH[kind];
    const dashes = [];
    for (let done = 0; step && done < length; done += 2 * step) dashes.push(Math.min(step, length - done), Math.min(step, Math.max(0, length - done - step)));
    const pattern = step ? [...dashes, round] : [length, round - length];
    const arc = svg("circle", { class: `arc ${kind}`, r: radius, "stroke-width": kind === "fault" ? 7 : 5, "stroke-dasharray": pattern.join(" "), "stroke-dashoffset": -from, transform: "rotate(-90)" });
    from += length;
    return arc;
  });
}

const sizeOf = (stats) => 18 + Math.min(11, Math.log10(1 + stats.total) * 3.4);
const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export function describe(stats) {
  if (!stats.total) return "no requests";
  const bad = ["error", "throttle", "fault"].filter((kind) => stats[kind]).map((kind) => `${((stats[kind] / stats.total) * 100).toFixed(stats[kind] / stats.total < 0.1 ? 1 : 0)} % ${kind}`);
  return [`${duration(stats.time / stats.total)} on average`, `${count(stats.total)} requests`, ...bad].join(", ");
}

// So long may drawing take of a frame; what is left is drawn in the next.
const SLICE_MS = 6;

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
}

// `onChoose(node)` opens one. `minutes` is the length of the window, for rates.
export function makeGraph({ label, onChoose }) {
  const edgeLayer = svg("g");
  const nodeLayer = svg("g");
  const drawing = svg("svg", { class: "graph", role: "group", "aria-label": label },
    svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" }, svg("path", { d: "M0 0L8 4L0 8z", class: "tip" }))),
    edgeLayer, nodeLayer);
  const node = h("div", { class: "graphbox" }, drawing);
  const nodes = new Map();
  const edges = new Map();
  let known = new Map();
  let waiting = [];
  let placed = { at: new Map(), width: 1, height: 1 };
  let shape = "";
  let box = null;

  // Elements stay as long as what they stand for; only what has changed about them is touched.
  function draw(graph, { chosen = "", dim = null, minutes = 0 } = {}) {
    const keys = new Set(graph.edges.map((edge) => edge.key));
    const now = `${[...graph.nodes.keys()].sort().join()}|${[...keys].sort().join()}`;
    if (now !== shape) {
      shape = now;
      placed = layOut([...graph.nodes.values()], graph.edges);
      home();
    }
    known = graph.nodes;
    forget(nodes, graph.nodes);
    forget(edges, keys);
    const isBusy = graph.edges.length > BUSY;
    const isRunning = waiting.length > 0;
    waiting = [...[...graph.nodes.values()].map((one) => () => drawNode(one, chosen, dim)),
      ...graph.edges.map((edge) => () => drawEdge(edge, graph, dim, minutes, { isChosen: edge.from === chosen || edge.to === chosen, isBusy }))].reverse();
    if (!isRunning) requestAnimationFrame(drawSlice);
  }

  function drawSlice() {
    const until = performance.now() + SLICE_MS;
    while (waiting.length && performance.now() < until) waiting.pop()();
    if (waiting.length) requestAnimationFrame(drawSlice);
  }

  function forget(elements, kept) {
    for (const [key, one] of elements) if (!kept.has(key)) { one.element.remove(); elements.delete(key); }
  }

  function drawNode(one, chosen, dim) {
    const { x, y } = placed.at.get(one.key);
    let shown = nodes.get(one.key);
    if (!shown) {
      const choose = () => { const present = known.get(one.key); if (present) onChoose(present); };
      shown = { content: "", element: svg("g", { tabindex: "0", role: "button", "data-node": one.key.replaceAll("\u0001", "|"), onclick: choose,
        onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } } }) };
      nodes.set(one.key, shown);
      nodeLayer.append(shown.element);
    }
    set(shown.element, { class: `node${one.key === chosen ? " chosen" : ""}${dim && !dim.has(one.key) ? " dim" : ""}`, transform: `translate(${x} ${y - 12})` });
    const content = JSON.stringify([one.name, one.stats]);
    if (shown.content === content) return;
    shown.content = content;
    const size = sizeOf(one.stats);
    const title = short(one.name, 25);
    const type = short(one.type === "client" ? "client" : one.type.replace(/^AWS::/, "") || "service", 28);
    const inside = one.stats.total ? duration(one.stats.time / one.stats.total) : "–";
    shown.element.setAttribute("aria-label", visible(`${title} ${type} ${inside}: ${describe(one.stats)}`));
    replace(shown.element, svg("circle", { class: "body", r: size }), ring(one.stats, size), svg("text", { y: size + 17, class: "title" }, `${title} `),
      svg("text", { y: size + 31 }, `${type} `), svg("text", { y: 3, class: "inside" }, inside));
  }

  function drawEdge(edge, graph, dim, minutes, { isChosen, isBusy }) {
    let shown = edges.get(edge.key);
    if (!shown) {
      const path = svg("path", { "marker-end": "url(#arrow)" });
      shown = { path, text: svg("text"), element: svg("g", {}, path) };
      edges.set(edge.key, shown);
      edgeLayer.append(shown.element);
    }
    const from = placed.at.get(edge.from);
    const to = placed.at.get(edge.to);
    const isDim = dim && !(dim.has(edge.from) && dim.has(edge.to));
    const [x1, y1, y2] = [from.x, from.y - 12, to.y - 12];
    const a = sizeOf(graph.nodes.get(edge.from).stats) + 5;
    const b = sizeOf(graph.nodes.get(edge.to).stats) + 6;
    const side = to.x >= from.x ? 1 : -1;
    const path = edge.from === edge.to
      ? `M${x1 - 8} ${y1 - a}c-20 -34 36 -34 16 0`
      : to.x === from.x ? `M${x1 + a} ${y1}C${x1 + 60} ${y1} ${x1 + 60} ${y2} ${x1 + b} ${y2}`
        : `M${x1 + side * a} ${y1}C${(x1 + to.x) / 2} ${y1} ${(x1 + to.x) / 2} ${y2} ${to.x - side * b} ${y2}`;
    const { stats } = edge;
    const kind = stats.fault ? "fault" : stats.throttle ? "throttle" : stats.error ? "error" : "";
    set(shown.element, { class: `edge ${kind}${edge.isLink ? " link" : ""}${isDim ? " dim" : ""}` });
    set(shown.path, { d: path, "stroke-width": 1 + Math.min(3, Math.log10(1 + stats.total)) });
    if (isBusy && !isChosen) { shown.text.remove(); return; }
    const parts = stats.total && !edge.isLink ? [duration(stats.time / stats.total), minutes ? `${rate(stats.total / minutes)}/min` : `${count(stats.total)}×`] : [edge.isLink ? "link" : ""];
    set(shown.text, { x: (x1 + to.x) / 2 + (to.x === from.x ? 50 : 0), y: (y1 + y2) / 2 - 6 - (edge.from === edge.to ? a + 20 : 0) });
    if (shown.text.textContent !== parts.join(" · ")) shown.text.textContent = parts.join(" · ");
    if (!shown.text.parentNode) shown.element.append(shown.text);
  }

  const rate = (n) => (n >= 10 ? count(Math.round(n)) : n.toFixed(1));

  function home() {
    const [width, height] = [Math.min(placed.width, READABLE[0]), Math.min(placed.height, READABLE[1])];
    box = [0, (placed.height - height) / 2, width, height];
    apply();
  }

  function fit() {
    box = [0, 0, placed.width, placed.height];
    apply();
  }

  function apply() {
    drawing.setAttribute("viewBox", box.join(" "));
    // A small graph is not blown up.
    drawing.style.maxHeight = `${Math.max(placed.height * 1.5, 160)}px`;
  }

  function zoom(factor, cx = 0.5, cy = 0.5) {
    const [x, y, width, height] = box;
    const next = Math.max(120, Math.min(placed.width * 2, width * factor));
    const real = next / width;
    box = [x + width * (1 - real) * cx, y + height * (1 - real) * cy, next, height * real];
    apply();
  }

  node.addEventListener("wheel", (event) => {
    event.preventDefault();
    const area = drawing.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
  }, { passive: false });
  let held = null;
  drawing.addEventListener("pointerdown", (event) => { if (!event.target.closest(".node")) held = [event.clientX, event.clientY, ...box]; });
  drawing.addEventListener("pointermove", (event) => {
    if (!held) return;
    const scale = Math.max(box[2] / drawing.clientWidth, box[3] / drawing.clientHeight);
    box = [held[2] - (event.clientX - held[0]) * scale, held[3] - (event.clientY - held[1]) * scale, box[2], box[3]];
    apply();
  });
  window.addEventListener("pointerup", () => { held = null; });

  return { node, draw, zoom, fit, reveal(key) {
    const spot = placed.at.get(key);
    if (spot && (placed.width > READABLE[0] || placed.height > READABLE[1])) { box = [spot.x - 500, spot.y - 300, 1000, 600]; apply(); }
  } };
}
