// All devices: live, searchable, sorted, in a list that has only as many rows as can be seen.
import * as store from './store.js';
import { h, put, text, icon, atMostEvery } from './dom.js';
import { ago, count, span } from './format.js';
import { badge, button, empty, failed, select } from './ui.js';
import { offers } from './offers.js';
import { VirtualList } from './vlist.js';

// Kept while other pages are looked at.
const view = { search: '', state: 'all', sort: 'endpoint', top: 0 };
const SORTS = {
  endpoint: ['by name', (a, b) => (a.endpoint < b.endpoint ? -1 : 1)],
  seen: ['last heard', (a, b) => b.last_seen - a.last_seen],
  registered: ['newest first', (a, b) => b.registered_at - a.registered_at],
  queued: ['longest queue', (a, b) => b.queued - a.queued || (a.endpoint < b.endpoint ? -1 : 1)],
};
const STATES = { all: 'All', online: 'Online', asleep: 'Asleep' };
const phone = matchMedia('(max-width: 760px)');

export function devicesPage() {
  const total = h('span.count');
  const input = h('input', { type: 'search', placeholder: 'Name, address, identity or /object', 'aria-label': 'Search devices', value: view.search });
  const states = h('div.segments', { role: 'group', 'aria-label': 'State' });
  const list = new VirtualList({ label: 'Devices', make: row, height: () => (phone.matches ? 60 : 38), open: show });
  const notice = h('div');
  const nothing = h('div.grow', { hidden: true });
  const table = h('div.card.table.grow', header(), list.node);
  let stale = true;

  const choose = () => {
    stale = false;
    const shown = filtered(view);
    list.set(shown);
    const { state } = store;
    const all = store.devices.size;
    text(total, shown.length === all && state.complete ? count(all) : `${count(shown.length)} of ${count(state.total)}`);
    nothing.hidden = shown.length > 0 || (state.loading && !all);
    table.hidden = !nothing.hidden;
    if (!nothing.hidden) put(nothing, why());
    const partial = !state.loading && !state.error && all >= store.MOST;
    put(notice, state.error && !all ? failed(state.error, () => store.load()) : null,
      partial && h('div.notice', `The first ${count(store.MOST)} devices are loaded. Search for a part of the name to find others.`));
    drawStates();
  };
  const later = atMostEvery(250, choose);
  // Made once: a button that is replaced under the finger takes no click.
  const numbers = {};
  const buttons = Object.entries(STATES).map(([key, name]) => {
    numbers[key] = h('span.n');
    return [key, h('button.segment', { type: 'button', onclick: () => { view.state = key; choose(); } }, name, numbers[key])];
  });
  put(states, buttons.map(([, node]) => node));
  const drawStates = () => {
    let asleep = 0;
    for (const device of store.devices.values()) if (device.state === 'asleep') asleep += 1;
    text(numbers.all, count(store.devices.size));
    text(numbers.online, count(store.devices.size - asleep));
    text(numbers.asleep, count(asleep));
    for (const [key, node] of buttons) node.setAttribute('aria-pressed', String(view.state === key));
  };
  let typed = 0;
  input.addEventListener('input', () => {
    view.search = input.value;
    list.node.scrollTop = 0;
    choose();
    // Where not everything is loaded, the gateway searches.
    clearTimeout(typed);
    if (!store.state.complete) typed = setTimeout(() => store.load(/^[/]/.test(view.search) ? '' : view.search.trim()), 400);
  });
  // Values change thousands of times a second; nobody reads faster than this.
  const redraw = atMostEvery(200, list.draw);
  const end = store.watch(({ moved }) => {
    if (moved) later();
    else if (!stale) redraw();
  });
  const tick = setInterval(list.draw, 1000);
  return {
    title: 'Devices',
    node: h('div.page.full',
      h('div.head', h('h1', 'Devices'), total),
      h('div.bar', h('div.search', icon('search'), input), states, h('span.grow'),
        h('label.sort', h('span.hide-visually', 'Order'), select(Object.entries(SORTS).map(([key, [name]]) => [key, name]), view.sort, (sort) => { view.sort = sort; choose(); }))),
      notice, nothing, table),
    start() {
      choose();
      list.render();
      list.node.scrollTop = view.top;
    },
    leave() {
      view.top = list.node.scrollTop;
      end();
      clearInterval(tick);
      clearTimeout(typed);
      list.end();
    },
  };
}

function filtered({ search, state, sort }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (device) => {
    if (state !== 'all' && device.state !== state) return false;
    return words.every((word) => (word.startsWith('/')
      ? device.objects.some((object) => object === word || object.startsWith(`${word}/`))
      : device.endpoint.toLowerCase().includes(word) || device.peer?.includes(word) || device.identity?.toLowerCase().includes(word)));
  };
  return [...store.devices.values()].filter(fits).sort(SORTS[sort][1]);
}

function why() {
  if (view.search || view.state !== 'all') {
    return empty('No matching device', 'Try a part of the name, an address such as 10.0.0.7, or an object such as /3303.');
  }
  return empty('No device is registered yet', 'Start a simulated device in a terminal, or let a real one register at this gateway.',
    h('pre.sample', 'lwm2m-gateway simulate --devices 10'),
    offers('keys') && h('div.bar', button('Make a key for a device', () => { location.hash = '#/keys'; }, { symbol: 'keys' })));
}

const COLUMNS = ['Endpoint', 'State', 'Address', 'Objects', 'Waiting', 'Last heard', 'Lifetime left'];
const header = () => h('div.row.header', { 'aria-hidden': 'true' }, COLUMNS.map((name, at) => h(`span.c${at}`, name)));

const show = (device) => { location.hash = address(device.endpoint); };
export const address = (endpoint, tab = '') => `#/device/${encodeURIComponent(endpoint)}${tab ? `/${tab}` : ''}`;

function row() {
  const cells = COLUMNS.map((_, at) => h(`span.c${at}`, { role: 'gridcell' }));
  const [name, state, peer, objects, waiting, seen, left] = cells;
  const link = h('a.row', { tabindex: '-1' }, cells);
  const dot = h('span.dot');
  const word = h('span');
  state.append(dot, word);
  let of = null;
  let had = '';
  return {
    node: link,
    show(device) {
      // The endpoint is compared first: the same device in the same row changes little.
      if (of !== device.endpoint) {
        of = device.endpoint;
        link.href = address(of);
        text(name, of);
        name.title = of;
      }
      const asleep = device.state === 'asleep';
      text(word, asleep ? 'asleep' : 'online');
      dot.className = `dot ${asleep ? 'sleep' : 'on'}`;
      text(peer, device.peer);
      const list = device.objects.join(' ');
      if (had !== list) {
        had = list;
        text(objects, ids(device.objects));
        objects.title = list;
      }
      const queued = device.queued ? String(device.queued) : '';
      if (waiting.textContent !== queued) put(waiting, queued ? badge(queued, 'sleep') : null);
      text(seen, ago(device.last_seen));
      text(left, span((device.expires_at - Date.now()) / 1000));
    },
  };
}

const ids = (objects) => [...new Set(objects.map((path) => path.split('/')[1]))].join('  ');
