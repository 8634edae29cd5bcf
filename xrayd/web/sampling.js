// Sampling rules with what they matched, edited in place; and which rule takes a request.

import { page, xray } from "./api.js";
import { h, replace } from "./dom.js";
import { clock, count } from "./format.js";

const MATCHERS = [["ServiceName", "Service"], ["ServiceType", "Type"], ["Host", "Host"], ["HTTPMethod", "Method"], ["URLPath", "Path"]];
const NUMBERS = [["Priority", 1, 9999, 1], ["FixedRate", 0, 1, "any"], ["ReservoirSize", 0, 1000000, 1]];
const HEADS = ["Rule", "Priority", "Rate", "Reservoir", ...MATCHERS.map(([, label]) => label), "Requests", "Sampled", "Borrowed", "Now", "Quota held", "Clients", "Modified", ""];
const EXPLAINED = [["service_name", "Service"], ["service_type", "Type"], ["host", "Host"], ["http_method", "Method"], ["url_path", "Path"], ["resource_arn", "Resource ARN"]];
const NEW = { RuleName: "", Priority: 1000, FixedRate: 0.05, ReservoirSize: 1, ServiceName: "*", ServiceType: "*", Host: "*", HTTPMethod: "*", URLPath: "*", ResourceARN: "*", Attributes: {} };
const EVERY_MS = 5000;
const RECENT_S = 60;

const percent = (rate) => `${Number((rate * 100).toFixed(2))} %`;
const perSecond = (n) => `${n > 0 && n < 10 ? n.toFixed(1) : count(Math.round(n))}/s`;

function attributesField(label, pairs = {}) {
  return h("textarea", { "aria-label": label, rows: 2, placeholder: "key=value", value: Object.entries(pairs).map((pair) => pair.join("=")).join("\n") });
}

const linesOf = (field) => field.value.split("\n").map((line) => line.trim()).filter(Boolean);

