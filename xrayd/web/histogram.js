// The distribution of response times on a logarithmic axis, with a brush over it.

import { h, replace, svg } from "./dom.js";
import { duration } from "./format.js";

const BINS = 60;

function binsOf(values) {
  const low = Math.max(1e-4, Math.min(...values.map((one) => one.value || 1e-4)));
  const high = Math.max(low * 10, ...values.map((one) => one.value));
  const from = Math.floor(Math.log10(low) * 2) / 2;
  const to = Math.ceil(Math.log10(high) * 2) / 2;
  const bins = Array.from({ length: BINS }, () => ({ total: 0, bad: 0 }));
  for (const one of values) {
    const share = (Math.log10(Math.max(low, one.value)) - from) / (to - from);
    const bin = bins[Math.max(0, Math.min(BINS - 1, Math.floor(share * BINS)))];
    bin.total += one.count;
    if (one.isBad) bin.bad += one.count;
  }
  return { bins, from, to };
}

// values: [{value: seconds, count, isBad}]; `onBrush(null | [from, to])` in seconds, if it has a brush.
export function makeHistogram({ label, onBrush }) {
  const plot = svg("svg", { class: "plot", viewBox: "0 0 600 64", preserveAspectRatio: "none", "aria-hidden": "true" });
  const axis = h("div", { class: "axis", "aria-hidden": "true" });
  const text = h("span", { class: "note", role: "status" });
  const clear = h("button", { type: "button", class: "link", hidden: true, onclick: () => onBrush(null) }, "clear");
  const low = makeBound("From", 0);
  const high = makeBound("To", BINS);
  const bounds = onBrush && h("div", { class: "bounds" }, low, high);
  const node = h("figure", { class: "histogram" },
    h("figcaption", {}, label, " ", text, " ", clear), h("div", { class: "plotbox" }, plot, bounds), axis);
  let scale = { bins: [], from: -3, to: 0 };
  let brush = null;

  function makeBound(name, value) {
    return h("input", { type: "range", min: 0, max: BINS, step: 1, value: String(value), "aria-label": `${name}: response time`,
      oninput: () => drawBrush(Number(low.value), Number(high.value)), onchange: commit });
  }
  const toSeconds = (bin) => 10 ** (scale.from + (bin / BINS) * (scale.to - scale.from));
  const toBin = (seconds) => Math.max(0, Math.min(BINS, Math.round(((Math.log10(seconds) - scale.from) / (scale.to - scale.from)) * BINS)));

  function commit() {
    const from = Math.min(Number(low.value), Number(high.value));
    const to = Math.max(Number(low.value), Number(high.value));
    if (from === to || (from === 0 && to === BINS)) onBrush(null);
    else onBrush([toSeconds(from), toSeconds(to)]);
  }

  function drawBrush(from, to) {
    plot.querySelector(".brush")?.remove();
    const isAll = from === to || (Math.min(from, to) === 0 && Math.max(from, to) === BINS);
    if (!isAll) {
      plot.append(svg("rect", { class: "brush", x: Math.min(from, to) * 10, y: 0, width: Math.abs(to - from) * 10, height: 64 }));
    }
    for (const input of [low, high]) input.setAttribute("aria-valuetext", duration(toSeconds(Number(input.value))));
  }

  function draw() {
    const highest = Math.max(1, ...scale.bins.map((bin) => bin.total));
    const height = (n) => (n ? Math.max(2, Math.sqrt(n / highest) * 60) : 0);
    replace(plot, scale.bins.map((bin, index) => bin.total ? [
      svg("rect", { class: "bar", x: index * 10 + 1, y: 64 - height(bin.total), width: 8, height: height(bin.total) }),
      bin.bad ? svg("rect", { class: "bar bad", x: index * 10 + 1, y: 64 - height(bin.total) * (bin.bad / bin.total), width: 8,
        height: height(bin.total) * (bin.bad / bin.total) }) : null,
    ] : null));
    const ticks = [];
    for (let power = Math.ceil(scale.from); power <= scale.to + 1e-9; power += 1) {
      const left = ((power - scale.from) / (scale.to - scale.from)) * 100;
      ticks.push(h("span", { style: { left: `${left}%` }, class: left > 94 ? "end" : left < 4 ? "start" : "" }, duration(10 ** power)));
    }
    replace(axis, ticks);
    const from = brush ? toBin(brush[0]) : 0;
    const to = brush ? toBin(brush[1]) : BINS;
    low.value = String(from);
    high.value = String(to);
    drawBrush(from, to);
    clear.hidden = !brush;
    replace(text, brush ? `${duration(brush[0])} to ${duration(brush[1])}` : "");
  }

  if (onBrush) {
    let start = null;
    const binAt = (event) => {
      const box = plot.getBoundingClientRect();
      return Math.max(0, Math.min(BINS, Math.round(((event.clientX - box.left) / box.width) * BINS)));
    };
    const box = plot.parentElement;
    box.addEventListener("pointerdown", (event) => {
      if (event.target.closest("input")) return;
      start = binAt(event);
      box.setPointerCapture(event.pointerId);
    });
    box.addEventListener("pointermove", (event) => {
      if (start !== null) drawBrush(start, binAt(event));
    });
    box.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const end = binAt(event);
      low.value = String(Math.min(start, end));
      high.value = String(Math.max(start, end));
      start = null;
      commit();
    });
  }

  return {
    node,
    set(values, brushed = null) {
      brush = brushed;
      if (values.length) scale = binsOf(values);
      else scale = { bins: [], from: -3, to: 1 };
      draw();
    },
  };
}
