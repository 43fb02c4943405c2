// The objects of a device by their definitions, with last values and every operation.
import * as definitions from './definitions.js';
import { h, put } from './dom.js';
import { button, empty, menu } from './ui.js';
import { commandBar } from './command-bar.js';
import { chartStrip } from './device-charts.js';
import { resourceRow } from './device-resource.js';
import * as forms from './forms.js';

// The object that was last looked at, by device.
const chosen = new Map();

export function valuesTab(context) {
  const { memory } = context;
  const list = h('div.object-list', { role: 'tablist', 'aria-label': 'Objects', 'aria-orientation': 'vertical' });
  const place = h('div.objects-main');
  const charts = chartStrip(context);
  let objects = [];
  let rows = [];
  let shape = '';
  let current = null;
  let everything = false;

  // Objects with their instances: what the device registered, and what was seen of it since.
  const collect = () => {
    const found = new Map();
    const note = (path) => {
      const [, object, instance] = path.split('/');
      if (!/^\d+$/.test(object ?? '')) return;
      if (!found.has(object)) found.set(object, new Set());
      if (/^\d+$/.test(instance ?? '')) found.get(object).add(Number(instance));
    };
    context.detail?.objects.forEach(note);
    for (const path of memory.values.keys()) note(path);
    return [...found].sort(([a], [b]) => a - b).map(([id, instances]) => ({ id: Number(id), instances: [...instances].sort((a, b) => a - b) }));
  };
  const drawList = () => {
    const at = chosen.get(context.endpoint);
    current = objects.find(({ id }) => id === at) ?? objects.find(({ id }) => id > 7) ?? objects.find(({ id }) => id === 3) ?? objects[0] ?? null;
    put(list, objects.map(({ id, instances }) => h('button.object-item', {
      type: 'button', role: 'tab', 'aria-selected': String(id === current?.id), title: definitions.names.get(id) ?? '',
      onclick: () => { chosen.set(context.endpoint, id); shape = ''; draw(); },
    }, h('span.number', String(id)), h('span.grow.cut', definitions.names.get(id) ?? 'no definition'), instances.length > 1 ? h('span.n.muted', `×${instances.length}`) : null)));
  };

  async function drawObject() {
    const object = current;
    if (!object) return put(place, empty('No objects', 'The device registered without any object.'));
    let definition = null;
    try { definition = await definitions.of(object.id); } catch { /* shown as an object without one */ }
    if (object !== current) return;
    rows = [];
    put(place, objectHead(object, definition), object.instances.map((instance) => instanceCard(object, instance, definition)),
      object.instances.length ? null : empty('No instances', 'Read the object to find its instances, or create one.'));
    rows.forEach((row) => row.draw());
  }

  function objectHead(object, definition) {
    const path = `/${object.id}`;
    const send = context.send;
    return h('div.object-head', h('div.grow', h('h2', definition?.name ?? `Object ${object.id}`),
      h('p.muted.small.cut-2', definition?.description ?? (definition ? '' : 'The gateway has no definition of this object: values are guessed, and you choose the types. Put its XML file into xml_dir.'))),
    h('div.bar.ops', op('Read', 'read', path), op('Discover', 'discover', path), observeButton(path),
      definition?.instances !== 'single' && op('Create', () => forms.createInstance({ object: object.id, definition, taken: new Set(object.instances), send })),
      menu('More for the object', 'more', () => [
        ['Attributes…', () => forms.attributes({ path, known: memory.found.get(path), send })],
        ['Read 3 levels deep (1.2)', () => send('discover', { path: `${path}?depth=3` })],
        [everything ? 'Show only resources found' : 'Show all defined resources', () => { everything = !everything; shape = ''; draw(); }],
      ])));
  }

  function instanceCard(object, instance, definition) {
    const path = `/${object.id}/${instance}`;
    const send = context.send;
    const valueOf = (id) => memory.values.get(`${path}/${id}`)?.value;
    const body = h('div.resources', { role: 'table', 'aria-label': `Resources of ${path}` });
    for (const id of resourcesOf(path, definition)) {
      const resource = definition?.resources.find((one) => one.id === id) ?? null;
      const row = resourceRow(context, `${path}/${id}`, resource, definition);
      rows.push(row);
      body.append(row.node);
    }
    const hidden = definition && !everything ? definition.resources.length - body.children.length : 0;
    return h('section.card.instance', { 'aria-label': path },
      h('div.instance-head', h('h3.mono', path), memory.found.get(path) ? h('span.small.muted.cut', memory.found.get(path)) : null, h('span.grow'),
        h('div.bar.ops', op('Read', 'read', path),
          op('Write', () => forms.writeInstance({ path, definition, valueOf, send })), observeButton(path),
          menu(`More for ${path}`, 'more', () => [
            ['Discover', () => send('discover', { path })],
            ['Attributes…', () => forms.attributes({ path, known: memory.found.get(path), send })],
            ['Delete…', () => forms.deleteInstance({ path, definition, send }), 'danger'],
          ]))),
      body.children.length ? body : h('p.pad.muted', 'Read or discover the instance to see its resources.'),
      hidden > 0 ? h('p.instance-foot.small.muted', `${hidden} more are defined that Discover did not find. `,
        h('button.link', { type: 'button', onclick: () => { everything = true; shape = ''; draw(); } }, 'Show them')) : null);
  }

  // By the definition; what Discover found narrows that, what came as a value widens it.
  function resourcesOf(path, definition) {
    const ids = new Set();
    const seen = new Set();
    for (const known of [...memory.values.keys(), ...memory.found.keys()]) {
      if (known.startsWith(`${path}/`)) seen.add(Number(known.split('/')[3]));
    }
    const discovered = [...memory.found.keys()].some((known) => known.startsWith(`${path}/`));
    for (const { id } of definition?.resources ?? []) if (everything || !discovered || seen.has(id)) ids.add(id);
    for (const id of seen) ids.add(id);
    return [...ids].sort((a, b) => a - b);
  }

  function op(label, kind, path) {
    const node = button(label, async () => {
      if (typeof kind === 'function') return kind();
      node.disabled = true;
      await context.send(kind, { path });
      node.disabled = false;
    }, { kind: 'op', name: path ? `${label} ${path}` : null });
    return node;
  }

  function observeButton(path) {
    const node = button('', () => context.send(memory.observed.has(path) ? 'cancel-observe' : 'observe', { path }), { kind: 'op' });
    rows.push({
      draw() {
        const on = memory.observed.has(path);
        node.classList.toggle('on', on);
        node.textContent = on ? 'Stop observing' : 'Observe';
        node.setAttribute('aria-label', `${node.textContent} ${path}`);
      },
    });
    return node;
  }

  function draw() {
    objects = collect();
    // Rows are made anew only when there are others; values are written into the rows that are there.
    const next = JSON.stringify([objects, chosen.get(context.endpoint), everything, memory.found.size, structure(), definitions.names.size]);
    if (next !== shape) {
      shape = next;
      drawList();
      drawObject();
    } else rows.forEach((row) => row.draw());
    charts.draw();
  }
  const structure = () => {
    const prefix = `/${current?.id}/`;
    const ids = new Set();
    for (const path of memory.values.keys()) if (path.startsWith(prefix)) ids.add(path);
    return ids.size;
  };

  if (!definitions.names.size) definitions.loadNames().then(() => { shape = ''; draw(); }, () => {});
  return {
    node: h('div.values', charts.node, h('div.values-split',
      h('div.card.objects-side', h('div.side-title.label', 'Objects'), list),
      h('div.objects-right', commandBar(), place))),
    draw,
    tick() { rows.forEach((row) => row.tick?.()); charts.tick(); },
    leave() { charts.leave(); },
  };
}

