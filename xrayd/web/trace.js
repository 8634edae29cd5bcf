// One trace: its waterfall and what is known of the part that is selected.

import { xray } from "./api.js";
import { assemble } from "./assemble.js";
import { showDetail } from "./detail.js";
import { copyButton, h, replace } from "./dom.js";
import { STATES, count, duration, instant } from "./format.js";
import { makeGraph, readGraph } from "./graph.js";
import * as route from "./route.js";
import { makeWaterfall } from "./waterfall.js";

export function showTrace(main, { argument: traceId, query }) {
  let tree = null;
  let size = "";
  let selected = query.get("s") || "";
  const head = h("div", { class: "tracehead" });
  const detail = h("aside", { class: "detail", "aria-label": "Details", tabindex: "0", hidden: true });
  const waterfall = makeWaterfall({ onSelect: (node) => select(node.id) });
  const picture = makeGraph({ label: "Map of this trace", onChoose: (one) => {
    const node = tree?.all.find((each) => each.isSegment && (each.entity.name === one.name || one.members[0].Names.includes(each.entity.name)));
    if (node) { waterfall.select(node.id); select(node.id); }
  } });
  const drawn = h("div", { class: "tracemap", hidden: true }, picture.node);
  const toggle = h("button", { type: "button", class: "link", "aria-expanded": "false", onclick: () => {
    drawn.hidden = !drawn.hidden;
    toggle.setAttribute("aria-expanded", String(!drawn.hidden));
    toggle.textContent = drawn.hidden ? "Show its map" : "Hide its map";
    drawMap();
  } }, "Show its map");
  const body = h("div", { class: "split" }, waterfall.node, detail);
  replace(main, head, h("p", { class: "note maptoggle" }, toggle), drawn, body);
  body.addEventListener("keydown", (event) => { if (event.key === "Escape" && selected) select(""); });

  function select(id) {
    selected = id;
    route.change({ s: id });
    const node = tree?.nodes.get(id);
    detail.hidden = !node;
    if (node) showDetail(detail, node, tree, traceId, () => select(""));
    detail.scrollTop = 0;
  }

  async function load() {
    let trace;
    try {
      [trace] = (await xray("Traces", { TraceIds: [traceId] })).Traces;
    } catch (error) {
      replace(head, h("p", { class: "error" }, error.message));
      return;
    }
    body.hidden = !trace;
    if (!trace) {
      replace(head, h("p", { class: "empty" }, `There is no trace ${traceId} here. `, h("a", { href: "#/traces" }, "See the traces")));
      return;
    }
    const now = trace.Segments.map((one) => one.Document.length).join();
    if (now === size) return;
    const isFirst = size === "";
    size = now;
    tree = assemble(trace);
    describe(trace);
    waterfall.set(tree);
    drawMap();
    if (isFirst && selected) { waterfall.select(selected); select(selected); }
    else if (selected && tree.nodes.has(selected)) showDetail(detail, tree.nodes.get(selected), tree, traceId, () => select(""));
  }

  async function drawMap() {
    if (drawn.hidden) return;
    try {
      picture.draw(readGraph((await xray("TraceGraph", { TraceIds: [traceId] })).Services));
    } catch (error) {
      replace(drawn, h("p", { class: "error" }, error.message));
    }
  }

  function describe(trace) {
    const [root] = tree.roots;
    const http = root?.entity.http || {};
    const title = [http.request?.method, http.request?.url || root?.entity.name].filter(Boolean).join(" ");
    const state = root?.state || "ok";
    replace(head,
      h("p", { class: "note" }, h("a", { href: route.address("traces", "", { ...route.last.query, filter: route.last.filter }) }, "Traces"), " / ", h("code", {}, trace.Id), " ", copyButton(() => trace.Id)),
      h("h1", {}, title),
      h("p", { class: "note" }, h("span", { class: `state ${state}` }, h("i", { "aria-hidden": "true" }, STATES[state].shape), STATES[state].label),
        ` ${[http.response?.status, duration(trace.Duration), instant(tree.start), `${count(tree.all.length)} segments and subsegments`].filter(Boolean).join(" · ")}`));
  }

  load();
  return {
    onNews() { if (!tree || Date.now() / 1000 - tree.end < 120 || tree.all.some((one) => one.end === null)) load(); },
    onRoute(next) {
      const id = next.query.get("s") || "";
      if (id !== selected && tree) { if (id) waterfall.select(id); select(id); }
    },
    close() { waterfall.close(); },
  };
}
