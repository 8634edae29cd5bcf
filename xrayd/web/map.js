// The service map: the graph, a search, and a pane about one node.

import { xray } from "./api.js";
import { h, replace, svg } from "./dom.js";
import { STATES, clock, count, quote } from "./format.js";
import { describe, makeGraph, neighbours, readGraph } from "./graph.js";
import { makeHistogram } from "./histogram.js";
import * as route from "./route.js";
import { RANGES } from "./traces.js";

export function showMap(main, initial) {
  let now = initial;
  let services = [];
  let graph = readGraph([]);
  let isClosed = false;
  let loadedAt = 0;
  let later = 0;
  const range = h("select", { "aria-label": "Time range", onchange: () => route.change({ range: range.value }, { push: true }) },
    RANGES.filter(([seconds]) => seconds <= 21600).map(([seconds, label]) => h("option", { value: String(seconds) }, `Last ${label}`)));
  const search = h("input", { type: "search", placeholder: "Find a service", "aria-label": "Find a service", "data-search": true, list: "map-names",
    oninput: draw, onkeydown: (event) => { if (event.key === "Enter") { const found = matching()[0]; if (found) choose(found); } } });
  const names = h("datalist", { id: "map-names" });
  const focus = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    route.change({ focus: now.query.get("focus") ? "" : "1" }, { push: true });
  } }, "Neighbours only");
  const fold = h("select", { "aria-label": "Collapse a type", onchange: () => {
    const types = folded();
    if (types.has(fold.value)) types.delete(fold.value);
    else if (fold.value) types.add(fold.value);
    route.change({ fold: [...types].join("~") }, { push: true });
  } });
  const picture = makeGraph({ label: "Service map", onChoose: choose });
  const pane = h("aside", { class: "detail", "aria-label": "Service", tabindex: "0", hidden: true });
  const status = h("p", { class: "note status", role: "status" });
  const legend = h("p", { class: "legend note" }, ["ok", "error", "throttle", "fault"].map((kind) => h("span", { class: `state ${kind}` }, h("i", { "aria-hidden": "true" }, STATES[kind].shape), STATES[kind].label, " ")));
  const body = h("div", { class: "split" }, picture.node, pane);
  replace(main, h("h1", { class: "hidden" }, "Service map"),
    h("div", { class: "toolbar" }, search, names, range, focus, fold,
      h("button", { type: "button", "aria-label": "Zoom in", onclick: () => picture.zoom(0.75) }, "+"),
      h("button", { type: "button", "aria-label": "Zoom out", onclick: () => picture.zoom(1.33) }, "−"),
      h("button", { type: "button", onclick: () => picture.fit() }, "Fit"), h("span", { class: "grow" }), legend), status, body);
  body.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(null); });

  const seconds = () => (RANGES.some(([s]) => String(s) === now.query.get("range") && s <= 21600) ? Number(now.query.get("range")) : 3600);
  const folded = () => new Set((now.query.get("fold") || "").split("~").filter(Boolean));
  const idOf = (one) => one.key.replaceAll("\u0001", "|");
  const chosen = () => [...graph.nodes.values()].find((one) => idOf(one) === now.query.get("node"));
  function matching() {
    const text = search.value.trim().toLowerCase();
    return text ? [...graph.nodes.values()].filter((one) => one.name.toLowerCase().includes(text) || one.type.toLowerCase().includes(text)) : [];
  }

  function choose(one) { route.change({ node: one ? idOf(one) : "" }, { push: true }); }

  async function load() {
    loadedAt = Date.now();
    const end = Math.ceil(Date.now() / 1000) + 1;
    try {
      const answer = await xray("ServiceGraph", { StartTime: end - seconds(), EndTime: end });
      if (isClosed) return;
      services = answer.Services;
      status.classList.remove("error");
      draw();
    } catch (error) {
      status.classList.add("error");
      replace(status, error.message);
    }
  }

  function draw() {
    graph = readGraph(services, folded());
    const one = chosen();
    const found = matching();
    const isFocused = now.query.get("focus") && one;
    focus.setAttribute("aria-pressed", String(Boolean(now.query.get("focus"))));
    range.value = String(seconds());
    if (isFocused) {
      const near = neighbours(graph, one.key);
      graph.nodes = new Map([...graph.nodes].filter(([key]) => near.has(key)));
      graph.edges = graph.edges.filter((edge) => near.has(edge.from) && near.has(edge.to));
    }
    const dim = search.value.trim() ? new Set(found.map((each) => each.key)) : null;
    picture.draw(graph, { chosen: one?.key, dim, minutes: seconds() / 60 });
    if (found.length) picture.reveal(found[0].key);
    offer();
    replace(status, services.length ? `${count(graph.nodes.size)} services, ${count(graph.edges.length)} connections` : h("span", {}, "No traces in this time. ", h("a", { href: "#/traces" }, "How to send some")));
    showPane(one);
  }

  // Lists that somebody may have open are only made anew where they differ.
  let offered = "";
  function offer() {
    const types = [...new Set(services.map((each) => each.Type || "").filter((type) => type && type !== "client"))].sort();
    const found = [...new Set([...graph.nodes.values()].map((each) => each.name))];
    const off = folded();
    const now = JSON.stringify([types, [...off], found]);
    if (now === offered) return;
    offered = now;
    replace(fold, h("option", { value: "" }, "Collapse a type…"), types.map((type) => h("option", { value: type }, off.has(type) ? `Expand ${type}` : type)));
    replace(names, found.map((name) => h("option", { value: name })));
  }

  let paneKey = "";
  function showPane(one) {
    pane.hidden = !one;
    if (!one) { paneKey = ""; return; }
    const histogram = makeHistogram({ label: "Response times" });
    const series = h("div");
    const filter = one.isFolded ? "" : `service(id(name: ${quote(one.name)}${one.type ? `, type: ${quote(one.type)}` : ""}))`;
    const link = (text, more) => h("a", { class: "button", href: route.address("traces", "", { filter: `${filter}${more}`, range: String(seconds()) }) }, text);
    const block = (test) => (filter ? `${filter} { ${test} }` : "");
    const wasOpen = paneKey === one.key;
    paneKey = one.key;
    const scroll = pane.scrollTop;
    replace(pane, h("header", {}, h("h2", {}, one.name), h("span", { class: "grow" }), h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => choose(null) }, "✕")),
      h("p", { class: "note" }, [one.type || "service", describe(one.stats)].join(" · ")),
      !one.isFolded && one.type !== "client" && h("p", { class: "links" }, link("Traces", ""), " ",
        h("a", { href: route.address("traces", "", { filter: block("fault"), range: String(seconds()) }) }, "with faults here"), " · ",
        h("a", { href: route.address("traces", "", { filter: block("error"), range: String(seconds()) }) }, "with errors here")),
      h("section", {}, histogram.node), h("section", {}, h("h3", {}, "Over time"), series));
    histogram.set(one.histogram.map((bin) => ({ value: bin.Value, count: bin.Count, isBad: false })));
    if (wasOpen) pane.scrollTop = scroll;
    if (filter && one.type !== "client") drawSeries(series, filter);
  }

  async function drawSeries(into, selector) {
    const end = Math.ceil(Date.now() / 1000);
    const period = seconds() > 3600 ? 300 : 60;
    try {
      const answer = await xray("TimeSeriesServiceStatistics", { StartTime: end - seconds(), EndTime: end, Period: period, EntitySelectorExpression: selector });
      const first = Math.floor((end - seconds()) / period) * period;
      const slots = Math.ceil((end - first) / period);
      const most = Math.max(1, ...answer.TimeSeriesServiceStatistics.map((one) => one.ServiceSummaryStatistics.TotalCount));
      const bars = answer.TimeSeriesServiceStatistics.map((one) => {
        const { TotalCount: total, FaultStatistics: fault, ErrorStatistics: error } = one.ServiceSummaryStatistics;
        const x = ((one.Timestamp - first) / period) * (600 / slots);
        const bad = fault.TotalCount + error.TotalCount;
        return [svg("rect", { class: "bar", x, y: 64 - (total / most) * 60, width: (600 / slots) * 0.85, height: (total / most) * 60 }),
          bad ? svg("rect", { class: "bar bad", x, y: 64 - (bad / most) * 60, width: (600 / slots) * 0.85, height: (bad / most) * 60 }) : null];
      });
      replace(into, svg("svg", { class: "plot", viewBox: "0 0 600 64", preserveAspectRatio: "none", role: "img", "aria-label": `Requests per ${period / 60} min, at most ${most}` }, bars),
        h("p", { class: "note between" }, h("span", {}, clock(first)), h("span", {}, `at most ${count(most)} per ${period / 60} min`), h("span", {}, clock(end))));
    } catch (error) { replace(into, h("p", { class: "error" }, error.message)); }
  }

  load();
  return {
    // Not more often than every two seconds: nobody reads a map faster.
    onNews() {
      clearTimeout(later);
      later = setTimeout(load, Math.max(0, 2000 - (Date.now() - loadedAt)));
    },
    onRoute(next) {
      const isSame = next.query.get("range") === now.query.get("range");
      now = next;
      if (isSame) draw();
      else load();
    },
    close() { isClosed = true; clearTimeout(later); },
  };
}
