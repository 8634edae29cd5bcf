// Numbers, times and states as people read them.

export function duration(seconds) {
  if (seconds === undefined || seconds === null || Number.isNaN(seconds)) return "–";
  const ms = seconds * 1000;
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${count(Math.round(seconds / 3600))} h`;
}

export function clock(epoch) {
  const date = new Date(epoch * 1000);
  if (Number.isNaN(date.getTime())) return "–";
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${isoDay(date)} ${time}`;
}

export function instant(epoch) {
  const date = new Date(epoch * 1000);
  if (Number.isNaN(date.getTime())) return "–";
  return `${isoDay(date)} ${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

function isoDay(date) {
  const two = (n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

export function count(n) {
  return Number(n).toLocaleString("en-US");
}

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  const units = ["KiB", "MiB", "GiB"];
  let value = n / 1024;
  let unit = 0;
  while (value >= 1024 && unit < 2) { value /= 1024; unit += 1; }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

// Each state has a colour and a shape.
export const STATES = {
  fault: { label: "Fault", shape: "◆" },
  throttle: { label: "Throttle", shape: "▼" },
  error: { label: "Error", shape: "▲" },
  partial: { label: "In progress", shape: "◌" },
  ok: { label: "OK", shape: "●" },
};

export function stateOfSummary(summary) {
  if (summary.HasFault) return "fault";
  if (summary.HasThrottle) return "throttle";
  if (summary.HasError) return "error";
  return summary.IsPartial ? "partial" : "ok";
}

export function stateOfEntity(entity) {
  if (entity.fault) return "fault";
  if (entity.throttle) return "throttle";
  if (entity.error) return "error";
  return entity.in_progress ? "partial" : "ok";
}

export function quote(text) {
  return `"${String(text).replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
