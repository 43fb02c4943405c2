// What the console has seen of a device: last values, series of numbers, the history of commands,
// observations, the trace. It outlives the page of the device, within bounds.
import * as api from './api.js';
import { perFrame } from './dom.js';
import { listen } from './store.js';
import { succeeded, answerText } from './format.js';

const DEVICES = 24;
const VALUES = 4000;
const SERIES = 48;
const POINTS = 4000;
const HISTORY = 300;
export const TRACE = 2000;
// A browser opens six connections to one place; requests need some of them.
const TRACES = 2;

const kept = new Map();

export function of(endpoint) {
  let memory = kept.get(endpoint);
  if (memory) kept.delete(endpoint);
  else memory = new Memory(endpoint);
  kept.set(endpoint, memory);
  for (const [name, old] of kept) {
    if (kept.size <= DEVICES) break;
    if (old.watchers.size || old.tracing) continue;
    kept.delete(name);
  }
  return memory;
}

export const traced = () => [...kept.values()].filter((memory) => memory.tracing);

export function forget() {
  for (const memory of kept.values()) memory.stopTrace();
  kept.clear();
}

listen((kind, event) => {
  const memory = kept.get(event.endpoint);
  if (!memory || !event.message) return;
  memory.take(event.message, event.at, kind);
});

class Memory {
  constructor(endpoint) {
    Object.assign(this, {
      endpoint, values: new Map(), series: new Map(), history: [], observed: new Map(),
      found: new Map(), trace: [], traceLost: 0, tracing: null, watchers: new Set(), sets: [], last: new Map(), serial: 0,
    });
    this.tell = perFrame(() => { for (const watcher of this.watchers) watcher(this); });
  }

  watch(watcher) {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }

  // Sends a command and keeps it in the history; gives its entry when there is an answer.
  async send(msgType, data, wait) {
    const id = `console-${Date.now().toString(36)}-${(this.serial += 1)}`;
    const message = data === undefined ? { reqID: id, msgType } : { reqID: id, msgType, data };
    const entry = { id, at: Date.now(), msgType, data, message, state: 'waiting', answer: null, took: null, text: '' };
    this.history.unshift(entry);
    this.history.length = Math.min(this.history.length, HISTORY);
    const about = data?.path?.split('?')[0] ?? data?.basePath;
    if (about && (this.last.has(about) || this.last.size < VALUES)) this.last.set(about, entry);
    this.tell();
    try {
      const answer = await api.command(this.endpoint, message, wait);
      if (answer?.status === 'queued') {
        if (entry.state === 'waiting') {
          entry.state = 'queued';
          entry.text = 'Waits in the queue. It is sent when the device wakes up.';
        }
      } else this.finish(entry, answer, Date.now());
    } catch (error) {
      Object.assign(entry, { state: 'failed', text: error.message, took: Date.now() - entry.at });
    }
    this.tell();
    return entry;
  }

  finish(entry, answer, at) {
    if (entry.state === 'done' || entry.state === 'failed') return;
    entry.answer = answer;
    entry.took = at - entry.at;
    entry.state = succeeded(answer) ? 'done' : 'failed';
    entry.text = answerText(answer);
    this.absorb(answer, at, 'answer', entry);
  }

  // A message from the stream.
  take(message, at, kind) {
    const entry = this.history.find((one) => one.id === message.reqID);
    if (kind === 'answer' && entry) {
      if (message.msgType !== 'ack') this.finish(entry, message, at);
    } else this.absorb(message, at, kind);
    this.tell();
  }

  absorb(message, at, source, entry) {
    const data = message.data ?? {};
    const ok = succeeded(message);
    const paths = data.reqPaths ?? (data.reqPath ? [data.reqPath] : []);
    if (ok && message.msgType?.startsWith('observe')) this.observed.set(paths.join(' '), { paths, since: at });
    if (message.msgType?.startsWith('cancel-observe') || (source === 'notify' && data.code && !ok)) {
      this.observed.delete(paths.join(' '));
    }
    if (message.msgType === 'discover' && ok) this.discovered(data.content);
    if (ok && message.msgType === 'write') this.wrote(entry, at);
    for (const item of Array.isArray(data.content) ? data.content : []) {
      if (item && typeof item === 'object' && typeof item.path === 'string' && message.msgType !== 'list-queue') {
        this.keep(item, at, source);
      }
    }
  }

  keep(item, at, source) {
    const time = typeof item.time === 'number' ? item.time * 1000 : at;
    const known = this.values.get(item.path);
    if (known || this.values.size < VALUES) {
      if (!known || time >= known.at) this.values.set(item.path, { ...item, at: time, source });
    }
    if (typeof item.value !== 'number') return;
    let series = this.series.get(item.path);
    if (!series) {
      if (source === 'answer' && !this.isObserved(item.path)) return;
      if (this.series.size >= SERIES) return;
      this.series.set(item.path, (series = { times: [], values: [] }));
    }
    // A device may report late; the line goes by time.
    let place = series.times.length;
    while (place > 0 && series.times[place - 1] > time) place -= 1;
    series.times.splice(place, 0, time);
    series.values.splice(place, 0, item.value);
    if (series.times.length > POINTS) {
      series.times.splice(0, POINTS / 10);
      series.values.splice(0, POINTS / 10);
    }
  }

  // What was written is what the device has, until it says something else.
  wrote(entry, at) {
    const data = entry?.data;
    if (!data) return;
    const base = data.basePath ?? '';
    const items = data.content ?? [{ path: data.path, value: data.value }];
    for (const { path, value } of items) this.keep({ path: base && !path.startsWith(base) ? base + path : path, value }, at, 'written');
  }

  discovered(links) {
    for (const link of Array.isArray(links) ? links : []) {
      const [, path, attributes] = /^<([^>]*)>(.*)$/.exec(String(link)) ?? [];
      if (path && this.found.size < VALUES) this.found.set(path, attributes.replace(/^;/, ''));
    }
  }

  isObserved(path) {
    for (const { paths } of this.observed.values()) {
      if (paths.some((one) => path === one || path.startsWith(`${one}/`))) return true;
    }
    return false;
  }

  // The trace goes on when its page is left, until it is stopped.
  startTrace() {
    if (this.tracing) return;
    const others = traced();
    if (others.length >= TRACES) others[0].stopTrace();
    const query = new URLSearchParams({ endpoint: this.endpoint, kinds: 'coap' });
    const end = api.follow(`v1/events?${query}`, (events) => {
      for (const [kind, event] of events) {
        if (kind === 'lost') this.traceLost += event.count ?? 0;
        else if (kind === 'coap') this.trace.push(event);
      }
      if (this.trace.length > TRACE) this.trace.splice(0, this.trace.length - TRACE);
      this.tell();
    }, (state, error) => {
      this.tracing && (this.tracing.state = state);
      if (state === 'refused') this.tracing = { state, end, error };
      this.tell();
    });
    this.tracing = { state: 'closed', end };
    this.tell();
  }

  stopTrace() {
    this.tracing?.end();
    this.tracing = null;
    this.tell();
  }
}
