// xrayd itself: where every document went, what is held, what is stored.

import { page, pagePost } from "./api.js";
import { h, replace } from "./dom.js";
import { bytes, clock, count } from "./format.js";

const EVERY_MS = 5000;

export function showHealth(main) {
  let isClosed = false;
  const body = h("div");
  const demo = h("button", { type: "button", "aria-pressed": "false", onclick: async () => {
    try { await pagePost("demo", { running: demo.getAttribute("aria-pressed") !== "true" }); } catch { /* load says it */ }
    load();
  } }, "Run the demo");
  replace(main, h("div", { class: "page" }, h("header", { class: "toolbar" }, h("h1", {}, "Health of xrayd"), h("span", { class: "grow" }), demo), body));

  async function load() {
    try {
      const state = await page("health");
      if (!isClosed) draw(state);
    } catch (error) {
      replace(body, h("p", { class: "error", role: "alert" }, error.message));
    }
  }

  const total = (counter) => Object.values(counter).reduce((sum, n) => sum + n, 0);
  const split = (name, counter) => [[name, total(counter), total(counter) > 0 ? "bad" : ""], ...Object.entries(counter).map(([reason, n]) => [`– ${reason}`, n, "part"])];

  function table(title, rows, note = "") {
    return h("section", { class: "card" }, h("h2", {}, title), note && h("p", { class: "note" }, note),
      h("table", {}, h("tbody", {}, rows.map(([name, value, kind]) => h("tr", { class: kind || "" }, h("th", { scope: "row" }, name), h("td", {}, typeof value === "number" ? count(value) : value))))));
  }

  function draw(state) {
    const { ledger, buffer, store, intake, telemetry } = state;
    demo.setAttribute("aria-pressed", String(state.demo));
    demo.textContent = state.demo ? "Stop the demo" : "Run the demo";
    const lost = total(ledger.rejected) + total(ledger.unprocessed) + total(ledger.spilled) + ledger.expired;
    const isFine = lost === 0 && state.difference === 0;
    const hosts = Object.entries(telemetry).map(([host, records]) => [host, records[records.length - 1] || {}]);
    const focused = document.activeElement === body.querySelector(".scroller");
    replace(body,
      h("p", { class: "verdict" }, h("span", { class: `state ${isFine ? "ok" : "error"}` }, h("i", { "aria-hidden": "true" }, isFine ? "●" : "▲"),
        isFine ? "Every document arrived where it should" : `${count(lost)} documents were lost or refused`), h("span", { class: "note" }, ` xrayd ${state.version}`)),
      h("div", { class: "cards" },
        table("Ledger", [["Received over UDP", ledger.received_udp], ["Received over TCP", ledger.received_tcp], ["Recovered", ledger.recovered], ["Delivered", ledger.sent],
          ...split("Rejected on arrival", ledger.rejected), ...split("Refused by the API", ledger.unprocessed), ...split("Dropped", ledger.spilled), ["Expired", ledger.expired, ledger.expired ? "bad" : ""],
          ...split("Sampled out", ledger.sampled_out).map(([a, b, c]) => [a, b, c === "bad" ? "" : c]), ["Difference", state.difference, state.difference ? "bad" : ""]], "Where every document went since the start."),
        table("Buffer", [["Waiting", buffer.queued_documents], ["In flight", buffer.in_flight_documents], ["Memory", `${bytes(buffer.bytes)} of ${bytes(buffer.bytes_max)}`],
          ["Kernel receive buffer", bytes(buffer.kernel_receive_buffer_bytes)]], "What is on its way."),
        table("Uploads", [["Timeouts", ledger.connection_errors.timeout], ["Refused connections", ledger.connection_errors.refused], ["Answers 4xx", ledger.connection_errors.http_4xx],
          ["Answers 5xx", ledger.connection_errors.http_5xx], ["Unknown host", ledger.connection_errors.unknown_host], ["Other", ledger.connection_errors.other]], "Connection errors since the start."),
        table("Store", [["File", store.path], ["Size", bytes(store.bytes)], ["Traces", store.traces], ["Waiting to be indexed", store.traces_to_compile], ["Documents stored", intake.documents],
          ["Documents refused", intake.refused, intake.refused ? "bad" : ""], ["Unsampled spans", intake.unsampled], ["Metric payloads", intake.metrics]], "Traces on this machine.")),
      h("section", { class: "card wide" }, h("h2", {}, "Telemetry records"), h("p", { class: "note" }, hosts.length ? "The latest of each daemon that reported here." : "No daemon has reported here yet."),
        hosts.length > 0 && h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Telemetry records" }, h("table", {}, h("thead", {}, h("tr", {}, ["Host", "Time", "Received", "Sent", "Rejected", "Spilled"].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, hosts.map(([host, record]) => h("tr", {}, h("th", { scope: "row" }, host), h("td", {}, record.Timestamp ? clock(Number(record.Timestamp)) : "–"),
            ["SegmentsReceivedCount", "SegmentsSentCount", "SegmentsRejectedCount", "SegmentsSpilloverCount"].map((name) => h("td", {}, count(record[name] || 0))))))))));
    if (focused) body.querySelector(".scroller")?.focus();
  }

  load();
  const timer = setInterval(() => { if (!document.hidden) load(); }, EVERY_MS);
  return { close() { isClosed = true; clearInterval(timer); } };
}
