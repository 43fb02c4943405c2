// All devices, kept true by one stream of events. Changes are gathered and told once per animation
// frame, so that thousands of events a second cost one drawing.
import * as api from './api.js';
import { perFrame } from './dom.js';
import { lacks } from './offers.js';

// More devices than this are not loaded; the search then asks the gateway.
export const MOST = 50000;
const POLL = 5000;
const KINDS = 'registered,updated,awake,asleep,gone,notify,send,answer';

export const devices = new Map();
export const state = { total: 0, complete: false, loading: false, error: null, live: 'closed', lost: 0, filter: '' };

const watchers = new Set();
const messages = new Set();
let changed = new Set();
let moved = false;
let stop = null;
let round = 0;
let polling = 0;
// What the list under way has shown, and whether another one is wanted behind it.
let seen = null;
let again = false;

// Calls `watcher({ changed, moved })` after changes: `changed` are endpoints, `moved` says that
// devices came or went. Returns what ends it.
export function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

// Calls `listener(kind, event)` for each event of one device: notifications, Sends, answers.
export function listen(listener) {
  messages.add(listener);
  return () => messages.delete(listener);
}

const tell = perFrame(() => {
  const news = { changed, moved };
  changed = new Set();
  moved = false;
  for (const watcher of watchers) watcher(news);
});

function touch(endpoint, also = false) {
  changed.add(endpoint);
  moved ||= also;
  tell();
}

export function start() {
  if (stop) return;
  load();
  let first = true;
  stop = api.follow(`v1/events?kinds=${KINDS}`, take, (live, error) => {
    state.live = live;
    // Without events the list is asked for again and again.
    if (live === 'refused' && error.status === 404) {
      lacks('events');
      polling = setInterval(load, POLL);
    }
    // What happened while there was no stream is only in the list.
    if (live === 'open' && !first) load();
    if (live === 'open') first = false;
    moved = true;
    tell();
  });
}

export function end() {
  stop?.();
  stop = null;
  clearInterval(polling);
  round += 1;
  state.loading = false;
  seen = null;
  devices.clear();
}

// Reads the list page by page; `filter` is a part of an endpoint name. A list that is being read is
// read to its end, whoever asks for it meanwhile: begun anew each time, it might never end.
export async function load(part) {
  const filter = part ?? state.filter;
  if (state.loading && filter === state.filter) {
    again = true;
    return;
  }
  const mine = ++round;
  again = false;
  Object.assign(state, { loading: true, error: null, filter });
  const mineSeen = (seen = new Set());
  let cursor = null;
  try {
    do {
      const query = new URLSearchParams({ limit: '1000' });
      if (filter) query.set('endpoint', `*${filter}*`);
      if (cursor) query.set('cursor', cursor);
      const page = await api.get(`v1/devices?${query}`);
      if (mine !== round) return;
      for (const device of page.devices) {
        mineSeen.add(device.endpoint);
        devices.set(device.endpoint, device);
      }
      state.total = page.total;
      cursor = page.next;
      moved = true;
      tell();
    } while (cursor && mineSeen.size < MOST);
    for (const endpoint of devices.keys()) if (!mineSeen.has(endpoint)) devices.delete(endpoint);
    state.complete = !cursor && !filter;
  } catch (error) {
    if (mine !== round) return;
    state.error = error;
  }
  state.loading = false;
  seen = null;
  moved = true;
  tell();
  if (again && !state.error) load(filter);
}

// A newer state of one device, from a page that asked for it.
export function refresh(device) {
  if (devices.has(device.endpoint)) devices.set(device.endpoint, { ...devices.get(device.endpoint), ...device });
  touch(device.endpoint);
}

function take(events) {
  for (const [kind, event] of events) {
    if (kind === 'lost') {
      state.lost += event.count ?? 0;
      continue;
    }
    one(kind, event);
    for (const listener of messages) listener(kind, event);
  }
}

function one(kind, event) {
  const { endpoint } = event;
  const known = devices.get(endpoint);
  if (kind === 'registered' || kind === 'updated') {
    if (!event.device) return;
    if (!known) {
      if (!state.complete && !matches(endpoint)) return;
      state.total += 1;
    }
    devices.set(endpoint, event.device);
    // One that came behind the list's back stays when the list is complete.
    seen?.add(endpoint);
    touch(endpoint, !known);
  } else if (kind === 'gone') {
    if (known) state.total -= 1;
    devices.delete(endpoint);
    touch(endpoint, true);
  } else if (known) {
    // Updated in place: ten thousand objects a few times a second would be work for the collector.
    if (kind === 'awake') known.state = 'online';
    if (kind === 'asleep') known.state = 'asleep';
    if (kind !== 'asleep') known.last_seen = Math.max(known.last_seen ?? 0, event.at ?? 0);
    touch(endpoint, kind === 'awake' || kind === 'asleep');
  }
}

const matches = (endpoint) => devices.size < MOST && endpoint.includes(state.filter);
