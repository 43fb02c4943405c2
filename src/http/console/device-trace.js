// The CoAP messages of a device as they go. The trace goes on when the page is left.
import { h, icon, put, text } from './dom.js';
import { TRACE } from './memory.js';
import { bytes, clockMs, codeName, count } from './format.js';
import { button, empty } from './ui.js';
import { VirtualList } from './vlist.js';

const METHODS = { '0.00': '', '0.01': 'GET', '0.02': 'POST', '0.03': 'PUT', '0.04': 'DELETE', '0.05': 'FETCH', '0.06': 'PATCH', '0.07': 'iPATCH' };

export function traceTab(context) {
  const { memory } = context;
  const toggle = button('', () => (memory.tracing ? memory.stopTrace() : memory.startTrace()), { kind: 'primary' });
  const info = h('span.muted.small.grow');
  const note = h('div');
  const detail = h('div.card.pad.trace-detail', { hidden: true });
  const list = new VirtualList({ label: 'CoAP messages', height: () => 30, make: () => row(show), open: (event) => show(event) });
  const table = h('div.card.table.grow', list.node);
  const nothing = h('div.grow');
  let follow = true;
  list.node.addEventListener('scroll', () => {
    follow = list.node.scrollTop + list.node.clientHeight > list.node.scrollHeight - 40;
  }, { passive: true });

  function show(event) {
    detail.hidden = false;
    put(detail, h('div.bar', h('h3.grow', `${event.kind} ${name(event)}`), button('Close', () => { detail.hidden = true; }, { kind: 'op' })),
      h('dl.facts', pairs(event).map(([key, value]) => [h('dt', key), h('dd.mono.wrap', value)])),
      event.payload_hex ? h('pre.hex', dump(event.payload_hex)) : null,
      event.payload_bytes > 256 ? h('p.small.muted', `The first 256 of ${count(event.payload_bytes)} bytes.`) : null);
  }
  function draw() {
    const on = Boolean(memory.tracing);
    put(toggle, icon(on ? 'pause' : 'play'), on ? 'Stop' : 'Start the trace');
    toggle.classList.toggle('primary', !on);
    const many = memory.trace.length;
    const whole = many ? `${count(many)} messages${many >= TRACE ? `, the last ${count(TRACE)} are kept` : ''}` : '';
    text(info, [whole, memory.traceLost ? `${count(memory.traceLost)} lost` : '', on ? 'goes on when you leave this page' : ''].filter(Boolean).join('   ·   '));
    const error = memory.tracing?.error;
    put(note, error ? h('div.notice.bad', error.message) : null);
    nothing.hidden = many > 0;
    table.hidden = !many;
    if (!many) {
      put(nothing, on ? empty('Listening', 'Messages appear as soon as the device or the gateway sends one. Read a value to see some.')
        : empty('No trace', 'Start it to see every CoAP message between the gateway and this device, with options and payload.'));
    }
    list.set(memory.trace);
    if (follow) requestAnimationFrame(() => { list.node.scrollTop = list.node.scrollHeight; });
  }
  return {
    node: h('div.trace', h('div.bar', toggle, info,
      button('Clear', () => { memory.trace.length = 0; memory.traceLost = 0; detail.hidden = true; draw(); }),
      button('Save', () => save(context.endpoint, memory.trace))), note, nothing, h('div.trace-split', table, detail)),
    draw,
    leave: () => list.end(),
  };
}

const name = (event) => {
  if (!event.code) return 'no CoAP message';
  const method = METHODS[event.code];
  return method === undefined ? `${event.code} ${codeName(event.code)}` : method || 'empty';
};

function row(show) {
  const cells = ['time', 'way', 'kind', 'code', 'mid', 'what', 'size'].map((key) => h(`span.t-${key}`));
  const [time, way, kind, code, mid, what, size] = cells;
  let now = null;
  const arrows = { in: icon('in'), out: icon('to') };
  const node = h('div.row.trace-row', { onclick: () => show(now) }, cells);
  return {
    node,
    show(event) {
      if (now === event) return;
      now = event;
      text(time, clockMs(event.at));
      put(way, arrows[event.direction] ?? '');
      way.title = event.direction === 'in' ? 'from the device' : 'to the device';
      node.classList.toggle('inward', event.direction === 'in');
      text(kind, event.kind ?? '');
      text(code, name(event));
      code.className = `t-code ${/^[45]\./.test(event.code) ? 'bad' : ''}`;
      text(mid, event.mid);
      text(what, [event.path, ...(event.options ?? []).filter(([key]) => key !== 'Uri-Path').map(([key, value]) => `${key}: ${value}`)].filter(Boolean).join('  '));
      text(size, event.payload_bytes ? bytes(event.payload_bytes) : '');
    },
  };
}

const pairs = (event) => [['Direction', event.direction === 'in' ? 'from the device' : 'to the device'], ['At', clockMs(event.at)], ['Message id', String(event.mid)],
  ['Token', event.token || 'none'], ['Peer', event.peer ?? ''], ['Path', event.path ?? ''], ...(event.options ?? []).map(([key, value]) => [key, String(value)]),
  ['Payload', event.payload_bytes ? `${count(event.payload_bytes)} bytes` : 'none']].filter(([, value]) => value !== '');

// Sixteen bytes a line, in hexadecimal and as text.
function dump(hex) {
  const lines = [];
  for (let at = 0; at < hex.length; at += 32) {
    const pairs_ = hex.slice(at, at + 32).match(/../g) ?? [];
    const letters = pairs_.map((pair) => { const n = parseInt(pair, 16); return n > 31 && n < 127 ? String.fromCharCode(n) : '·'; }).join('');
    lines.push(`${(at / 2).toString(16).padStart(4, '0')}  ${pairs_.join(' ').padEnd(47)}  ${letters}`);
  }
  return lines.join('\n');
}

function save(endpoint, trace) {
  const link = h('a', { href: URL.createObjectURL(new Blob([trace.map((one) => JSON.stringify(one)).join('\n')], { type: 'application/x-ndjson' })), download: `trace-${endpoint.replace(/[^\w.-]+/g, '_').slice(0, 80)}.ndjson` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
