// Pre-shared keys: which there are, and a new one for a device with the lines to start it with.
import * as api from './api.js';
import { h, put, text } from './dom.js';
import { count } from './format.js';
import { badge, button, copyLine, dialog, empty, failed, field, iconButton, toast } from './ui.js';

export function keysPage() {
  const body = h('div');
  const total = h('span.count');
  async function load() {
    try {
      const { keys } = await api.get('v1/keys');
      text(total, count(keys.length));
      put(body, keys.length ? h('div.card', keyTable(keys, load))
        : empty('No keys', 'Make a key for a device to let it connect over DTLS. The page then shows lines to paste into a terminal.', button('Make a key', make, { kind: 'primary' })));
    } catch (error) {
      put(body, failed(error, load));
    }
  }
  const make = () => keyDialog({ done: load });
  load();
  return {
    title: 'Keys',
    node: h('div.page', h('div.head', h('h1', 'Keys'), total, h('span.grow'), button('Make a key', make, { kind: 'primary', symbol: 'plus' })),
      h('p.muted', 'Identities that may connect over DTLS. Keys are shown only once, when they are created.'), body),
  };
}

export function keyTable(keys, changed) {
  return h('div.resources', { role: 'table' }, h('div.res.key-row.header', h('span', 'Identity'), h('span', 'Endpoints'), h('span', 'Listener'), h('span', 'From'), h('span')),
    keys.map((key) => h('div.res.key-row', { role: 'row' },
      h('span.wrap', { role: 'cell' }, key.identity),
      h('span.wrap.muted', { role: 'cell' }, (key.endpoints ?? [key.endpoint]).filter(Boolean).join(', ') || 'any that no other key covers'),
      h('span.muted', { role: 'cell' }, key.listener ?? ''), h('span', { role: 'cell' }, badge(key.source ?? 'file')),
      key.source === 'config' ? h('span') : iconButton('trash', `Remove ${key.identity}`, () => remove(key, changed)))));
}

function remove(key, changed) {
  dialog({
    title: 'Remove this key?',
    hint: key.identity,
    body: h('p', 'The device’s connection is closed, and it can no longer connect.'),
    action: 'Remove',
    kind: 'danger',
    async done() {
      await api.remove(`v1/keys/${encodeURIComponent(key.identity)}`);
      toast('Removed.');
      changed();
    },
  });
}

// Twenty-two letters and digits: 131 bits, and something that coap-client can be given as text.
function freshKey() {
  const letters = 'ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789';
  let key = '';
  while (key.length < 22) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    // The last of the 256 values would make some letters likelier than others.
    if (byte < letters.length * 4) key += letters[byte % letters.length];
  }
  return key;
}

const hex = (text_) => [...new TextEncoder().encode(text_)].map((byte) => byte.toString(16).padStart(2, '0')).join('');

export function keyDialog({ endpoint = '', done }) {
  const name = h('input', { value: endpoint, placeholder: 'sensor-0001', autocomplete: 'off' });
  const identity = h('input', { placeholder: 'the same as the endpoint', autocomplete: 'off' });
  const own = h('input.mono', { placeholder: 'made for you', autocomplete: 'off', spellcheck: 'false' });
  dialog({
    title: 'Make a key',
    hint: 'The key is shown only once, when it is created.',
    body: h('div.stack', field('Endpoint name', name, 'Only this key may then register it.'),
      h('details', h('summary', 'More'), h('div.stack', field('Identity', identity), field('Key', own, 'Hexadecimal, 16 bytes or more.')))),
    action: 'Make the key',
    async done() {
      const wanted = name.value.trim();
      const who = identity.value.trim() || wanted;
      if (!who) throw new Error('Enter the endpoint name of the device.');
      const plain = own.value.trim() ? null : freshKey();
      if (!plain && !/^([0-9a-f]{2}){8,}$/i.test(own.value.trim())) throw new Error('The key must be hexadecimal, two digits for each byte, at least 8 bytes.');
      const made = await api.post('v1/keys', { identity: who, ...(wanted ? { endpoint: wanted } : {}), key: plain ? hex(plain) : own.value.trim() });
      await show({ endpoint: wanted || who, identity: made.identity, ...(await forms(made, plain)) });
      done?.();
    },
  });
}

// The key in hexadecimal digits, and as text where it is one. A file with keys as text has taken the
// digits for the text; then the key is as long as they are.
async function forms(made, plain) {
  const { keys } = await api.get('v1/keys');
  const listed = keys.find((key) => key.identity === made.identity && key.source === 'file');
  return listed?.length === made.key.length ? { key: hex(made.key), plain: made.key } : { key: made.key, plain };
}

// Quotes for a shell: the names are what people typed.
const quoted = (word) => (/^[\w.:@%+,/=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

async function show({ endpoint, identity, key, plain }) {
  const about = await api.get('v1/about').catch(() => null);
  const dtls = about?.listeners?.find((one) => one.dtls);
  const port = dtls?.bind.split(':').at(-1) ?? '5684';
  const host = location.hostname || '127.0.0.1';
  const uri = `coaps://${host}:${port}`;
  const query = `ep=${encodeURIComponent(endpoint)}&lt=300&lwm2m=1.1&b=U`;
  dialog({
    title: 'The key of this device',
    hint: 'Copy it now: it is not shown again. It works at once.',
    wide: true,
    body: h('div.stack',
      copyLine('Identity', identity), copyLine('Key, hexadecimal', key), plain ? copyLine('The same key as text', plain) : null,
      dtls ? null : h('div.notice.warn', 'The gateway has no DTLS listener at the moment; the lines below name the usual port.'),
      plain ? copyLine('coap-client (libcoap with OpenSSL)', `coap-client-openssl -m post -t 40 -u ${quoted(identity)} -k ${plain} -e '</1/0>,</3/0>' ${quoted(`${uri}/rd?${query}`)}`) : null,
      copyLine('Anjay demo', `./demo -s psk -e ${quoted(endpoint)} -i ${hex(identity)} -k ${key} -u ${quoted(uri)}`),
      endpoint.endsWith('-0') ? copyLine('Simulated device', `lwm2m-gateway simulate --server ${quoted(uri)} --endpoint-prefix ${quoted(endpoint.slice(0, -1))} --psk-identity ${quoted(identity)} --psk-key ${key}`) : null),
  });
}
