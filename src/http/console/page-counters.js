// Counters and gauges, asked for every two seconds, with rates; the most telling ones as charts.
import * as api from './api.js';
import { h, icon, put, text } from './dom.js';
import { bytes, count } from './format.js';
import { Chart, spark } from './chart.js';
import { failed } from './ui.js';

const EVERY = 2000;
const POINTS = 900;
const CHARTS = [
  ['registrations', 'Registered devices', 'gauge', ''], ['notifications', 'Notifications', 'rate', '/s'],
  ['requests', 'Requests to devices', 'rate', '/s'], ['published', 'Published over MQTT', 'rate', '/s'],
  ['bytes_received', 'Bytes from devices', 'rate', 'B/s'], ['timeouts', 'Time-outs', 'rate', '/s'],
];
// What should stay as it is; above nothing it is shown in colour.
const TROUBLE = /(failed|dropped|overflow|malformed|refused|lost|shed|denied|limited|timeouts|panics|overrun|errors)/;

// Kept while other pages are looked at, so that a chart has its past when one comes back.
const history = { times: [], values: new Map() };
let search = '';
let onlyMoving = false;

export function countersPage() {
  const notice = h('div');
  const input = h('input', { type: 'search', placeholder: 'Part of a name', 'aria-label': 'Search counters', value: search });
  const moving = h('input', { type: 'checkbox', onchange: () => { onlyMoving = moving.checked; draw(); } });
  moving.checked = onlyMoving;
  const charts = CHARTS.map(([name, title, kind, unit], at) => {
    const chart = new Chart({ height: 132, tone: 1 + (at % 4), unit, label: title });
    const now = h('strong.chart-now');
    const node = h('figure.card.chart-card', h('figcaption.bar.nowrap', h('span.grow.cut', title), now), chart.node);
    return { name, kind, chart, now, node, unit };
  });
  const grid = h('div.charts', charts.map(({ node }) => node));
  const table = h('div.card.resources', { role: 'table', 'aria-label': 'Counters' });
  const rows = new Map();
  input.addEventListener('input', () => { search = input.value; draw(); });

  async function ask() {
    try {
      const { counters, gauges } = await api.get('v1/stats');
      put(notice);
      history.times.push(Date.now());
      for (const [name, n] of [...Object.entries(counters ?? {}), ...Object.entries(gauges ?? {})]) {
        if (!history.values.has(name)) history.values.set(name, { list: Array(history.times.length - 1).fill(n), gauge: !(name in (counters ?? {})) });
        const { list } = history.values.get(name);
        if (list.length < history.times.length) list.push(n);
      }
      if (history.times.length > POINTS) {
        history.times.shift();
        for (const { list } of history.values.values()) list.shift();
      }
      draw();
    } catch (error) {
      put(notice, failed(error, ask));
    }
  }

  function draw() {
    for (const { name, kind, chart, now, node, unit } of charts) {
      const one = history.values.get(name);
      node.hidden = !one;
      if (!one) continue;
      const values = kind === 'rate' ? rates(one.list) : one.list;
      chart.set(history.times.slice(-values.length), values, 300000);
      const last = values.at(-1) ?? 0;
      text(now, unit === 'B/s' ? `${bytes(last)}/s` : `${round(last)} ${unit}`);
    }
    const names = [...history.values.keys()].filter((name) => name.includes(search.trim().toLowerCase().replaceAll(' ', '_')));
    for (const [name, row] of rows) row.node.hidden = !names.includes(name);
    for (const name of names) {
      if (!rows.has(name)) {
        const row = counterRow(name);
        rows.set(name, row);
        table.append(row.node);
      }
      const one = history.values.get(name);
      const rate = one.gauge ? null : rates(one.list);
      rows.get(name).node.hidden = onlyMoving && one.list.at(-1) === one.list[0];
      rows.get(name).show(one, rate);
    }
  }
  const timer = setInterval(ask, EVERY);
  return {
    title: 'Counters',
    node: h('div.page', h('div.head', h('h1', 'Counters')), notice, grid,
      h('div.bar', h('div.search', icon('search'), input), h('label.check', moving, 'Only changing ones')), table),
    start: ask,
    leave() { clearInterval(timer); },
  };
}

function rates(list) {
  const { times } = history;
  const base = times.length - list.length;
  return list.slice(1).map((n, at) => Math.max(0, (n - list[at]) / ((times[base + at + 1] - times[base + at]) / 1000 || 1)));
}

const round = (n) => (n >= 100 ? count(Math.round(n)) : String(Math.round(n * 10) / 10));

function counterRow(name) {
  const total = h('span.right', { role: 'cell' });
  const rate = h('span.right.muted', { role: 'cell' });
  const line = spark([], { width: 120, height: 22 });
  const label = h('span.mono.wrap', { role: 'cell' }, name);
  return {
    node: h('div.res.counter-row', { role: 'row' }, label, line.node, rate, total),
    show({ list, gauge }, rates_) {
      const n = list.at(-1);
      text(total, /bytes|memory/.test(name) ? bytes(n) : count(n));
      text(rate, gauge ? 'now' : `${round(rates_.at(-1) ?? 0)} /s`);
      label.classList.toggle('bad', n > 0 && TROUBLE.test(name) && list[0] !== n);
      const seen = (rates_ ?? list).slice(-60);
      if (seen.length > 1) line.set(seen);
    },
  };
}
