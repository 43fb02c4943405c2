// A list of any length: only the rows that can be seen exist. Rows are made once and used again.
import { h, perFrame } from './dom.js';

export class VirtualList {
  // `make()` gives `{ node, show(item) }`; `height()` the height of a row in pixels; `open(item)` is
  // called on Enter.
  constructor({ label, make, height, open }) {
    this.make = make;
    this.height = height;
    this.items = [];
    this.rows = [];
    this.active = -1;
    this.body = h('div.vlist-body');
    this.node = h('div.vlist', { tabindex: '0', role: 'grid', 'aria-label': label }, this.body);
    this.draw = perFrame(() => this.render());
    this.node.addEventListener('scroll', this.draw, { passive: true });
    this.node.addEventListener('keydown', (event) => this.key(event, open));
    this.watcher = new ResizeObserver(this.draw);
    this.watcher.observe(this.node);
  }

  end() {
    this.watcher.disconnect();
  }

  set(items) {
    this.items = items;
    this.active = Math.min(this.active, items.length - 1);
    this.node.setAttribute('aria-rowcount', String(items.length));
    this.draw();
  }

  render() {
    const height = this.height();
    const seen = this.node.clientHeight;
    if (!seen) return;
    const first = Math.max(0, Math.floor(this.node.scrollTop / height) - 4);
    const many = Math.min(this.items.length - first, Math.ceil(seen / height) + 8);
    this.body.style.height = `${this.items.length * height}px`;
    while (this.rows.length < many) {
      const row = this.make();
      row.node.setAttribute('role', 'row');
      row.node.id = `vrow-${this.rows.length}`;
      this.rows.push(row);
      this.body.append(row.node);
    }
    for (let at = 0; at < this.rows.length; at += 1) {
      const row = this.rows[at];
      // The same item stays in the same row while the list moves, so that hardly anything changes.
      const slot = first + ((at - first) % this.rows.length + this.rows.length) % this.rows.length;
      row.node.hidden = slot >= this.items.length;
      if (row.node.hidden) continue;
      row.node.style.transform = `translateY(${slot * height}px)`;
      row.node.setAttribute('aria-rowindex', String(slot + 1));
      row.node.classList.toggle('active', slot === this.active);
      if (slot === this.active) this.node.setAttribute('aria-activedescendant', row.node.id);
      row.show(this.items[slot]);
    }
  }

  key(event, open) {
    const page = Math.max(1, Math.floor(this.node.clientHeight / this.height()) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 }[event.key];
    if (step) {
      event.preventDefault();
      this.active = Math.max(0, Math.min(this.items.length - 1, this.active + step));
      const top = this.active * this.height();
      if (top < this.node.scrollTop) this.node.scrollTop = top;
      const bottom = top + this.height() - this.node.clientHeight;
      if (bottom > this.node.scrollTop) this.node.scrollTop = bottom;
      this.draw();
    } else if (event.key === 'Enter' && event.target === this.node && this.items[this.active]) {
      open(this.items[this.active]);
    }
  }
}
