// The live list of traces: filter, time range, groups, distribution.

import { xray } from "./api.js";
import { h, replace } from "./dom.js";
import { makeFilterBox } from "./filterbox.js";
import { STATES, clock, count, duration, stateOfSummary } from "./format.js";
import { makeHelp } from "./help.js";
import { makeHistogram } from "./histogram.js";
import * as route from "./route.js";
import { VirtualList } from "./virtual.js";

const KEPT = 1000;
export const RANGES = [[300, "5 min"], [900, "15 min"], [3600, "1 hour"], [21600, "6 hours"], [86400, "1 day"], [604800, "7 days"], [2592000, "30 days"]];

const narrow = matchMedia("(max-width: 760px)");

export function showTraces(main, initial) {
  let now = initial;
  let traces = new Map();
  let isPaused = false;
  let missed = 0;
  let fetchedAt = 0;
  let isMore = false;
  let aborter = new AbortController();
  let isFetching = false;
  const groupsByName = new Map();

  const filter = makeFilterBox({ value: now.query.get("filter") || "", onApply: (text) => go({ filter: text }) });
  const range = h("select", { "aria-label": "Time range", onchange: () => go({ range: range.value }) },
    RANGES.map(([seconds, label]) => h("option", { value: String(seconds) }, `Last ${label}`)));
  const group = h("select", { "aria-label": "Group (saved filter)", onchange: () => go({ group: group.value }) });
  const save = h("button", { type: "button", onclick: saveGroup }, "Save as group");
  const pause = h("button", { type: "button", "aria-pressed": "false", class: "pause", onclick: togglePause }, "Pause");
  const histogram = makeHistogram({ label: "Response time", onBrush: (brush) => go({ rt: brush ? brush.map((n) => n.toPrecision(3)).join("~") : "" }) });
  const status = h("p", { class: "note status", role: "status" });
  const head = h("div", { class: "row head", "aria-hidden": "true" },
    ["Status", "Time", "Response time", "Method", "URL", "User", "Annotations"].map((name, i) => h("span", { class: `c${i}` }, name)));
  const list = new VirtualList({
    label: "Traces", rowHeight: () => (narrow.matches ? 60 : 34), render: row, keyOf: (one) => one.Id,
    onOpen: (one) => { location.hash = route.address("trace", one.Id); },
  });
  const body = h("div", { class: "listing" }, histogram.node, status, head, list.node);
  const help = h("div");
  const dialog = h("div");
  replace(main, h("h1", { class: "hidden" }, "Traces"),
    h("div", { class: "toolbar" }, filter.node, h("div", { class: "controls" }, range, group, save, pause)), dialog, body, help);
  narrow.addEventListener("change", redraw);

  function redraw() { list.refresh(); }

  // The address changes first; the view follows it.
  function go(values) { route.change(values, { push: true }); }

  function settings() {
    const query = now.query;
    const rt = (query.get("rt") || "").split("~").map(Number);
    return {
      filter: query.get("filter") || "",
      group: query.get("group") || "",
      range: RANGES.some(([s]) => String(s) === query.get("range")) ? Number(query.get("range")) : 3600,
      // The end of the time, where it is not now: nothing new comes in.
      until: Number(query.get("until")) > 0 ? Number(query.get("until")) : null,
      brush: rt.length === 2 && rt.every((n) => n > 0) ? rt : null,
    };
  }

  function expression() {
    const { filter: text, group: name } = settings();
    const saved = name && groupsByName.get(name);
    return [saved, text].filter(Boolean).map((one) => `(${one})`).join(" AND ");
  }

  async function fetchPages(start, end, type, pages) {
    const members = { StartTime: start, EndTime: end, TimeRangeType: type };
    const { filter: text } = settings();
    const wanted = settings().group ? expression() : text;
    if (wanted) members.FilterExpression = wanted;
    const found = [];
    let more = false;
    for (let number = 0; number < pages; number += 1) {
      const answer = await xray("TraceSummaries", members, aborter.signal);
      found.push(...answer.TraceSummaries);
      members.NextToken = answer.NextToken;
      more = Boolean(answer.NextToken);
      if (!more) break;
      if (number === 0 && type === "TraceId") { merge(found); show(); }
    }
    return { found, more };
  }

  function merge(found) {
    for (const one of found) traces.set(one.Id, one);
    if (traces.size > KEPT) {
      const newest = [...traces.values()].sort((a, b) => b.StartTime - a.StartTime).slice(0, KEPT);
      traces = new Map(newest.map((one) => [one.Id, one]));
      isMore = true;
    }
  }

  async function load() {
    aborter.abort();
    aborter = new AbortController();
    traces = new Map();
    isFetching = true;
    fetchedAt = Date.now() / 1000;
    const { range: seconds, until } = settings();
    try {
      const { found, more } = await fetchPages((until ?? fetchedAt) - seconds, until ?? fetchedAt + 60, "TraceId", KEPT / 100);
      isMore = more;
      merge(found);
      show();
    } catch (error) {
      if (error.name === "AbortError") return;
      show(error.message);
    }
    isFetching = false;
  }

  // What was active since the last look, whenever it began; or all of it.
  async function update(isRenewed = false) {
    if (settings().until && !isRenewed) return;
    if (isPaused) { missed += 1; showStatus(); return; }
    if (isRenewed) { await load(); return; }
    if (isFetching) return;
    isFetching = true;
    const since = fetchedAt - 5;
    try {
      const at = Date.now() / 1000;
      const { found } = await fetchPages(since, at + 60, "Event", 3);
      fetchedAt = at;
      const oldest = at - settings().range;
      merge(found.filter((one) => one.StartTime >= oldest));
      for (const [id, one] of traces) if (one.StartTime < oldest) traces.delete(id);
      show();
    } catch (error) {
      if (error.name !== "AbortError") show(error.message);
    }
    isFetching = false;
  }

  // Summaries give milliseconds; what began in the same one is shown again.
  const oldest = () => String(Math.min(...[...traces.values()].map((one) => one.StartTime)) + 0.001);

  let shownTraces = [];
  let said = "";
  function show(problem = "") {
    const { brush, filter: text, group: name } = settings();
    const all = [...traces.values()].sort((a, b) => b.StartTime - a.StartTime || (a.Id < b.Id ? 1 : -1));
    const timeOf = (one) => one.ResponseTime ?? one.Duration ?? 0;
    shownTraces = brush ? all.filter((one) => timeOf(one) >= brush[0] && timeOf(one) <= brush[1]) : all;
    histogram.set(all.map((one) => ({ value: timeOf(one), count: 1, isBad: one.HasFault || one.HasError || one.HasThrottle })), brush);
    list.set(shownTraces);
    const isEmpty = all.length === 0 && !problem;
    const isFirstRun = isEmpty && !text && !name && !settings().until;
    body.hidden = isFirstRun;
    if (isFirstRun && !help.firstChild) replace(help, makeHelp());
    else if (!isFirstRun && help.firstChild) replace(help);
    showStatus(problem);
  }

  function showStatus(problem = "") {
    const { brush, until } = settings();
    const total = `${count(shownTraces.length)}${isMore ? " newest" : ""} ${shownTraces.length === 1 ? "trace" : "traces"}`;
    const text = problem || (shownTraces.length === 0 ? "No trace matches." : `${total}${brush ? " in the selected response times" : ""}`);
    // Made anew only where it differs: somebody may be at a button in it.
    const now = JSON.stringify([text, until, isPaused, missed > 0, isMore]);
    if (now === said) return;
    said = now;
    replace(status, text, until ? ` before ${clock(until)}` : isPaused ? ` – paused${missed ? ", there is news" : ""}` : "",
      isMore && [" · ", h("button", { type: "button", class: "link", onclick: () => go({ until: oldest() }) }, "Older")],
      until && [" · ", h("button", { type: "button", class: "link", onclick: () => go({ until: "" }) }, "Newest")]);
    status.classList.toggle("error", Boolean(problem));
  }

  function togglePause() {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.textContent = isPaused ? "Resume" : "Pause";
    if (!isPaused) { missed = 0; update(); }
    showStatus();
  }

  async function loadGroups() {
    groupsByName.clear();
    try {
      const answer = await xray("Groups");
      for (const one of answer.Groups) if (one.FilterExpression) groupsByName.set(one.GroupName, one.FilterExpression);
    } catch { /* the list itself says what is wrong */ }
    replace(group, h("option", { value: "" }, "All groups"),
      [...groupsByName.keys()].map((name) => h("option", { value: name }, name)));
    group.value = settings().group;
  }

  function saveGroup() {
    const text = settings().filter;
    const problem = h("span", { class: "error", role: "status" }, text ? "" : "Apply a filter first.");
    const name = h("input", { type: "text", maxlength: "32", "aria-label": "Group name", placeholder: "Name of the group" });
    const close = () => { replace(dialog); save.focus(); };
    replace(dialog, h("form", { class: "inline", onsubmit: async (event) => {
      event.preventDefault();
      try {
        await xray("CreateGroup", { GroupName: name.value.trim(), FilterExpression: text });
        close();
        await loadGroups();
        go({ group: name.value.trim(), filter: "" });
      } catch (error) { problem.textContent = error.message; }
    } }, name, h("button", { disabled: !text }, "Save"), h("button", { type: "button", onclick: close }, "Cancel"), problem));
    name.focus();
  }

  function row(one) {
    const state = stateOfSummary(one);
    const http = one.Http || {};
    const link = h("a", { href: route.address("trace", one.Id) }, http.HttpURL || one.EntryPoint?.Name || one.Id);
    const users = (one.Users || []).map((user) => user.UserName).join(", ");
    const cells = [
      [h("span", { class: `state ${state}` }, h("i", { "aria-hidden": "true" }, STATES[state].shape), STATES[state].label), http.HttpStatus ? ` ${http.HttpStatus}` : ""],
      clock(one.StartTime), duration(one.ResponseTime ?? one.Duration), http.HttpMethod || "", link, users, annotations(one),
    ];
    return h("div", { "data-trace": one.Id }, cells.map((cell, index) => h("span", { role: "cell", class: `c${index}` }, cell)));
  }

  function annotations(one) {
    return Object.entries(one.Annotations || {}).slice(0, 4).map(([key, values]) => {
      const value = values.map((v) => Object.values(v.AnnotationValue)[0]).join(", ");
      return h("span", { class: "chip" }, h("b", {}, key), ` ${value}`);
    });
  }

  function follow() {
    const { filter: text, range: seconds, group: name, until } = settings();
    route.last.filter = text;
    route.last.query = { range: String(seconds), group: name, until: until ?? "" };
    filter.set(text);
    range.value = String(seconds);
    group.value = name;
  }

  let loaded = "";
  const keyOf = () => JSON.stringify([settings().filter, settings().group, settings().range, settings().until]);
  loadGroups().then(() => { follow(); loaded = keyOf(); load(); });

  return {
    onNews: update,
    onRoute(next) {
      now = next;
      follow();
      if (keyOf() === loaded) show();
      else { loaded = keyOf(); load(); }
    },
    close() { aborter.abort(); list.observer.disconnect(); narrow.removeEventListener("change", redraw); },
  };
}
