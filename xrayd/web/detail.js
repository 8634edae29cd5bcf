// Everything that is known of one segment or subsegment.

import { page } from "./api.js";
import { exceptionsOf } from "./assemble.js";
import { copyButton, h, replace } from "./dom.js";
import { STATES, duration, instant, quote } from "./format.js";
import * as route from "./route.js";

const SHOWN = new Set(["name", "id", "trace_id", "parent_id", "start_time", "end_time", "in_progress", "fault", "error", "throttle",
  "inferred", "http", "aws", "sql", "cause", "annotations", "metadata", "links", "subsegments", "namespace", "origin", "user", "service", "precursor_ids"]);

function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return shown.length > 0 && h("dl", {}, shown.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value instanceof Node ? value : text(value))]));
}

function text(value) {
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
}

function section(title, ...content) {
  const kept = content.flat().filter(Boolean);
  return kept.length > 0 && h("section", {}, h("h3", {}, title), kept);
}

// Members of an object and of the objects in it, with dotted names.
function flat(value, prefix = "") {
  return Object.entries(value || {}).flatMap(([name, one]) =>
    one !== null && typeof one === "object" && !Array.isArray(one) ? flat(one, `${prefix}${name}.`) : [[prefix + name, one]]);
}

function termOf(key, value) {
  const name = /^[A-Za-z0-9_]+$/.test(key) ? `annotation.${key}` : `annotation[${quote(key)}]`;
  return `${name} = ${typeof value === "string" ? quote(value) : value}`;
}

function annotation([key, value]) {
  const term = termOf(key, value);
  const before = route.last.filter;
  const filter = before && !before.includes(term) ? `(${before}) AND ${term}` : term;
  return [key, h("a", { href: route.address("traces", "", { ...route.last.query, filter }), title: "Filter traces by this" }, text(value))];
}

function exception(one) {
  return h("div", { class: "exception" },
    h("p", {}, h("strong", { class: "error" }, one.type || "exception"), one.message ? `: ${one.message}` : "", one.remote ? h("span", { class: "tag" }, "remote") : null),
    (one.stack || []).length > 0 && h("ol", { class: "stack" }, one.stack.map((frame) =>
      h("li", {}, h("b", {}, frame.label || "?"), ` ${frame.path || ""}${frame.line ? `:${frame.line}` : ""}`))),
    one.truncated ? h("p", { class: "note" }, `${one.truncated} more frames were left out`) : null);
}

function raw(node, traceId) {
  const body = h("div");
  const details = h("details", { ontoggle: async () => {
    if (!details.open || body.firstChild) return;
    try {
      const { documents } = await page("documents", { trace: traceId });
      const wanted = node.segment.id;
      const found = documents.filter((one) => { const { id } = JSON.parse(one); return id === wanted || id === node.id; });
      replace(body, found.length ? found.map((one) => [copyButton(() => one, "Copy document"), h("pre", { tabindex: "0", role: "region", "aria-label": "Raw document" }, pretty(one))])
        : h("p", { class: "note" }, "There is none: this segment was inferred from its caller."));
    } catch (error) { replace(body, h("p", { class: "error" }, error.message)); }
  } }, h("summary", {}, "Raw document"), body);
  return details;
}

function pretty(json) {
  try { return JSON.stringify(JSON.parse(json), null, 2); } catch { return json; }
}

export function showDetail(into, node, tree, traceId, onClose) {
  const { entity } = node;
  const { request = {}, response = {} } = entity.http || {};
  const rest = Object.fromEntries(Object.entries(entity).filter(([name]) => !SHOWN.has(name)));
  const plain = { ...entity };
  delete plain.subsegments;
  replace(into,
    h("header", {}, h("h2", {}, entity.name), h("span", { class: "grow" }), copyButton(() => JSON.stringify(plain, null, 2)),
      h("button", { type: "button", class: "quiet", "aria-label": "Close details", onclick: onClose }, "✕")),
    h("p", {}, h("span", { class: `state ${node.state}` }, h("i", { "aria-hidden": "true" }, STATES[node.state].shape), STATES[node.state].label), " ",
      h("span", { class: "note" }, [node.isInferred ? "inferred segment" : node.isSegment ? "segment" : "subsegment", entity.origin, entity.namespace, node.isCritical && "on the critical path"].filter(Boolean).join(" · "))),
    section("Times", facts([["Duration", node.end === null ? "in progress" : duration(node.end - node.start)], ["Offset", `+${duration(node.start - tree.start)}`],
      ["Start", instant(node.start)], ["End", node.end === null ? null : instant(node.end)]])),
    section("HTTP", facts([["Request", [request.method, request.url].filter(Boolean).join(" ")], ["Status", response.status],
      ...flat({ ...request, method: undefined, url: undefined }), ...flat({ ...response, status: undefined })])),
    section("SQL", entity.sql?.sanitized_query && h("pre", { tabindex: "0", role: "region", "aria-label": "Query" }, entity.sql.sanitized_query), facts(flat({ ...entity.sql, sanitized_query: undefined }))),
    section("Exceptions", exceptionsOf(node, tree).map(exception)),
    section("Annotations", facts(Object.entries(entity.annotations || {}).map(annotation))),
    section("AWS", facts(flat(entity.aws))),
    section("Linked traces", (entity.links || []).map((one) => h("p", {}, h("a", { href: route.address("trace", one.trace_id) }, one.trace_id), one.id ? ` at ${one.id}` : ""))),
    section("Identity", facts([["Id", entity.id], ["Parent", entity.parent_id], ["Segment", node.isSegment ? null : node.segment.entity.name], ["User", entity.user],
      ...flat(entity.service, "service."), ...Object.entries(rest)])),
    section("Metadata", entity.metadata && h("pre", { tabindex: "0", role: "region", "aria-label": "Metadata" }, JSON.stringify(entity.metadata, null, 2))),
    raw(node, traceId));
}
