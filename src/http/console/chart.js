// Line charts in SVG: one for a value over time with axes and a reading under the pointer, and a
// small line without axes. Drawn when asked, with at most two points a pixel.
import { h, s, put } from './dom.js';
import { clock, number } from './format.js';

const LEFT = 48;
const BOTTOM = 20;
const TOP = 8;
const RIGHT = 10;

export class Chart {
  constructor({ height = 140, tone = 1, unit = '', label = '' } = {}) {
    Object.assign(this, { height, unit, label, times: [], values: [], window: 300000 });
    this.line = s('path', { class: `line tone-${tone}` });
    this.area = s('path', { class: `area tone-${tone}` });
    this.last = s('circle', { class: `last tone-${tone}`, r: 3 });
    this.grid = s('g', { class: 'grid' });
    this.cross = s('g', { class: 'cross' });
    this.svg = s('svg.chart', { role: 'img', height }, this.grid, this.area, this.line, this.last, this.cross);
    this.tip = h('div.chart-tip', { hidden: true });
    this.node = h('div.chart-box', this.svg, this.tip);
    this.svg.addEventListener('pointermove', (event) => this.point(event));
    this.svg.addEventListener('pointerleave', () => { put(this.cross); this.tip.hidden = true; });
  }

  // `window` in milliseconds up to `now`; 0 is everything.
  set(times, values, window = this.window, now = Date.now()) {
    Object.assign(this, { times, values, window });
    this.draw(now);
  }

  draw(now) {
    const width = this.node.clientWidth || 320;
    this.width = width;
    this.svg.setAttribute('width', width);
    this.svg.setAttribute('viewBox', `0 0 ${width} ${this.height}`);
    const end = this.window ? now : this.times.at(-1) ?? now;
    // A young series fills the chart first; then the window moves with it.
    const young = Math.max(now - this.window, Math.min((this.times[0] ?? now) - 1000, now - 30000));
    this.from = this.window ? young : Math.min(this.times[0] ?? end, end - 1000);
    this.to = end;
    // The first point before the window stays, so that the line comes from the edge.
    let first = this.times.findIndex((time) => time >= this.from);
    first = first < 0 ? this.times.length - 1 : Math.max(0, first - 1);
    const seen = this.values.slice(first).filter(Number.isFinite);
    const [low, high, step] = scale(seen, Math.max(2, Math.floor((this.height - TOP - BOTTOM) / 34)));
    Object.assign(this, { low, high, first });
    this.axes(step);
    const points = thin(this.times, this.values, first, (time) => Math.round(this.x(time)));
    const path = points.map(([time, value], at) => `${at ? 'L' : 'M'}${this.x(time).toFixed(1)} ${this.y(value).toFixed(1)}`).join('');
    this.line.setAttribute('d', path);
    const [start] = points;
    const stop = points.at(-1);
    const floor = this.height - BOTTOM;
    this.area.setAttribute('d', points.length > 1 ? `${path}L${this.x(stop[0]).toFixed(1)} ${floor}L${this.x(start[0]).toFixed(1)} ${floor}Z` : '');
    this.last.toggleAttribute('hidden', !stop);
    if (stop) {
      this.last.setAttribute('cx', this.x(stop[0]));
      this.last.setAttribute('cy', this.y(stop[1]));
    }
    const now_ = stop ? `${number(stop[1])} ${this.unit}` : 'no values yet';
    this.svg.setAttribute('aria-label', `${this.label}: ${now_}, ${seen.length} values from ${number(Math.min(...seen, Infinity))} to ${number(Math.max(...seen, -Infinity))}`);
  }

  x(time) {
    const part = (time - this.from) / (this.to - this.from || 1);
    return LEFT + Math.max(0, Math.min(1, part)) * (this.width - LEFT - RIGHT);
  }

  y(value) {
    const part = (value - this.low) / (this.high - this.low || 1);
    return TOP + (1 - part) * (this.height - TOP - BOTTOM);
  }

