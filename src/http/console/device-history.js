// The commands that were sent from here, and what the gateway knows of those of others.
import { h, put } from './dom.js';
import { clockMs, codeName } from './format.js';
import { badge, button, codeBadge, copy, empty } from './ui.js';

export function historyTab(context) {
  const { memory } = context;
  const body = h('div.stack');
  const open = new Set();
  let had = '';
  return {
    node: body,
    draw() {
      const next = JSON.stringify([memory.history.map(({ id, state }) => [id, state]), context.detail?.last_answers]);
      if (next === had) return;
      had = next;
      const own = memory.history.map((entry) => line(context, entry, open));
      const others = (context.detail?.last_answers ?? []).map((one) => h('div.res.queue-row',
        h('span.mono.small.muted', clockMs(one.at)), h('strong', one.msgType), h('span.mono.wrap', one.path ?? ''),
        badge(one.code ?? one.status ?? '–', String(one.code ?? '').startsWith('2.') ? 'ok' : 'bad'), h('span.small.muted', one.took_ms == null ? '' : `${one.took_ms} ms`)));
      put(body,
        own.length ? h('div.card', own) : empty('No commands yet', 'What you read, write or run here is listed with its answer and how long it took.'),
        others.length ? [h('h2', 'Last answers of the device, to any client'), h('div.card.resources', others)] : null);
    },
  };
}

function line(context, entry, open) {
  const path = entry.data?.path ?? entry.data?.basePath ?? entry.data?.paths?.join(' ') ?? '';
  const code = entry.answer?.data?.code;
  const details = h('details.history', { open: open.has(entry.id), ontoggle: () => (details.open ? open.add(entry.id) : open.delete(entry.id)) },
    h('summary', h('span.mono.small.muted', clockMs(entry.at)), h('strong', entry.msgType), h('span.mono.cut.grow', path), codeBadge(entry),
      h('span.small.muted.took', entry.took == null ? '' : `${entry.took} ms`)),
    h('div.history-body',
      h('p', { class: entry.state === 'failed' ? 'bad wrap' : 'muted wrap' }, [code && codeName(code), entry.text].filter((part, at, all) => part && all.indexOf(part) === at).join('. ')),
      h('div.two', json('Command', entry.message), entry.answer ? json('Answer', entry.answer) : null),
      h('div.bar', button('Send again', () => context.send(entry.msgType, entry.data)),
        button('Copy the command', () => copy(JSON.stringify(entry.message))))));
  return details;
}

const json = (label, value) => h('div.stack', h('span.label', label), h('pre.sample', JSON.stringify(value, null, 2).slice(0, 20000)));
