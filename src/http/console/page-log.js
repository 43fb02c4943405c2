// The last lines of the log, and those that come.
import * as api from './api.js';
import { h, icon, perFrame, put, text } from './dom.js';
import { clockMs, count } from './format.js';
import { button, empty, failed, select } from './ui.js';

const MOST = 2000;
const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR'];
const view = { level: 'TRACE', search: '' };

export function logPage() {
  const body = h('div.log', { role: 'log', tabindex: '0', 'aria-label': 'Log' });
  const nothing = h('div');
  const info = h('span.count');
  const input = h('input', { type: 'search', placeholder: 'Text in the line', 'aria-label': 'Search the log', value: view.search });
  const hold = button('Pause', () => { paused = !paused; text(hold, paused ? `Resume` : 'Pause'); draw(); });
  let lines = [];
  let drawn = 0;
  let paused = false;
  let end = null;
  const fits = ({ level, text: line }) => LEVELS.indexOf(level) >= LEVELS.indexOf(view.level) && (!view.search || line.toLowerCase().includes(view.search.toLowerCase()));
  // New lines are added; everything is drawn again only when the choice changes.
  const draw = perFrame(() => {
    if (paused) return text(info, 'paused');
    const below = body.scrollTop + body.clientHeight > body.scrollHeight - 60;
    if (drawn === 0) put(body);
    for (const line of lines.slice(drawn)) if (fits(line)) body.append(node(line));
    drawn = lines.length;
    while (body.children.length > MOST) body.firstChild.remove();
    if (lines.length > MOST * 1.5) { lines = lines.slice(-MOST); drawn = lines.length; }
    text(info, `${count(body.children.length)} lines`);
    put(nothing, body.children.length ? null : empty('No lines', lines.length ? 'None of the last lines matches.' : 'Lines appear as the gateway writes them.'));
    body.hidden = !body.children.length;
    if (below) body.scrollTop = body.scrollHeight;
  });
  const again = () => { drawn = 0; draw(); };
  input.addEventListener('input', () => { view.search = input.value; again(); });
  let last = 0;
  const take = (list) => {
    // A stream that was opened again begins where the first one did.
    const fresh = list.filter(({ number }) => !(number <= last));
    last = fresh.at(-1)?.number ?? last;
    lines.push(...fresh.map(read));
    draw();
  };
  async function load() {
    try {
      const answer = await api.get('v1/log?lines=500');
      put(nothing);
      take(answer.lines ?? []);
      body.scrollTop = body.scrollHeight;
      end = api.follow(`v1/log/events?after=${last}`, (events) => take(events.filter(([kind]) => kind !== 'lost').map(([, line]) => line)));
    } catch (error) {
      put(nothing, failed(error, load));
      body.hidden = true;
    }
  }
  return {
    title: 'Log',
    node: h('div.page.full', h('div.head', h('h1', 'Log'), info),
      h('div.bar', h('div.search', icon('search'), input),
        h('label.bar.small', h('span.muted', 'From level'), select(LEVELS.map((level) => [level, level.toLowerCase()]), view.level, (level) => { view.level = level; again(); })),
        hold, button('Clear', () => { lines = []; again(); })), nothing, body),
    start: load,
    leave() { end?.(); },
  };
}

const read = ({ at, level, target, text: words }) => ({ level, text: `${clockMs(at)} ${level} ${target}: ${words}` });

const node = ({ level, text: line }) => h(`div.log-line.${level.toLowerCase()}`, line);
