// What holds for all commands: the content format, and how long an answer is waited for.
import { h } from './dom.js';
import { select } from './ui.js';

const WAITS = [['5', '5 s'], ['30', '30 s'], ['120', '2 min'], ['600', '10 min'], ['0', 'do not wait']];
const FORMATS = ['', 'text', 'opaque', 'cbor', 'senml-json', 'senml-cbor', 'tlv', 'json', 'lwm2m-cbor'];
export const setting = (name, usual) => localStorage.getItem(`lwm2m-gateway-${name}`) ?? usual;

// Format and time-out, which hold for all commands and are remembered.
export function commandBar() {
  const formats = select(FORMATS.map((name) => [name, name || 'auto']), setting('format', ''), (value) => localStorage.setItem('lwm2m-gateway-format', value));
  const waits = select(WAITS, setting('wait', '30'), (value) => localStorage.setItem('lwm2m-gateway-wait', value));
  return h('div.bar.command-bar',
    h('label.bar.small', h('span.muted', 'Format'), formats),
    h('label.bar.small', h('span.muted', 'Wait for answers'), waits));
}
