// Inputs by the type of a resource. Each gives `{ node, get() }`; `get` returns the value as a command
// takes it, undefined when nothing was entered, and throws what is wrong in a sentence.
import { h } from './dom.js';
import { button, select } from './ui.js';

export const TYPES = ['String', 'Integer', 'Unsigned Integer', 'Float', 'Boolean', 'Opaque', 'Time', 'Objlnk', 'Corelnk'];

export function input(type, { value, range, name = 'Value' } = {}) {
  switch (type) {
    case 'Integer':
    case 'Unsigned Integer': return whole(value, range, type, name);
    case 'Float': return float(value, range, name);
    case 'Boolean': return bool(value, name);
    case 'Time': return time(value, name);
    case 'Objlnk': return link(value, name);
    case 'Opaque': return opaque(name);
    default: return line(value, name);
  }
}

function line(value, name) {
  const node = h('textarea.one-line', { 'aria-label': name, rows: '1', value: value == null ? '' : String(value) });
  let touched = value != null;
  node.addEventListener('input', () => { touched = true; });
  return { node, get: () => (touched ? node.value : undefined) };
}

function whole(value, range, type, name) {
  const node = h('input', { 'aria-label': name, inputmode: 'numeric', autocomplete: 'off', value: value ?? '' });
  return {
    node,
    get() {
      const text = node.value.trim();
      if (!text) return undefined;
      if (!/^[+-]?\d+$/.test(text)) throw new Error(`${name}: enter a whole number.`);
      if (type === 'Unsigned Integer' && text.startsWith('-')) throw new Error(`${name}: must not be negative.`);
      within(Number(text), range, name);
      // Large numbers lose digits as JavaScript numbers; the gateway takes text as well.
      return Number.isSafeInteger(Number(text)) ? Number(text) : text;
    },
  };
}

function float(value, range, name) {
  const node = h('input', { 'aria-label': name, inputmode: 'decimal', autocomplete: 'off', value: value ?? '' });
  return {
    node,
    get() {
      const text = node.value.trim().replace(',', '.');
      if (!text) return undefined;
      const number = Number(text);
      if (!Number.isFinite(number)) throw new Error(`${name}: enter a number.`);
      within(number, range, name);
      return number;
    },
  };
}

function within(number, range, name) {
  const [, low, high] = /^\s*(-?[\d.]+)\s*(?:\.\.|-|to)\s*(-?[\d.]+)\s*$/.exec(range ?? '') ?? [];
  if (low !== undefined && (number < Number(low) || number > Number(high))) {
    throw new Error(`${name}: between ${Number(low)} and ${Number(high)}, says the definition.`);
  }
}

function bool(value, name) {
  const node = select([['', '–'], ['true', 'true'], ['false', 'false']], value == null ? '' : String(value));
  node.setAttribute('aria-label', name);
  return { node, get: () => (node.value === '' ? undefined : node.value === 'true') };
}

function time(value, name) {
  const field = h('input.grow', { type: 'datetime-local', step: '1', 'aria-label': name });
  const set = (seconds) => {
    const local = new Date(seconds * 1000 - new Date(seconds * 1000).getTimezoneOffset() * 60000);
    field.value = local.toISOString().slice(0, 19);
  };
  if (typeof value === 'number' && Math.abs(value) < 1e11) set(value);
  const node = h('div.bar.nowrap', field, button('Now', () => set(Math.floor(Date.now() / 1000))));
  return { node, get: () => (field.value ? Math.floor(new Date(field.value).getTime() / 1000) : undefined) };
}

function link(value, name) {
  const [object, instance] = String(value ?? '').split(':');
  const first = h('input.grow', { inputmode: 'numeric', 'aria-label': `${name}: object`, placeholder: 'object', value: object ?? '' });
  const second = h('input.grow', { inputmode: 'numeric', 'aria-label': `${name}: instance`, placeholder: 'instance', value: instance ?? '' });
  return {
    node: h('div.bar.nowrap', first, ':', second),
    get() {
      const pair = [first.value.trim(), second.value.trim()];
      if (!pair[0] && !pair[1]) return undefined;
      if (!pair.every((part) => /^\d{1,5}$/.test(part) && Number(part) <= 65535)) throw new Error(`${name}: two numbers from 0 to 65535.`);
      return pair.join(':');
    },
  };
}

// Bytes as hex, base64, text or a file; the command takes base64.
function opaque(name) {
  const area = h('textarea', { 'aria-label': name, spellcheck: 'false' });
  const file = h('input', { type: 'file', 'aria-label': `${name}: file`, hidden: true });
  const form = select([['hex', 'Hexadecimal'], ['base64', 'Base64'], ['text', 'Text'], ['file', 'A file']], 'hex', (kind) => {
    area.hidden = kind === 'file';
    file.hidden = kind !== 'file';
  });
  form.setAttribute('aria-label', `${name}: form`);
  let bytes = null;
  file.addEventListener('change', async () => {
    bytes = file.files[0] ? new Uint8Array(await file.files[0].arrayBuffer()) : null;
  });
  return {
    node: h('div.stack', form, area, file),
    get() {
      if (form.value === 'file') return bytes ? base64(bytes) : undefined;
      const text = area.value;
      if (!text.trim()) return undefined;
      if (form.value === 'text') return base64(new TextEncoder().encode(text));
      const dense = text.replace(/[\s:]/g, '');
      if (form.value === 'hex') {
        if (!/^([0-9a-f]{2})+$/i.test(dense)) throw new Error(`${name}: hexadecimal has two digits for each byte.`);
        return base64(Uint8Array.from(dense.match(/../g), (pair) => parseInt(pair, 16)));
      }
      try { atob(dense); } catch { throw new Error(`${name}: this is not base64.`); }
      return dense;
    },
  };
}

function base64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
