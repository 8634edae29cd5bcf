// The address names the view: #/view/argument?key=value

export function read(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...rest] = path.split("/");
  let argument = rest.join("/");
  try {
    argument = decodeURIComponent(argument);
  } catch {
    argument = "";
  }
  return { view: view || "traces", argument, query: new URLSearchParams(query) };
}

export function address(view, argument = "", query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(kept).toString();
  return `#/${view}${argument ? `/${encodeURIComponent(argument)}` : ""}${text ? `?${text}` : ""}`;
}

// Changes some of the query of the present address. Small steps replace the history's last entry.
export function change(values, { push = false } = {}) {
  const { view, argument, query } = read();
  const next = address(view, argument, { ...Object.fromEntries(query), ...values });
  if (next === location.hash) return;
  if (push) location.hash = next;
  else history.replaceState(null, "", next);
}

// What the list of traces showed last, for the way back.
export const last = { filter: "", query: {} };
