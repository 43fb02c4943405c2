// The dialogs of operations: write, execute, create, delete, attributes.
import { h, put } from './dom.js';
import { can, kindOf } from './definitions.js';
import { dialog, field, button, iconButton, select } from './ui.js';
import { input, TYPES } from './inputs.js';

// An input with a choice of type where no definition says one.
function typed(resource, value, name) {
  if (resource?.type) {
    const one = input(resource.type, { value, range: resource.range, name });
    return { node: one.node, get: () => ({ value: one.get(), type: resource.type }) };
  }
  let one = input('String', { value, name });
  const place = h('div', one.node);
  const kind = select(TYPES.map((type) => [type, type]), 'String', (type) => {
    one = input(type, { name });
    put(place, one.node);
  });
  kind.setAttribute('aria-label', `${name}: type`);
  return { node: h('div.stack', kind, place), get: () => ({ value: one.get(), type: kind.value }) };
}

const titled = (path, resource, id) => `${resource?.name ?? `Resource ${id}`}  ${path}`;

export function writeResource({ path, resource, value, send }) {
  const id = path.split('/')[3];
  const name = resource?.name ?? `Resource ${id}`;
  const one = typed(resource, value, name);
  dialog({
    title: `Write ${titled(path, resource, id)}`,
    hint: [resource && kindOf(resource), resource?.description].filter(Boolean).join('. '),
    body: field(name, one.node),
    action: 'Write',
    async done() {
      const { value: wanted, type } = one.get();
      if (wanted === undefined) throw new Error('Enter a value.');
      send('write', { path, type, value: wanted });
    },
  });
}

// A resource of several values: each with its number.
export function writeMany({ path, resource, values, send }) {
  const id = path.split('/')[3];
  const rows = [];
  const list = h('div.stack');
  const more = (number, value) => {
    const at = h('input.narrow', { inputmode: 'numeric', 'aria-label': 'Resource instance', value: String(number) });
    const one = typed(resource, value, `Value ${number}`);
    const row = { get: () => ({ path: `/${at.value.trim()}`, ...one.get() }) };
    const node = h('div.bar.nowrap.top', at, h('div.grow', one.node), iconButton('close', 'Remove this value', () => {
      rows.splice(rows.indexOf(row), 1);
      node.remove();
    }));
    rows.push(row);
    list.append(node);
  };
  for (const [number, value] of values.length ? values : [[0]]) more(number, value);
  dialog({
    title: `Write ${titled(path, resource, id)}`,
    hint: 'These values replace all existing ones.',
    body: h('div.stack', list, button('Add another', () => more(rows.length), { symbol: 'plus' })),
    action: 'Write',
    async done() {
      const content = rows.map((row) => row.get());
      if (content.some(({ value }) => value === undefined)) throw new Error('A value is missing.');
      if (content.some((item) => !/^\/\d{1,5}$/.test(item.path))) throw new Error('The number of a value is from 0 to 65534.');
      send('write', { basePath: path, content });
    },
  });
}

function fieldsOf(definition, pick, values, prefix) {
  return (definition?.resources ?? []).filter(pick).filter((resource) => !resource.multiple).map((resource) => {
    const one = input(resource.type, { value: values?.(resource.id), range: resource.range, name: resource.name });
    const before = JSON.stringify(tryGet(one));
    return {
      node: field(`${resource.id}  ${resource.name}`, one.node, kindOf(resource)),
      get() {
        const value = one.get();
        return value === undefined ? null : { path: `${prefix()}/${resource.id}`, type: resource.type, value };
      },
      changed: () => JSON.stringify(tryGet(one)) !== before,
      mandatory: resource.mandatory,
    };
  });
}

function tryGet(one) {
  try { return one.get() ?? null; } catch { return 'wrong'; }
}

export function writeInstance({ path, definition, valueOf, send }) {
  const fields = fieldsOf(definition, (resource) => can(resource, 'W'), valueOf, () => '');
  const mode = select([['update', 'Change only the fields filled in (POST)'], ['replace', 'Replace the instance (PUT)']], 'update');
  dialog({
    title: `Write ${definition?.name ?? 'instance'}  ${path}`,
    hint: 'Only changed values are sent, unless you replace the instance.',
    body: h('div.stack', field('How', mode), fields.map((one) => one.node)),
    action: 'Write',
    wide: true,
    async done() {
      const content = fields.filter((one) => mode.value === 'replace' || one.changed()).map((one) => one.get()).filter(Boolean);
      if (!content.length) throw new Error('Nothing was changed.');
      send('write', { basePath: path, content, mode: mode.value });
    },
  });
}

