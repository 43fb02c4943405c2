// Charts of the numbers that a device notifies, side by side above its objects.
import * as definitions from './definitions.js';
import { h, put, text } from './dom.js';
import { count, number } from './format.js';
import { Chart } from './chart.js';
import { iconButton, select } from './ui.js';

const WINDOWS = [['60000', '1 min'], ['300000', '5 min'], ['3600000', '1 h'], ['0', 'all']];
const SHOWN = 8;

export function chartStrip(context) {
  const { memory } = context;
  const cards = new Map();
  const grid = h('div.charts');
  let window_ = Number(localStorage.getItem('lwm2m-gateway-window') ?? '300000');
  const head = h('div.charts-head', h('h2', 'Observed'), h('span.grow'),
    h('label.bar.small', h('span.muted', 'Time'), select(WINDOWS, String(window_), (value) => {
      window_ = Number(value);
      localStorage.setItem('lwm2m-gateway-window', value);
      tick();
    })));
  const node = h('section.charts-box', { hidden: true, 'aria-label': 'Observed values' }, head, grid);

  function card(path, tone) {
    const chart = new Chart({ height: 148, tone, label: path });
    const name = h('span.cut');
    const now = h('strong.chart-now');
    const foot = h('span.small.muted');
    const close = iconButton('close', `Close the chart of ${path}`, () => stop(path));
    const box = h('figure.card.chart-card', h('figcaption.bar.nowrap', h('div.grow.cut', name, h('span.small.muted.mono', ` ${path}`)), now, close), chart.node, foot);
    text(name, path);
    describe(path).then((resource) => {
      text(name, resource?.name ?? 'Value');
      chart.unit = resource?.units ?? '';
      tick();
    }, () => {});
    return { chart, box, now, foot };
  }

  // Ends the observation that the chart comes from, and forgets its points.
  function stop(path) {
    for (const [key, { paths }] of [...memory.observed]) {
      if (paths.length === 1 && key === path) context.send('cancel-observe', { path });
    }
    memory.series.delete(path);
    draw();
  }

  function draw() {
    const wanted = [...memory.series.keys()].slice(0, SHOWN);
    let other = false;
    for (const path of [...cards.keys()]) {
      if (!wanted.includes(path)) { cards.delete(path); other = true; }
    }
    for (const path of wanted) {
      if (!cards.has(path)) { cards.set(path, card(path, 1 + (cards.size % 4))); other = true; }
    }
    if (other) put(grid, [...cards.values()].map(({ box }) => box));
    node.hidden = !cards.size;
    tick();
  }

  function tick() {
    const at = Date.now();
    for (const [path, { chart, now, foot }] of cards) {
      const series = memory.series.get(path);
      if (!series) continue;
      chart.set(series.times, series.values, window_, at);
      text(now, `${number(series.values.at(-1))} ${chart.unit}`);
      const [low, high] = bounds(series.values);
      text(foot, `${count(series.values.length)} values, ${number(low)} to ${number(high)}`);
    }
  }
  const watcher = new ResizeObserver(tick);
  watcher.observe(grid);
  return { node, draw, tick, leave: () => watcher.disconnect() };
}

function bounds(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

async function describe(path) {
  const [, object, , resource] = path.split('/');
  const definition = await definitions.of(Number(object));
  return definition?.resources.find(({ id }) => id === Number(resource));
}
