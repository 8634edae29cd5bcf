// Sampling rules with what they matched, edited in place; and which rule takes a request.

import { page, xray } from "./api.js";
import { h, replace } from "./dom.js";
import { clock, count } from "./format.js";

const MATCHERS = [["ServiceName", "Service"], ["ServiceType", "Type"], ["Host", "Host"], ["HTTPMethod", "Method"], ["URLPath", "Path"]];
const NUMBERS = [["Priority", 1, 9999, 1], ["FixedRate", 0, 1, "any"], ["ReservoirSize", 0, 1000000, 1]];
const EXPLAINED = [["service_name", "Service"], ["service_type", "Type"], ["host", "Host"], ["http_method", "Method"], ["url_path", "Path"]];

export function showSampling(main) {
  let isClosed = false;
  let editing = null;
  let rules = [];
  let windows = [];
  const problem = h("p", { class: "error", role: "status" });
  const list = h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Sampling rules" });
  const add = h("button", { type: "button", onclick: () => { editing = ""; draw(); } }, "New rule");
  const answer = h("div", { "aria-live": "polite" });
  replace(main, h("div", { class: "page" }, h("header", { class: "toolbar" }, h("h1", {}, "Sampling rules"), h("span", { class: "grow" }), add),
    h("p", { class: "note" }, "Tried in this order; requests, sampled and borrowed are of the last hour, as clients reported them."), problem, list, explainForm(), answer));

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
      [rules, windows] = await Promise.all([allPages("GetSamplingRules", "SamplingRuleRecords"), allPages("SamplingStatisticSummaries", "SamplingStatisticSummaries")]);
      if (isClosed) return;
      rules.sort((a, b) => a.SamplingRule.Priority - b.SamplingRule.Priority || (a.SamplingRule.RuleName < b.SamplingRule.RuleName ? -1 : 1));
      if (editing === null) draw();
    } catch (error) { problem.textContent = error.message; }
  }

  function statistics(name) {
    const sum = { RequestCount: 0, SampledCount: 0, BorrowCount: 0 };
    for (const one of windows) if (one.RuleName === name) for (const key of Object.keys(sum)) sum[key] += one[key];
    return sum;
  }

  const HEADS = ["Rule", "Priority", "Rate", "Reservoir", ...MATCHERS.map(([, label]) => label), "Requests", "Sampled", "Borrowed", "Modified", ""];

  function draw() {
    problem.textContent = "";
    replace(list, h("table", { class: "rules" }, h("thead", {}, h("tr", {}, HEADS.map((name) => (name ? h("th", { scope: "col" }, name) : h("td", {}))))),
      h("tbody", {}, editing === "" && editRow(null), rules.map(({ SamplingRule: rule, ModifiedAt: at }) => (editing === rule.RuleName ? editRow(rule) : row(rule, at))))));
    list.querySelector("input")?.focus();
  }

  function row(rule, at) {
    const sum = statistics(rule.RuleName);
    const isDefault = rule.RuleName === "Default";
    return h("tr", { "data-rule": rule.RuleName }, h("th", { scope: "row" }, rule.RuleName), h("td", {}, isDefault ? "last" : count(rule.Priority)), h("td", {}, `${Number((rule.FixedRate * 100).toFixed(2))} %`),
      h("td", {}, `${count(rule.ReservoirSize)}/s`), MATCHERS.map(([key]) => h("td", { class: "mono" }, rule[key])),
      h("td", {}, count(sum.RequestCount)), h("td", {}, count(sum.SampledCount)), h("td", {}, count(sum.BorrowCount)), h("td", {}, at ? clock(at) : "–"),
      h("td", { class: "actions" }, h("button", { type: "button", class: "quiet", "aria-label": `Edit ${rule.RuleName}`, onclick: () => { editing = rule.RuleName; draw(); } }, "Edit"),
        !isDefault && h("button", { type: "button", class: "quiet", "aria-label": `Delete ${rule.RuleName}`, onclick: () => act("DeleteSamplingRule", { RuleName: rule.RuleName }) }, "Delete")));
  }

  function editRow(rule) {
    const isDefault = rule?.RuleName === "Default";
    const values = rule || { RuleName: "", Priority: 1000, FixedRate: 0.05, ReservoirSize: 1, ServiceName: "*", ServiceType: "*", Host: "*", HTTPMethod: "*", URLPath: "*" };
    const inputs = new Map();
    const field = (key, extra = {}) => {
      const input = h("input", { type: "text", "aria-label": key, value: String(values[key]), size: 8, ...extra });
      inputs.set(key, input);
      return h("td", {}, input);
    };
    const save = () => {
      const members = {};
      for (const [key, input] of inputs) members[key] = NUMBERS.some(([name]) => name === key) ? Number(input.value) : input.value;
      if (rule) act("UpdateSamplingRule", { SamplingRuleUpdate: { RuleName: rule.RuleName, ...members } });
      else act("CreateSamplingRule", { SamplingRule: { ...members, Version: 1, ResourceARN: "*" } });
    };
    const cancel = () => { editing = null; draw(); };
    return h("tr", { class: "editing", onkeydown: (event) => { if (event.key === "Enter" && event.target.tagName === "INPUT") save(); else if (event.key === "Escape") cancel(); } },
      rule ? h("th", { scope: "row" }, rule.RuleName) : field("RuleName", { maxlength: "32" }),
      NUMBERS.map(([key, min, max, step]) => (isDefault && key === "Priority" ? h("td", {}, "last") : field(key, { type: "number", min, max, step }))),
      MATCHERS.map(([key]) => (isDefault ? h("td", { class: "mono" }, values[key]) : field(key))), h("td", { colspan: "4" }),
      h("td", { class: "actions" }, h("button", { type: "button", onclick: save }, "Save"), h("button", { type: "button", class: "quiet", onclick: cancel }, "Cancel")));
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
    const dialect = h("select", { "aria-label": "Sampler" }, [["sdk", "X-Ray SDKs"], ["otel", "OpenTelemetry for Node"], ["adot", "OpenTelemetry for Python"], ["daemon", "xrayd itself"]].map(([value, label]) => h("option", { value }, label)));
    return h("form", { class: "explain", onsubmit: async (event) => {
      event.preventDefault();
      try {
        const { rules: found } = await page("explain", { dialect: dialect.value, ...Object.fromEntries(inputs.map(([name, input]) => [name, input.value])) });
        replace(answer, h("ol", { class: "verdicts" }, found.map((one) => h("li", {}, h("b", {}, one.name), " ",
          one.decides ? h("span", { class: "state ok" }, "✓ takes the request") : one.ignored ? `is left out by this sampler: ${one.ignored}`
            : one.matches ? "would match, but comes later" : h("span", { class: "note" }, "does not match: ", one.failed.map((f) => `${f.field} ${f.pattern} ≠ ${f.value ?? "(none)"}`).join(", "))))));
      } catch (error) { replace(answer, h("p", { class: "error" }, error.message)); }
    } }, h("h2", {}, "Which rule takes a request?"), h("div", { class: "toolbar" }, inputs.map(([, input]) => input), dialect, h("button", {}, "Explain")));
  }

  load();
  const timer = setInterval(() => { if (!document.hidden) load(); }, 10000);
  return { close() { isClosed = true; clearInterval(timer); } };
}