export function showSampling(main) {
  let isClosed = false;
  let editing = null;
  let rules = [];
  let windows = [];
  let shown = "";
  const live = new Map();
  const opened = new Set();
  const problem = h("p", { class: "error", role: "status" });
  const list = h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Sampling rules" });
  const add = h("button", { type: "button", onclick: () => edit("") }, "New rule");
  const answer = h("div", { "aria-live": "polite" });
  replace(main, h("div", { class: "page" }, h("header", { class: "toolbar" }, h("h1", {}, "Sampling rules"), h("span", { class: "grow" }), add),
    h("p", { class: "note" }, "Tried in this order. Requests, sampled and borrowed are of the last hour, as clients reported them; of the reservoir, clients hold the quota."), problem, list, explainForm(), answer));

  async function allPages(path, member) {
    const found = [];
    const members = {};
    do {
      const part = await xray(path, members);
      found.push(...part[member]);
      members.NextToken = part.NextToken;
    } while (members.NextToken);
    return found;
  }

  async function load() {
    try {
      const [records, summaries, view] = await Promise.all([allPages("GetSamplingRules", "SamplingRuleRecords"),
        allPages("SamplingStatisticSummaries", "SamplingStatisticSummaries"), page("sampling")]);
      if (isClosed) return;
      rules = records.sort((a, b) => a.SamplingRule.Priority - b.SamplingRule.Priority || (a.SamplingRule.RuleName < b.SamplingRule.RuleName ? -1 : 1));
      windows = summaries;
      live.clear();
      for (const one of view.rules) live.set(one.rule.RuleName, one);
      if (editing === null) draw();
    } catch (error) { problem.textContent = error.message; }
  }

  function statistics(name) {
    const sum = { RequestCount: 0, SampledCount: 0, BorrowCount: 0, recent: 0 };
    const since = Date.now() / 1000 - RECENT_S;
    for (const one of windows) {
      if (one.RuleName !== name) continue;
      for (const key of ["RequestCount", "SampledCount", "BorrowCount"]) sum[key] += one[key];
      if (one.Timestamp >= since) sum.recent += one.RequestCount;
    }
    return sum;
  }

  function edit(name) {
    editing = name;
    draw();
    list.querySelector("input")?.focus();
  }

  // Whoever is at a button or has opened something still is and has after the figures change.
  function draw() {
    problem.textContent = "";
    const now = JSON.stringify([editing, rules, [...live], rules.map(({ SamplingRule: rule }) => statistics(rule.RuleName))]);
    if (now === shown) return;
    shown = now;
    const held = list.contains(document.activeElement) && document.activeElement.dataset.keep;
    replace(list, h("table", { class: "rules" }, h("thead", {}, h("tr", {}, HEADS.map((name) => (name ? h("th", { scope: "col" }, name) : h("td", {}))))),
      h("tbody", {}, editing === "" && editRows(null), rules.map(({ SamplingRule: rule, ModifiedAt: at }) => (editing === rule.RuleName ? editRows(rule) : rowsOf(rule, at))))));
    if (held) [...list.querySelectorAll("[data-keep]")].find((one) => one.dataset.keep === held)?.focus();
  }

  function rowsOf(rule, at) {
    const sum = statistics(rule.RuleName);
    const isDefault = rule.RuleName === "Default";
    const { state, shares = [] } = live.get(rule.RuleName) || {};
    const button = (label, action) => h("button", { type: "button", class: "quiet", "aria-label": `${label} ${rule.RuleName}`, "data-keep": `${label} ${rule.RuleName}`, onclick: action }, label);
    const more = extras(rule, shares);
    return [h("tr", { "data-rule": rule.RuleName }, h("th", { scope: "row" }, rule.RuleName), h("td", {}, isDefault ? "last" : count(rule.Priority)), h("td", {}, percent(rule.FixedRate)),
      h("td", {}, `${count(rule.ReservoirSize)}/s`), MATCHERS.map(([key]) => h("td", { class: "mono" }, rule[key])),
      h("td", {}, count(sum.RequestCount)), h("td", {}, count(sum.SampledCount)), h("td", {}, count(sum.BorrowCount)), h("td", {}, perSecond(sum.recent / RECENT_S)),
      h("td", {}, state ? `${count(state.handed_out)} of ${count(state.quota ?? 0)}/s` : "–"), h("td", {}, state ? count(state.clients) : "–"), h("td", {}, at ? clock(at) : "–"),
      h("td", { class: "actions" }, button("Edit", () => edit(rule.RuleName)), !isDefault && button("Delete", () => act("DeleteSamplingRule", { RuleName: rule.RuleName })))),
    more.length > 0 && h("tr", { class: "more", "data-more": rule.RuleName }, h("td", { colspan: HEADS.length }, more))];
  }

  // What most rules do not have, and who holds the quota.
  function extras(rule, shares) {
    const { ResourceARN: arn, Attributes: attributes = {}, SamplingRateBoost: boost, RuleName: name } = rule;
    return [arn !== "*" && h("span", { class: "chip" }, h("b", {}, "ARN"), ` ${arn}`),
      Object.entries(attributes).map(([key, value]) => h("span", { class: "chip" }, h("b", {}, key), ` ${value}`)),
      boost && h("span", { class: "chip" }, h("b", {}, "boost"), ` up to ${percent(boost.MaxRate)}, then ${count(boost.CooldownWindowMinutes)} min without`),
      shares.length > 0 && h("details", { open: opened.has(name), ontoggle: (event) => { if (event.target.open) opened.add(name); else opened.delete(name); } },
        h("summary", { "data-keep": `clients ${name}` }, `Clients of ${name}`),
        h("table", {}, h("thead", {}, h("tr", {}, ["Client", "Requests", "Quota", "Until"].map((label) => h("th", { scope: "col" }, label)))),
          h("tbody", {}, shares.map((one) => h("tr", {}, h("th", { scope: "row", class: "mono" }, one.client_id), h("td", {}, perSecond(one.requests_per_s)),
            h("td", {}, `${count(one.share)}/s`), h("td", {}, one.ttl ? clock(one.ttl) : "–"))))))].flat().filter(Boolean);
  }

  function editRows(rule) {
    const isDefault = rule?.RuleName === "Default";
    const values = rule || NEW;
    const inputs = new Map();
    const input = (key, extra = {}) => {
      inputs.set(key, h("input", { type: "text", "aria-label": key, value: String(values[key]), size: 8, ...extra }));
      return inputs.get(key);
    };
    const field = (key, extra = {}) => h("td", {}, input(key, extra));
    const attributes = attributesField("Attributes", values.Attributes);
    const boost = [["MaxRate", { max: 1, step: "any" }], ["CooldownWindowMinutes", { step: 1 }]].map(([key, extra]) =>
      [key, h("input", { type: "number", min: 0, "aria-label": key, value: String(values.SamplingRateBoost?.[key] ?? ""), ...extra })]);
    const save = () => {
      const members = {};
      for (const [key, one] of inputs) members[key] = NUMBERS.some(([name]) => name === key) ? Number(one.value) : one.value;
      if (!isDefault) {
        const lines = linesOf(attributes);
        const wrong = lines.find((line) => line.indexOf("=") < 1);
        if (wrong) { problem.textContent = `Attributes: write ${wrong} as key=value.`; return; }
        members.Attributes = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")).trim(), line.slice(line.indexOf("=") + 1).trim()]));
        const given = boost.filter(([, one]) => one.value !== "").map(([key, one]) => [key, Number(one.value)]);
        if (given.length) members.SamplingRateBoost = Object.fromEntries(given);
        else if (values.SamplingRateBoost) { problem.textContent = "X-Ray can change a boost, but not take it away: delete the rule and make it anew."; return; }
      }
      if (rule) act("UpdateSamplingRule", { SamplingRuleUpdate: { RuleName: rule.RuleName, ...members } });
      else act("CreateSamplingRule", { SamplingRule: { ...members, Version: 1 } });
    };
    const cancel = () => { editing = null; draw(); };
    const onkeydown = (event) => { if (event.key === "Enter" && event.target.tagName === "INPUT") save(); else if (event.key === "Escape") cancel(); };
    return [h("tr", { class: "editing", onkeydown }, rule ? h("th", { scope: "row" }, rule.RuleName) : field("RuleName", { maxlength: "32" }),
      NUMBERS.map(([key, min, max, step]) => (isDefault && key === "Priority" ? h("td", {}, "last") : field(key, { type: "number", min, max, step }))),
      MATCHERS.map(([key]) => (isDefault ? h("td", { class: "mono" }, values[key]) : field(key))), h("td", { colspan: "7" }),
      h("td", { class: "actions" }, h("button", { type: "button", onclick: save }, "Save"), h("button", { type: "button", class: "quiet", onclick: cancel }, "Cancel"))),
    !isDefault && h("tr", { class: "more", onkeydown }, h("td", { colspan: HEADS.length }, h("div", { class: "toolbar" },
      h("label", {}, "Resource ARN", input("ResourceARN", { size: 30 })), h("label", {}, "Attributes, one a line", attributes),
      h("label", {}, "Boost up to (0 to 1)", boost[0][1]), h("label", {}, "Minutes between boosts", boost[1][1]))))];
  }

  async function act(path, members) {
    try {
      await xray(path, members);
      editing = null;
      await load();
    } catch (error) { problem.textContent = error.message; }
  }

  function explainForm() {
    const inputs = EXPLAINED.map(([name, label]) => [name, h("input", { type: "text", "aria-label": label, placeholder: label, size: 12 })]);
    const attributes = attributesField("Attributes of the request");
    const dialect = h("select", { "aria-label": "Sampler" }, [["sdk", "X-Ray SDKs"], ["otel", "OpenTelemetry for Node"], ["adot", "OpenTelemetry for Python"], ["daemon", "xrayd itself"]].map(([value, label]) => h("option", { value }, label)));
    return h("form", { class: "explain", onsubmit: async (event) => {
      event.preventDefault();
      try {
        const { rules: found } = await page("explain", [["dialect", dialect.value], ...inputs.map(([name, input]) => [name, input.value]), ...linesOf(attributes).map((line) => ["attribute", line])]);
        replace(answer, h("ol", { class: "verdicts" }, found.map((one) => h("li", {}, h("b", {}, one.name), " ",
          one.decides ? h("span", { class: "state ok" }, "✓ takes the request") : one.ignored ? `is left out by this sampler: ${one.ignored}`
            : one.matches ? "would match, but comes later" : h("span", { class: "note" }, "does not match: ", one.failed.map((f) => `${f.field} ${f.pattern} ≠ ${f.value ?? "(none)"}`).join(", "))))));
      } catch (error) { replace(answer, h("p", { class: "error" }, error.message)); }
    } }, h("h2", {}, "Which rule takes a request?"), h("div", { class: "toolbar" }, inputs.map(([, input]) => input), attributes, dialect, h("button", {}, "Explain")));
  }

  load();
  const timer = setInterval(() => { if (!document.hidden) load(); }, EVERY_MS);
  return { close() { isClosed = true; clearInterval(timer); } };
}
