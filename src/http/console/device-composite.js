// Composite operations: sets of paths that are read, observed or written in one message.
import { h, put, text } from './dom.js';
import { badge, button, codeBadge, empty, field, iconButton, select } from './ui.js';
import { value as shownValue, ago } from './format.js';
import { input, TYPES } from './inputs.js';
import { commandBar } from './command-bar.js';

export function compositeTab(context) {
  const { memory } = context;
  if (!memory.sets.length) memory.sets.push({ paths: ['/3/0/9', '/3303/0'], writes: [] });
  const list = h('div.stack');
  let cards = [];
  const draw = () => cards.forEach((card) => card.draw());
  const build = () => {
    cards = memory.sets.map((set, at) => setCard(context, set, at, () => { memory.sets.splice(at, 1); build(); }, build));
    put(list, cards.map((card) => card.node), memory.sets.length ? null : empty('No set of paths', 'Add one to read, observe or write several resources in one message.'));
    draw();
  };
  build();
  const old = context.detail?.version === '1.0';
  return {
    node: h('div.stack', old ? h('div.notice.warn', 'This device registered with LwM2M 1.0, which has no composite operations.') : null,
      h('div.bar', commandBar(), h('span.grow'), button('Another set', () => { memory.sets.push({ paths: [], writes: [] }); build(); }, { symbol: 'plus' })), list),
    draw,
    tick: draw,
  };
}

function setCard(context, set, at, drop, build) {
  const { memory } = context;
  const state = h('span');
  const table = h('div.resources');
  const problem = h('p.bad.small', { role: 'alert' });
  const path = h('input.grow.mono', { placeholder: '/3303/0/5700', 'aria-label': 'Path to add', autocomplete: 'off' });
  const add = () => {
    const wanted = path.value.trim();
    if (!/^(\/\d{1,5}){1,4}$/.test(wanted)) return text(problem, 'A path is /object, /object/instance, /object/instance/resource, or with a resource instance.');
    if (!set.paths.includes(wanted)) set.paths.push(wanted);
    build();
  };
  path.addEventListener('keydown', (event) => { if (event.key === 'Enter') { event.preventDefault(); add(); } });
  const observed = () => memory.observed.has(set.paths.join(' '));
  const send = async (kind) => {
    text(problem, '');
    if (!set.paths.length) return text(problem, 'Add a path first.');
    set.entry = await context.send(kind, { paths: [...set.paths] }, true);
    draw();
  };
  const observe = button('Observe', () => send(observed() ? 'cancel-observe-composite' : 'observe-composite'));
  const draw = () => {
    const on = observed();
    text(observe, on ? 'Stop observing' : 'Observe');
    observe.classList.toggle('on', on);
    put(state, set.entry ? codeBadge(set.entry) : null);
    if (set.entry?.state === 'failed') text(problem, set.entry.text);
    const rows = [...memory.values].filter(([known]) => set.paths.some((one) => known === one || known.startsWith(`${one}/`))).slice(0, 200);
    put(table, rows.map(([known, item]) => h('div.res.short', h('div.mono', known), h('div.res-cell.wrap', shownValue(item.value, null, 300)), h('div.small.muted', ago(item.at)))));
  };
  return {
    draw,
    node: h('section.card.pad.stack', { 'aria-label': `Set ${at + 1}` },
      h('div.bar', h('h3', `Set ${at + 1}`), state, h('span.grow'), button('Read', () => send('read-composite')), observe, iconButton('trash', 'Remove the set', drop)),
      h('div.chips', set.paths.map((one) => h('span.chip.mono', one, iconButton('close', `Take ${one} out`, () => { set.paths.splice(set.paths.indexOf(one), 1); build(); })))),
      h('div.bar.nowrap', path, button('Add', add)), problem, table, writes(context, set, build)),
  };
}

// What is written in one message; each with its full path.
function writes(context, set, build) {
  const inputs = [];
  const rows = set.writes.map((write, at) => {
    const where = h('input.mono', { value: write.path, placeholder: '/3/0/14', 'aria-label': 'Path to write', oninput: () => { write.path = where.value.trim(); } });
    const one = input(write.type, { name: 'Value', value: write.value });
    inputs.push(() => ({ path: write.path, type: write.type, value: one.get() }));
    const type = select(TYPES.map((name) => [name, name]), write.type, (name) => { write.type = name; build(); });
    return h('div.write-row', field('Path', where), field('Type', type), field('Value', one.node), iconButton('close', 'Leave out', () => { set.writes.splice(at, 1); build(); }));
  });
  const problem = h('p.bad.small', { role: 'alert' });
  const go = async () => {
    try {
      const content = inputs.map((get) => get());
      if (content.some(({ path, value }) => !/^(\/\d{1,5}){3,4}$/.test(path) || value === undefined)) throw new Error('Each line needs the path of a resource and a value.');
      content.forEach(({ value }, at) => { set.writes[at].value = value; });
      set.entry = await context.send('write-composite', { content }, true);
      text(problem, set.entry.state === 'failed' ? set.entry.text : '');
    } catch (error) {
      text(problem, error.message);
    }
  };
  return h('details', { open: rows.length > 0 }, h('summary', 'Write', rows.length ? badge(String(rows.length)) : null),
    h('div.stack', rows, problem, h('div.bar', button('Add a value', () => { set.writes.push({ path: '', type: 'String' }); build(); }, { symbol: 'plus' }),
      rows.length ? button('Write all', go, { kind: 'primary' }) : null)));
}
