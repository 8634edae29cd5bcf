// A list of rows of one height, of which only those in sight are elements.

import { h } from "./dom.js";

export class VirtualList {
  // `render(item, index)` makes a row; `keyOf(item)` tells rows apart.
  constructor({ rowHeight, render, label, onOpen, keyOf, onKey }) {
    Object.assign(this, { rowHeight, render, onOpen, keyOf, onKey });
    this.items = [];
    this.active = -1;
    this.rows = new Map();
    this.body = h("div", { class: "rows", role: "rowgroup" });
    this.node = h("div", { class: "scroll", tabindex: "0", role: "table", "aria-label": label }, this.body);
    this.node.addEventListener("scroll", () => this.schedule(), { passive: true });
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.observer = new ResizeObserver(() => this.schedule());
    this.observer.observe(this.node);
  }

  set(items) {
    const active = this.items[this.active];
    this.items = items;
    if (active) this.active = items.findIndex((item) => this.keyOf(item) === this.keyOf(active));
    this.node.setAttribute("aria-rowcount", String(items.length));
    this.refresh();
  }

  // Draws all rows in sight anew.
  refresh() {
    const height = `${this.items.length * this.rowHeight()}px`;
    if (this.body.style.height !== height) this.body.style.height = height;
    for (const row of this.rows.values()) row.node.remove();
    this.rows.clear();
    this.draw();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => { this.scheduled = false; this.draw(); });
  }

  draw() {
    const height = this.rowHeight();
    const first = Math.max(0, Math.floor(this.node.scrollTop / height) - 8);
    const last = Math.min(this.items.length, Math.ceil((this.node.scrollTop + this.node.clientHeight) / height) + 8);
    for (const [index, row] of this.rows) {
      if (index < first || index >= last) { row.node.remove(); this.rows.delete(index); }
    }
    for (let index = first; index < last; index += 1) {
      if (this.rows.has(index)) continue;
      const node = this.render(this.items[index], index);
      node.setAttribute("role", "row");
      node.setAttribute("aria-rowindex", String(index + 1));
      node.classList.add("row");
      node.style.transform = `translateY(${index * height}px)`;
      if (index === this.active) node.classList.add("active");
      node.addEventListener("click", (event) => {
        if (event.target.closest("a, button")) return;
        this.activate(index);
        this.onOpen(this.items[index], event);
      });
      this.rows.set(index, { node });
      this.body.append(node);
    }
  }

  activate(index) {
    this.rows.get(this.active)?.node.classList.remove("active");
    this.active = Math.max(0, Math.min(this.items.length - 1, index));
    const height = this.rowHeight();
    const top = this.active * height;
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (top + height > this.node.scrollTop + this.node.clientHeight) {
      this.node.scrollTop = top + height - this.node.clientHeight;
    }
    this.draw();
    this.rows.get(this.active)?.node.classList.add("active");
  }

  key(event) {
    if (event.target !== this.node || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.node.clientHeight / this.rowHeight()) - 1);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page,
      Home: -this.items.length, End: this.items.length };
    if (event.key in steps) {
      this.activate(this.active + steps[event.key]);
      this.onKey?.(event.key, this.items[this.active]);
    } else if (event.key === "Enter" && this.items[this.active]) {
      this.onOpen(this.items[this.active], event);
    } else if (!this.onKey?.(event.key, this.items[this.active])) return;
    event.preventDefault();
  }
}
