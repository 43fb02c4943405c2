// Starts the console: who may in, the frame around pages, which page an address means, the theme.
import * as api from './api.js';
import * as store from './store.js';
import { forget } from './memory.js';
import { h, icon, put, text } from './dom.js';
import { iconButton } from './ui.js';
import { learn, offers } from './offers.js';
import { login } from './login.js';
import { devicesPage } from './page-devices.js';
import { devicePage } from './page-device.js';
import { keysPage } from './page-keys.js';
import { objectsPage } from './page-objects.js';
import { countersPage } from './page-counters.js';
import { logPage } from './page-log.js';
import { aboutPage } from './page-about.js';

const PAGES = {
  devices: ['Devices', devicesPage], keys: ['Keys', keysPage], objects: ['Objects', objectsPage],
  counters: ['Counters', countersPage], log: ['Log', logPage], about: ['About', aboutPage],
};
const app = document.getElementById('app');
let leave = null;
let frame = null;

theme(localStorage.getItem('lwm2m-gateway-theme') ?? 'auto');
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => theme());
api.whenRefused(() => frame && out('The login has ended. Log in again.'));
addEventListener('hashchange', () => frame && route());
begin();

// Without a token it may be that none is needed; the gateway says.
async function begin() {
  try {
    await api.get('v1/about');
    enter();
  } catch (error) {
    put(app, login(enter, error.status === 401 && !api.token() ? '' : error.message));
  }
}

async function enter() {
  await learn();
  const live = h('span.live', h('span.dot'), h('span', 'connecting'));
  const links = Object.entries(PAGES).filter(([key]) => offers(key)).map(([key, [name]]) => h('a', { href: `#/${key}` }, icon(key), h('span', name)));
  const main = h('main', { id: 'main', tabindex: '-1' });
  frame = { links, main };
  put(app, h('div.frame',
    h('a.skip', { href: '#main', onclick: (event) => { event.preventDefault(); main.focus(); } }, 'Skip to content'),
    h('div.side',
      h('div.brand', h('img', { src: 'console/icon.svg', alt: '' }), h('span', 'LwM2M gateway')),
      h('nav.nav', { 'aria-label': 'Pages' }, links),
      h('div.side-foot', live,
        h('div.line', themeButton(), api.token() ? iconButton('out', 'Log out', () => out()) : null))),
    main));
  frame.unwatch = store.watch(() => {
    const { live: state } = store.state;
    live.firstChild.className = `dot ${state === 'open' ? 'on' : state === 'refused' ? '' : 'off'}`;
    text(live.lastChild, state === 'open' ? 'live' : state === 'refused' ? 'updated every 5 s' : 'connection lost');
  });
  store.start();
  route();
}

function out(why) {
  api.logout();
  leave?.();
  leave = null;
  frame?.unwatch();
  frame = null;
  for (const open of document.querySelectorAll('dialog')) open.close();
  store.end();
  forget();
  put(app, login(enter, why));
}

function route() {
  const [page = 'devices', ...rest] = location.hash.replace(/^#\/?/, '').split('/').filter(Boolean);
  leave?.();
  leave = null;
  let shown;
  if (page === 'device' && rest[0]) shown = devicePage(decode(rest[0]), rest[1] ?? 'values');
  else shown = (PAGES[page] ?? PAGES.devices)[1](rest.map(decode));
  const current = page === 'device' ? 'devices' : PAGES[page] ? page : 'devices';
  for (const link of frame.links) {
    if (link.getAttribute('href') === `#/${current}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${shown.title} – LwM2M gateway`;
  put(frame.main, shown.node);
  leave = shown.leave ?? null;
  shown.start?.();
  scrollTo(0, 0);
}

function decode(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

function theme(choice = localStorage.getItem('lwm2m-gateway-theme') ?? 'auto') {
  const dark = choice === 'dark' || (choice === 'auto' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
}

function themeButton() {
  const order = { auto: 'light', light: 'dark', dark: 'auto' };
  const symbols = { auto: 'auto', light: 'sun', dark: 'moon' };
  const node = iconButton('auto', '', () => {
    const next = order[localStorage.getItem('lwm2m-gateway-theme') ?? 'auto'];
    localStorage.setItem('lwm2m-gateway-theme', next);
    theme(next);
    show();
  });
  const show = () => {
    const now = localStorage.getItem('lwm2m-gateway-theme') ?? 'auto';
    put(node, icon(symbols[now]));
    const label = `Colours: ${{ auto: 'as the system', light: 'light', dark: 'dark' }[now]}`;
    node.setAttribute('aria-label', label);
    node.title = label;
  };
  show();
  return node;
}
