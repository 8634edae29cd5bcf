// Which view is shown, and the news that all views share.

import { listen } from "./api.js";
import { h, replace } from "./dom.js";
import { showHealth } from "./health.js";
import { showMap } from "./map.js";
import * as route from "./route.js";
import { showSampling } from "./sampling.js";
import { showTrace } from "./trace.js";
import { showTraces } from "./traces.js";

const VIEWS = { traces: showTraces, trace: showTrace, map: showMap, sampling: showSampling, health: showHealth };
const TITLES = { traces: "Traces", trace: "Trace", map: "Service map", sampling: "Sampling", health: "Health" };

const main = document.getElementById("main");
let shown = null;
let shownPath = "";

// A view is a function from the main element and its route to {onNews, onRoute, close}.
function go() {
  if (location.hash === "#main") { main.focus(); return; }
  const now = route.read();
  const path = `${now.view}/${now.argument}`;
  if (shown && path === shownPath) { shown.onRoute?.(now); return; }
  shown?.close?.();
  shownPath = path;
  document.title = `${TITLES[now.view] || "Not found"} – xrayd`;
  for (const link of document.querySelectorAll("nav a")) {
    const isHere = link.dataset.view === now.view || (now.view === "trace" && link.dataset.view === "traces");
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  replace(main);
  const view = VIEWS[now.view];
  shown = view ? view(main, now) : null;
  if (!view) replace(main, h("p", { class: "empty" }, "There is nothing at this address. ", h("a", { href: "#/traces" }, "See the traces")));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("xrayd.theme", theme); } catch { /* a private window */ }
}

try {
  const kept = localStorage.getItem("xrayd.theme");
  if (kept) document.documentElement.dataset.theme = kept;
} catch { /* a private window */ }

document.getElementById("theme").addEventListener("click", () => {
  const prefersDark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const present = document.documentElement.dataset.theme || prefersDark;
  setTheme(present === "dark" ? "light" : "dark");
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName)) return;
  const box = document.querySelector("input[data-search]");
  if (box) { box.focus(); event.preventDefault(); }
});

const connection = document.getElementById("connection");
listen(
  (isRenewed) => shown?.onNews?.(isRenewed),
  (isUp) => {
    const text = isUp ? "live" : "xrayd does not answer";
    if (connection.textContent !== text) {
      connection.textContent = text;
      connection.dataset.up = String(isUp);
    }
  },
);
window.addEventListener("hashchange", go);
window.addEventListener("xrayd:go", go);
go();
