// What waits for a device that sleeps, with a way to cancel each.
import { h, put } from './dom.js';
import { ago, clock, span } from './format.js';
import { badge, button, empty, toast } from './ui.js';

export function queueTab(context) {
  const body = h('div.stack');
  let had = '';
  const cancel = async (data, many) => {
    const entry = await context.send('cancel', data, true);
    if (entry.state === 'failed') toast(entry.text, 'bad');
    else toast(`${entry.answer?.data?.cancelled ?? many} cancelled.`);
    context.refresh();
  };
  return {
    node: body,
    draw() {
      const queue = context.detail?.queue ?? [];
      const next = JSON.stringify([queue, context.detail?.state]);
      if (next === had) return;
      had = next;
      const waiting = queue.filter((one) => !one.sent);
      if (!queue.length) {
        const hint = context.detail?.queue_mode
          ? 'Commands to this device wait here while it sleeps, and are sent when it wakes up.'
          : 'This device does not use queue mode: commands are sent at once.';
        return put(body, empty('No waiting commands', hint));
      }
      put(body,
        h('div.bar', h('p.grow.muted', context.detail.state === 'asleep' ? 'The device sleeps. These commands are sent, in this order, when it wakes up.' : 'The device is awake; this is on its way.'),
          waiting.length > 1 ? button('Cancel all', () => cancel({ all: true }, waiting.length), { kind: 'danger' }) : null),
        h('div.card.resources', queue.map((one) => h('div.res.queue-row',
          h('strong', one.msgType), h('span.mono.wrap', (one.paths ?? [one.path]).filter(Boolean).join(' ') || '–'),
          h('span.small.muted.wrap', one.reqID == null ? 'no reqID' : `reqID ${typeof one.reqID === 'string' ? one.reqID : JSON.stringify(one.reqID)}`),
          h('span.small.muted', one.sent ? '' : `since ${ago(one.since)}${one.until ? `, ${span((one.until - Date.now()) / 1000)} left` : ''}`),
          one.sent ? badge('sent', 'accent') : one.reqID == null ? badge('waits') : button('Cancel', () => cancel({ reqID: one.reqID }, 1), { kind: 'op', name: `Cancel ${one.msgType} ${one.path ?? ''}` })))),
        h('p.small.muted', `As of ${clock(Date.now())}.`));
    },
  };
}