  axes(step) {
    const lines = [];
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (let n = 0; n <= 12; n += 1) {
      const value = this.low + n * step;
      if (value > this.high + step / 2) break;
      const y = this.y(value);
      lines.push(s('line', { x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }));
      lines.push(s('text', { x: LEFT - 8, y: y + 4, 'text-anchor': 'end' }, short(value, digits)));
    }
    const many = Math.max(1, Math.min(5, Math.floor((this.width - LEFT) / 110)));
    for (let n = 0; n <= many; n += 1) {
      const time = this.from + ((this.to - this.from) * n) / many;
      const anchor = n === 0 ? 'start' : n === many ? 'end' : 'middle';
      lines.push(s('text', { x: this.x(time), y: this.height - 4, 'text-anchor': anchor }, clock(time)));
    }
    put(this.grid, lines);
  }

  point(event) {
    if (!this.times.length) return;
    const box = this.svg.getBoundingClientRect();
    const time = this.from + ((event.clientX - box.left - LEFT) / (this.width - LEFT - RIGHT)) * (this.to - this.from);
    let best = this.first;
    for (let at = this.first; at < this.times.length; at += 1) {
      if (Math.abs(this.times[at] - time) < Math.abs(this.times[best] - time)) best = at;
    }
    const x = this.x(this.times[best]);
    const y = this.y(this.values[best]);
    put(this.cross, s('line', { x1: x, x2: x, y1: TOP, y2: this.height - BOTTOM }), s('circle', { cx: x, cy: y, r: 3.5 }));
    this.tip.hidden = false;
    put(this.tip, h('strong', `${number(this.values[best])} ${this.unit}`), h('span.muted', clock(this.times[best])));
    this.tip.style.left = `${Math.max(4, Math.min(x - this.tip.offsetWidth / 2, this.width - this.tip.offsetWidth - 4))}px`;
  }
}

// A line without axes; `values` are evenly spaced.
export function spark(values, { width = 96, height = 24 } = {}) {
  const line = s('path', { class: 'line tone-1' });
  const svg = s('svg.spark', { width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' }, line);
  const set = (next) => {
    const low = Math.min(...next);
    const high = Math.max(...next);
    const y = (value) => (high > low ? height - 2 - ((value - low) / (high - low)) * (height - 4) : height / 2);
    const x = (at) => (next.length > 1 ? (at / (next.length - 1)) * (width - 2) + 1 : 1);
    line.setAttribute('d', next.map((value, at) => `${at ? 'L' : 'M'}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join(''));
  };
  if (values.length) set(values);
  return { node: svg, set };
}

// The lowest and highest value of each pixel, in order: what a dense line shows anyway.
function thin(times, values, first, pixel) {
  const out = [];
  let column = null;
  let low = null;
  let high = null;
  const flush = () => {
    if (!low) return;
    out.push(...(low === high ? [low] : low[0] < high[0] ? [low, high] : [high, low]));
    low = null;
    high = null;
  };
  for (let at = Math.max(0, first); at < times.length; at += 1) {
    if (!Number.isFinite(values[at])) continue;
    const here = pixel(times[at]);
    if (here !== column) flush();
    column = here;
    const point = [times[at], values[at]];
    if (!low || point[1] < low[1]) low = point;
    if (!high || point[1] > high[1]) high = point;
  }
  flush();
  return out;
}

// Round bounds and a round step around the values.
function scale(values, lines) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1, 1];
  const positive = low >= 0;
  if (low === high) {
    const some = Math.abs(low) * 0.1 || 1;
    low = positive ? Math.max(0, low - some) : low - some;
    high += some;
  }
  const raw = (high - low) / lines;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw) ?? power * 10;
  return [Math.floor(low / step) * step, Math.ceil(high / step) * step, step];
}

function short(value, digits) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${number(value / 1e9)}G`;
  if (size >= 1e6) return `${number(value / 1e6)}M`;
  if (size >= 1e4) return `${number(value / 1e3)}k`;
  return value.toFixed(Math.min(digits, 6));
}
