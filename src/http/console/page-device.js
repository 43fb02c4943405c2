// One device: its head, its tabs, and what they share.
import * as api from './api.js';
import * as store from './store.js';
import * as memories from './memory.js';
import { h, icon, put, text, atMostEvery } from './dom.js';
import { ago, span } from './format.js';
import { button, dialog, empty, failed, menu, stateBadge, tabs, toast } from './ui.js';
import { address } from './page-devices.js';
import { setting } from './command-bar.js';
import { offers } from './offers.js';
import { valuesTab } from './device-values.js';
import { compositeTab } from './device-composite.js';
import { queueTab } from './device-queue.js';
import { historyTab } from './device-history.js';
import { traceTab } from './device-trace.js';
import { infoTab } from './device-info.js';

const TABS = {
  values: ['Values', valuesTab], composite: ['Composite', compositeTab], queue: ['Queue', queueTab],
  history: ['History', historyTab], trace: ['Trace', traceTab], registration: ['Registration', infoTab],
};

export function devicePage(endpoint, tab) {
  if (!TABS[tab]) tab = 'values';
  const memory = memories.of(endpoint);
  const head = h('div.device-head');
  const strip = h('div');
  const body = h('div.tab-body');
  const state = h('span.bar');
  const facts = h('span.facts-line.muted');
  const context = {
    endpoint, memory, detail: null,
    wait: () => Number(setting('wait', '30')),
    format: () => setting('format', ''),
    refresh: () => refresh(),
    // Sends a command with the format that was chosen, and says what came of it when that is bad.
    async send(msgType, data, quiet = false) {
      const format = context.format();
      const carries = ['read', 'observe', 'write', 'create', 'read-composite', 'observe-composite', 'write-composite'].includes(msgType);
      const entry = await memory.send(msgType, carries && format ? { ...data, format } : data, context.wait());
      if (entry.state === 'failed' && !quiet) toast(`${msgType} ${data?.path ?? data?.basePath ?? ''}: ${entry.text}`, 'bad');
      if (entry.state === 'queued') toast('The device sleeps; the command waits in its queue.');
      soon();
      return entry;
    },
  };
  let shown = null;
  let ended = false;

  const drawHead = () => {
    const device = context.detail;
    if (!device) return;
    put(state, stateBadge(device.state), device.queue_mode ? h('span.badge', 'queue mode') : null);
    text(facts, [device.listener, device.peer, device.identity && `key ${device.identity}`, `last heard ${ago(device.last_seen)}`,
      `lifetime ends in ${span((device.expires_at - Date.now()) / 1000)}`].filter(Boolean).join('   ·   '));
  };
  const drawTabs = () => put(strip, tabs(Object.entries(TABS).filter(([key]) => key !== 'trace' || offers('events')).map(([key, [label]]) => {
    const n = { queue: context.detail?.queued, history: memory.history.length, trace: memory.tracing ? 'on' : '' }[key];
    return [key, label, address(endpoint, key), n];
  }), tab));

  async function refresh() {
    try {
      const detail = await api.get(api.devicePath(endpoint));
      if (ended) return;
      const first = !context.detail;
      context.detail = detail;
      for (const one of detail.observations_list ?? []) {
        const paths = one.paths ?? (one.path ? [one.path] : []);
        if (paths.length && !memory.observed.has(paths.join(' '))) memory.observed.set(paths.join(' '), { paths, since: one.since });
      }
      if (first) open();
      else shown?.draw?.();
    } catch (error) {
      if (ended) return;
      if (error.status === 404) return gone();
      if (!context.detail) put(body, failed(error, refresh));
    }
    drawHead();
    drawTabs();
  }
  function gone() {
    const device = context.detail;
    put(state, h('span.badge.bad', 'not registered'));
    text(facts, device ? `was at ${device.peer}` : '');
    context.detail = null;
    shown?.leave?.();
    shown = null;
    put(body, empty('This device is not registered', 'It appears here by itself as soon as it registers again.',
      h('div.bar', h('a.button', { href: '#/devices' }, 'All devices'))));
  }
  function open() {
    shown?.leave?.();
    shown = TABS[tab][1](context);
    put(body, shown.node);
    shown.draw?.();
  }

  const soon = atMostEvery(600, refresh);
  put(head,
    h('a.button.quiet.only-icon', { href: '#/devices', 'aria-label': 'All devices', title: 'All devices' }, icon('back')),
    h('div.grow', h('div.bar', h('h1.wrap', endpoint), state), facts),
    menu('More', 'more', () => [
      ['Ask for an Update', () => updateTrigger(context)],
      ['Remove the registration…', () => kick(endpoint), 'danger'],
    ]));
  const ends = [
    memory.watch(() => { shown?.draw?.(); drawTabs(); }),
    store.listen((kind, event) => { if (event.endpoint === endpoint && kind !== 'notify') soon(); }),
    store.watch(({ changed }) => {
      if (!changed.has(endpoint)) return;
      const now = store.devices.get(endpoint);
      if (!now) return refresh();
      if (!context.detail) return soon();
      Object.assign(context.detail, { last_seen: now.last_seen, state: now.state, expires_at: now.expires_at });
    }),
  ];
  const timers = [setInterval(() => { drawHead(); shown?.tick?.(); }, 1000), setInterval(refresh, 10000)];
  return {
    title: endpoint,
    node: h(`div.page${tab === 'trace' ? '.full' : ''}`, head, strip, body),
    start: refresh,
    leave() {
      ended = true;
      shown?.leave?.();
      ends.forEach((end) => end());
      timers.forEach(clearInterval);
    },
  };
}

// Executes the Registration Update Trigger of the first server object.
function updateTrigger(context) {
  const server = context.detail?.objects.find((path) => /^\/1\/\d+$/.test(path)) ?? '/1/0';
  context.send('execute', { path: `${server}/8` });
}

function kick(endpoint) {
  dialog({
    title: 'Remove the registration?',
    hint: endpoint,
    body: h('p', 'The gateway forgets the device, its observations and its waiting commands. The device registers again when it notices.'),
    action: 'Remove',
    kind: 'danger',
    async done() {
      await api.remove(api.devicePath(endpoint));
      location.hash = '#/devices';
    },
  });
}
