// A box for filter expressions: completion while typing, errors at their position.

import { page } from "./api.js";
import { h, replace } from "./dom.js";

export function makeFilterBox({ value, onApply }) {
  const input = h("input", {
    type: "text", id: "filter", "data-search": true, spellcheck: "false", autocomplete: "off", autocapitalize: "off",
    role: "combobox", "aria-expanded": "false", "aria-controls": "filter-list", "aria-autocomplete": "list",
    "aria-label": "Filter expression", "aria-describedby": "filter-error",
    placeholder: 'Filter, e.g. service("web") AND responsetime > 0.5', value,
  });
  const marks = h("div", { class: "marks", "aria-hidden": "true" });
  const list = h("ul", { id: "filter-list", role: "listbox", "aria-label": "Completions", hidden: true });
  const error = h("p", { id: "filter-error", class: "error", "aria-live": "polite" });
  const node = h("div", { class: "filterbox" }, h("div", { class: "field" }, marks, input), list, error);
  let candidates = [];
  let chosen = -1;
  let asked = 0;
  let hasError = false;

  async function look({ open }) {
    asked += 1;
    const number = asked;
    const cursor = input.selectionStart ?? input.value.length;
    // positions are counted in characters, JavaScript counts UTF-16 units
    const before = [...input.value.slice(0, cursor)].length;
    let answer;
    try {
      answer = await page("complete", { text: input.value, cursor: before });
    } catch {
      return;
    }
    hasError = answer.error !== null;
    if (number !== asked) return;
    candidates = open ? answer.candidates : [];
    // While a word is being typed, only what is wrong before the cursor is worth a message.
    const isUnfinished = open && answer.error && answer.error.position + [...answer.error.word].length >= before;
    showError(isUnfinished ? null : answer.error);
    showList();
  }

  function showError(found) {
    const characters = [...input.value];
    input.setAttribute("aria-invalid", String(found !== null));
    if (!found) { replace(error); replace(marks); return; }
    const end = found.position + Math.max(1, [...found.word].length);
    replace(marks, characters.slice(0, found.position).join(""),
      h("mark", {}, characters.slice(found.position, end).join("") || " "));
    marks.scrollLeft = input.scrollLeft;
    const suggestion = found.suggestion && h("button", {
      type: "button", class: "link",
      onclick: () => {
        input.value = characters.slice(0, found.position).join("") + found.suggestion + characters.slice(end).join("");
        input.focus();
        apply();
      },
    }, found.suggestion);
    replace(error, `At position ${found.position}: ${found.message}`, suggestion ? [" – did you mean ", suggestion, "?"] : ".");
  }

  function showList() {
    const isOpen = candidates.length > 0 && document.activeElement === input;
    chosen = -1;
    list.hidden = !isOpen;
    input.setAttribute("aria-expanded", String(isOpen));
    input.removeAttribute("aria-activedescendant");
    replace(list, candidates.slice(0, 12).map((one, index) => h("li", {
      id: `filter-option-${index}`, role: "option", "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); take(index); },
    }, one.text)));
  }

  function choose(index) {
    chosen = index;
    [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === index)));
    if (index >= 0) {
      input.setAttribute("aria-activedescendant", `filter-option-${index}`);
      list.children[index].scrollIntoView({ block: "nearest" });
    }
  }

  function take(index) {
    const one = candidates[index];
    const characters = [...input.value];
    const head = characters.slice(0, one.start).join("") + one.text;
    const space = /[("[.: ]$/.test(one.text) ? "" : " ";
    input.value = head + space + characters.slice(one.end).join("").trimStart();
    const at = head.length + space.length;
    input.setSelectionRange(at, at);
    look({ open: true });
  }

  async function apply() {
    candidates = [];
    showList();
    await look({ open: false });
    if (!hasError) onApply(input.value.trim());
  }

  input.addEventListener("input", () => look({ open: true }));
  input.addEventListener("scroll", () => { marks.scrollLeft = input.scrollLeft; });
  input.addEventListener("focus", () => look({ open: true }));
  input.addEventListener("blur", () => { candidates = []; showList(); });
  input.addEventListener("keydown", (event) => {
    const length = list.children.length;
    if (event.key === "ArrowDown" && length) choose((chosen + 1) % length);
    else if (event.key === "ArrowUp" && length) choose((chosen + length - 1) % length);
    else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) take(chosen);
    else if (event.key === "Tab" && length && !event.shiftKey && input.value.trim()) take(0);
    else if (event.key === "Enter") apply();
    else if (event.key === "Escape" && length) { candidates = []; showList(); }
    else return;
    event.preventDefault();
  });

  return {
    node,
    set(text) {
      if (input.value.trim() !== text) { input.value = text; look({ open: false }); }
    },
    get value() { return input.value.trim(); },
  };
}
