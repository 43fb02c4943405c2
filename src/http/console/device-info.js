// What the device registered with, its DTLS session, its numbers, and its keys.
import { h, put } from './dom.js';
import { ago, bytes, count, span, value as shownValue, when } from './format.js';
import { button, empty, facts } from './ui.js';
import { keyDialog, keyTable } from './page-keys.js';
import * as api from './api.js';
import { offers } from './offers.js';

export function infoTab(context) {
  const registration = h('section.card.pad.stack');
  const traffic = h('section.card.pad.stack');
  const observations = h('section.card.pad.stack');
  const answers = h('section.card.pad.stack');
  const objects = h('section.card.pad.stack');
  const keys = h('section.card.pad.stack.wide');
  keys.hidden = !offers('keys');
  if (!keys.hidden) loadKeys();

  async function loadKeys() {
    const head = h('div.bar', h('h2.grow', 'Keys'), button('Make a key', () => keyDialog({ endpoint: context.endpoint, done: loadKeys }), { symbol: 'keys' }));
    try {
      const all = (await api.get('v1/keys')).keys;
      const own = all.filter((key) => key.identity === context.endpoint || key.identity === context.detail?.identity || key.endpoint === context.endpoint || key.endpoints?.includes(context.endpoint));
      put(keys, head, own.length ? keyTable(own, loadKeys) : empty('No key for this device', 'Make a key to let the device connect over DTLS.'));
    } catch (error) {
      put(keys, head, h('p.muted', error.message));
    }
  }

  return {
    node: h('div.cards', registration, traffic, observations, answers, objects, keys),
    draw() {
      const device = context.detail;
      if (!device) return;
      put(registration, h('h2', 'Registration'), facts([
        ['Endpoint', device.endpoint], ['State', device.state === 'asleep' ? 'asleep' : 'online'], ['Registered', when(device.registered_at)],
        ['Last heard', when(device.last_seen)], ['Lifetime', span(device.lifetime)], ['Ends', when(device.expires_at)], ['LwM2M', device.version],
        ['Queue mode', device.queue_mode ? 'yes' : 'no'], ['Listener', device.listener], ['Address', device.peer], ['Identity', device.identity],
        ['Mountpoint', device.mountpoint], ['Path of objects', device.alternate_path],
      ]), device.query?.length ? h('div.stack', h('span.label', 'Parameters of the Register'), h('pre.sample.fold', device.query.map(([key, value]) => (value === '' ? key : `${key}=${value}`)).join('\n'))) : null);
      const numbers = Object.entries(device.counters ?? {}).map(([name, n]) => [name.replaceAll('_', ' '), name.startsWith('bytes') ? bytes(n) : count(n)]);
      traffic.hidden = !numbers.length && !device.dtls;
      put(traffic, numbers.length ? [h('h2', 'Traffic'), facts(numbers)] : null, device.dtls
        ? [h('h2', 'DTLS'), facts(Object.entries(device.dtls).map(([name, one]) => [name.replaceAll('_', ' '), name === 'since' ? when(one) : shownValue(one)]))] : null);
      const list = device.observations_list ?? [];
      put(observations, h('h2', 'Observations'), list.length ? h('div.resources', list.map((one) => {
        const paths = (one.paths ?? [one.path]).filter(Boolean);
        return h('div.res.short', h('span.mono.wrap', paths.join(' ')),
          h('span.small.muted', [one.since && `since ${when(one.since)}`, one.notifications != null && `${count(one.notifications)} notifications`, one.last_at && `the last ${ago(one.last_at)}`].filter(Boolean).join(', ')),
          button('Stop', () => (one.paths ? context.send('cancel-observe-composite', { paths }) : context.send('cancel-observe', { path: paths[0] })), { kind: 'op', name: `Stop observing ${paths.join(' ')}` }));
      })) : h('p.muted', 'Nothing is observed. Observe a value on the Values page to see it in a chart.'));
      const last = device.last_answers ?? [];
      answers.hidden = !last.length;
      put(answers, h('h2', 'Last answers'), h('div.resources', last.map((one) => h('div.res.short',
        h('span.mono.wrap', [one.msgType, one.path].filter(Boolean).join(' ')),
        h('span.small.muted', `${one.code ?? one.failure} after ${count(one.took_ms)} ms, ${ago(one.at)}`)))));
      put(objects, h('h2', `Objects (${device.objects.length})`), h('div.chips', device.objects.map((path) => h('span.chip.mono', path))));
    },
  };
}
