// The page in EMQX's dashboard: nodes and devices as the plugin's callback reports them, and the console of this
// node in a frame, if it is served and may be framed. Everything from devices is shown as plain text.

const INTERVAL = 5000;
const SETTLED = 300;
const at = (id) => document.getElementById(id);
let framed = '';
let timer = 0;
let turn = 0;

async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  if (!document.hidden && !at('devices-view').hidden) {
    try {
      const view = await ask();
      // An older answer must not cover a newer one.
      if (mine === turn) show(view);
    } catch (error) {
      if (mine === turn) fail(error.message);
    }
  }
  if (mine === turn) timer = setTimeout(refresh, INTERVAL);
}

async function ask() {
  const url = new URL('ui/devices', location.href.split(/[?#]/)[0]);
  if (at('search').value) url.searchParams.set('search', at('search').value);
  let response;
  try {
    response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(10000) });
  } catch {
    throw new Error('EMQX cannot be reached.');
  }
  if (response.status === 401) throw new Error('Your login has ended. Log in to the dashboard again.');
  if (!response.ok) throw new Error(`EMQX answered ${response.status}.`);
  return response.json();
}

function show({ nodes, devices, more, console: there }) {
  at('problem').hidden = true;
  at('nodes').replaceChildren(...nodes.map(nodeRow));
  at('devices').replaceChildren(...devices.map(deviceRow));
  at('more').hidden = !more;
  at('more').textContent = more ? `Only the first ${devices.length} are shown. Search to find others.` : '';
  showConsole(there);
}

const STATES = {
  running: 'running', stopped: 'gateway not running', unreachable: 'does not answer', without: 'plugin not installed',
};

const nodeRow = ({ node, state, counters = {} }) => row([
  node, STATES[state] ?? state, counters.registrations, counters.observations, counters.dtls_sessions,
  counters.datagrams_received, counters.datagrams_sent, counters.publish_dropped,
]);

const deviceRow = (it) => row([
  it.endpoint, it.node, it.peer, it.listener, it.version, `${it.lifetime} s`, ago(it.idle_ms), it.observations, it.queued,
]);

function row(cells) {
  const line = document.createElement('tr');
  line.append(...cells.map((text) => {
    const cell = document.createElement('td');
    cell.textContent = text ?? '';
    return cell;
  }));
  return line;
}

function ago(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
}

// Browsers show the console in a frame only if it allows this page's origin.
function showConsole(there) {
  const mayFrame = there.state === 'served' && there.ancestors.includes(location.origin)
    && !(location.protocol === 'https:' && there.url.startsWith('http:'));
  at('show-console').hidden = !mayFrame;
  if (!mayFrame && !at('console-view').hidden) turnTo('devices');
  framed = mayFrame ? there.url : '';
  const note = at('console-note');
  if (there.state === 'served') {
    const link = document.createElement('a');
    Object.assign(link, { href: there.url, target: '_blank', rel: 'noopener noreferrer', textContent: 'Open the console of this node' });
    note.replaceChildren(link, mayFrame ? '' : ` (to show it in this page, allow ${location.origin} in http_frame_ancestors: see "In EMQX's dashboard" in the documentation)`);
  } else {
    note.textContent = {
      off: 'The console is off: set http_bind in the plugin’s configuration.',
      local: 'The console can be reached only from the node itself.',
      refused: 'The console cannot be served; the alarm lwm2m_gateway_http says why.',
    }[there.state] ?? '';
  }
}

function turnTo(view) {
  for (const name of ['devices', 'console']) {
    at(`${name}-view`).hidden = name !== view;
    at(`show-${name}`).setAttribute('aria-pressed', String(name === view));
  }
  const place = at('console-view');
  if (view === 'console' && place.firstChild?.src !== framed) {
    const frame = document.createElement('iframe');
    Object.assign(frame, { src: framed, title: 'Console of the LwM2M gateway', referrerPolicy: 'no-referrer' });
    place.replaceChildren(frame);
  }
  if (view === 'devices') refresh();
}

function fail(message) {
  at('problem').textContent = message;
  at('problem').hidden = false;
}

at('show-devices').addEventListener('click', () => turnTo('devices'));
at('show-console').addEventListener('click', () => turnTo('console'));
at('search').addEventListener('input', () => {
  clearTimeout(timer);
  timer = setTimeout(refresh, SETTLED);
});
document.addEventListener('visibilitychange', () => document.hidden || refresh());
refresh();
