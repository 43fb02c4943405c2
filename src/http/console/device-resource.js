// One resource in the list of an instance: name, type, last value with its age, operations, what came
// of the last command.
import { h, put, text } from './dom.js';
import { can, kindOf } from './definitions.js';
import { ago, clock, value as shownValue, when } from './format.js';
import { button, menu } from './ui.js';
import * as forms from './forms.js';

export function resourceRow(context, path, resource, definition) {
  const { memory } = context;
  const id = path.split('/')[3];
  const name = resource?.name ?? `Resource ${id}`;
  const values = h('div.res-value');
  const note = h('div.res-note.small.wrap', { hidden: true });
  const age = h('span.small.muted');
  const readable = can(resource, 'R');
  const send = context.send;
  const runs = resource ? can(resource, 'E') : true;

  const observe = button('Observe', () => send(memory.observed.has(path) ? 'cancel-observe' : 'observe', { path }), { kind: 'op' });
  const once = (label, kind) => {
    const node = button(label, async () => {
      node.disabled = true;
      await send(kind, { path }, true);
      node.disabled = false;
    }, { kind: 'op', name: `${label} ${name}` });
    return node;
  };
  const write = () => {
    const now = instances(memory, path);
    if (resource?.multiple || (now.length && !memory.values.has(path))) {
      return forms.writeMany({ path, resource, values: now.map(([number, one]) => [number, one.value]), send });
    }
    return forms.writeResource({ path, resource, value: memory.values.get(path)?.value, send });
  };
  const ops = h('div.res-ops.bar', { role: 'cell' },
    readable ? once('Read', 'read') : null,
    can(resource, 'W') ? button('Write', write, { kind: 'op', name: `Write ${name}` }) : null,
    runs ? button('Run', () => forms.execute({ path, resource, send }), { kind: 'op', name: `Run ${name}` }) : null,
    readable ? observe : null,
    menu(`More for ${name}`, 'more', () => [
      ['Attributes…', () => forms.attributes({ path, numeric: /Integer|Float|Time/.test(resource?.type ?? 'Float'), known: memory.found.get(path), send })],
      ['Discover', () => send('discover', { path })],
      ...instances(memory, path).map(([number]) => [`Delete value ${number}`, () => send('delete', { path: `${path}/${number}` }), 'danger']),
    ]));
  const node = h('div.res', { role: 'row' },
    h('div.res-id.mono.muted', { role: 'cell' }, id),
    h('div.res-name', { role: 'cell', title: resource?.description ?? null },
      h('span', resource ? name : 'not in the definition'), h('span.small.muted', resource ? kindOf(resource) || (runs ? 'can be run' : '') : path)),
    h('div.res-cell', { role: 'cell' }, values, note),
    h('div.res-age', { role: 'cell' }, age), ops);

  let at = 0;
  let had = '';
  return {
    node,
    draw() {
      const several = instances(memory, path);
      const one = memory.values.get(path);
      const list = several.length ? several : one ? [[null, one]] : [];
      at = Math.max(0, ...list.map(([, item]) => item.at));
      const written = list.map(([number, item]) => `${number ?? ''} ${render(item, resource)}`).join('\n');
      if (written !== had) {
        had = written;
        put(values, list.map(([number, item]) => h('div.val', number === null ? null : h('span.muted.mono.small', `${number} `),
          h('span.wrap', { title: titleOf(item) }, render(item, resource)), resource?.units && typeof item.value === 'number' ? h('span.muted', ` ${resource.units}`) : null)));
      }
      text(age, at ? ago(at) : '');
      age.title = at ? when(at) : '';
      const on = memory.observed.has(path);
      observe.classList.toggle('on', on);
      text(observe, on ? 'Stop' : 'Observe');
      observe.setAttribute('aria-label', `${on ? 'Stop observing' : 'Observe'} ${name}`);
      showNote(note, memory.last.get(path), memory.found.get(path));
    },
    tick() { text(age, at ? ago(at) : ''); },
  };
}

function render(item, resource) {
  if (item.nonFinite) return item.nonFinite;
  return shownValue(item.value, resource?.type, 600);
}

const titleOf = (item) => [`at ${clock(item.at)}`, { notify: 'notification', send: 'Send', written: 'written from here', answer: 'read' }[item.source],
  item.inferred && 'type guessed', item.contentFormat && `payload of format ${item.contentFormat}, in base64`].filter(Boolean).join(', ');

// What the last command came to, where the value does not say it; attributes that Discover showed.
function showNote(note, entry, attributes) {
  let line = attributes ? attributes.replaceAll(';', '  ') : '';
  let bad = false;
  if (entry) {
    const quiet = entry.state === 'done' && ['read', 'observe', 'cancel-observe'].includes(entry.msgType);
    const code = entry.answer?.data?.code;
    if (entry.state === 'waiting') line = `${entry.msgType} …`;
    else if (entry.state === 'queued') line = `${entry.msgType} waits in the queue`;
    else if (entry.state === 'failed') line = `${code ?? ''} ${entry.text}`;
    else if (!quiet) line = `${entry.msgType} done: ${code}, ${entry.took} ms`;
    bad = entry.state === 'failed';
  }
  note.hidden = !line;
  note.classList.toggle('bad', bad);
  note.classList.toggle('muted', !bad);
  text(note, line);
}

function instances(memory, path) {
  const found = [];
  const prefix = `${path}/`;
  for (const [known, item] of memory.values) if (known.startsWith(prefix)) found.push([Number(known.slice(prefix.length)), item]);
  return found.sort(([a], [b]) => a - b).slice(0, 64);
}