export function createInstance({ object, definition, taken, send }) {
  const free = [...Array(65535).keys()].find((id) => !taken.has(id)) ?? 0;
  const id = h('input', { inputmode: 'numeric', value: String(free), 'aria-label': 'Instance' });
  // Everything may be given in a create, also what is read only later (OMA TS 6.3.9).
  const fields = fieldsOf(definition, (resource) => !can(resource, 'E'), null, () => `/${id.value.trim()}`);
  const must = fields.filter((one) => one.mandatory);
  const may = fields.filter((one) => !one.mandatory);
  dialog({
    title: `Create an instance of ${definition?.name ?? object}`,
    hint: 'If you enter no value, the device chooses the instance number itself.',
    body: h('div.stack', field('Instance', id), must.map((one) => one.node),
      may.length ? h('details', h('summary', `${may.length} optional values`), h('div.stack', may.map((one) => one.node))) : null),
    action: 'Create',
    wide: true,
    async done() {
      const content = fields.map((one) => one.get()).filter(Boolean);
      if (content.length && !/^\d{1,5}$/.test(id.value.trim())) throw new Error('The instance is a number from 0 to 65534.');
      send('create', { basePath: `/${object}`, content });
    },
  });
}

export function execute({ path, resource, send }) {
  const args = h('input', { placeholder: "2,7 or 0='text'", autocomplete: 'off' });
  dialog({
    title: `Run ${titled(path, resource, path.split('/')[3])}`,
    hint: resource?.description,
    body: field('Arguments', args, 'Optional: digits separated by commas, each with or without a text.'),
    action: 'Run',
    async done() { send('execute', args.value.trim() ? { path, args: args.value.trim() } : { path }); },
  });
}

export function deleteInstance({ path, definition, send }) {
  dialog({
    title: `Delete ${definition?.name ?? ''} ${path}?`,
    body: h('p', 'The device removes the instance with all of its values.'),
    action: 'Delete',
    kind: 'danger',
    async done() { send('delete', { path }); },
  });
}

const ATTRIBUTES = [
  ['pmin', 'Shortest interval', 's between notifications'], ['pmax', 'Longest interval', 's between notifications'],
  ['gt', 'Greater than', 'notify when the value crosses it upwards'], ['lt', 'Less than', 'notify when it crosses it downwards'],
  ['st', 'Step', 'notify when it changes by this much'], ['epmin', 'Shortest evaluation', 's'], ['epmax', 'Longest evaluation', 's'],
  ['edge', 'Edge', '1 rising, 0 falling (Boolean)'], ['con', 'Confirmable', '1 or 0'], ['hqmax', 'Kept at most', 'values while offline'],
];

export function attributes({ path, numeric, known, send }) {
  const shown = ATTRIBUTES.filter(([name]) => numeric || !['gt', 'lt', 'st'].includes(name));
  const now = Object.fromEntries([...(known ?? '').matchAll(/(?:^|;)(\w+)=([^;]*)/g)].map(([, name, value]) => [name, value]));
  const inputs = shown.map(([name, label, unit]) => [name, h('input', { inputmode: 'decimal', value: now[name] ?? '' }), label, unit]);
  const clear = h('input', { type: 'checkbox' });
  dialog({
    title: `Attributes of ${path}`,
    hint: 'Attributes decide when the device notifies. Empty fields stay unchanged.',
    body: h('div.stack', h('div.two', inputs.map(([name, node, label, unit]) => field(`${label} (${name})`, node, unit))),
      h('label.check', clear, 'Unset all empty fields')),
    action: 'Write',
    wide: true,
    async done() {
      const data = { path };
      for (const [name, node] of inputs) {
        const text = node.value.trim();
        if (text && !Number.isFinite(Number(text))) throw new Error(`${name}: enter a number.`);
        if (text) data[name] = text;
        else if (clear.checked) data[name] = '';
      }
      if (Object.keys(data).length === 1) throw new Error('Nothing was filled in.');
      send('write-attr', data);
    },
  });
}
