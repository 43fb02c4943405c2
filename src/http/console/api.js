// The HTTP API: the token, requests, and streams of events by fetch, which can carry the token
// where EventSource cannot.

const TOKEN = 'lwm2m-gateway-token';
// Milliseconds: before a stream is opened again, and how long one has to last to be a good one.
const SHORTEST_WAIT = 500;
const LONGEST_WAIT = 10000;
const LASTED = 10000;
const at = (path) => new URL(path, new URL('./', location.href.split('#')[0]));

export const token = () => sessionStorage.getItem(TOKEN) ?? '';
export const setToken = (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN));

let onRefused = () => {};
export const whenRefused = (f) => { onRefused = f; };

export class ApiError extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

function headers(more = {}) {
  return token() ? { Authorization: `Bearer ${token()}`, ...more } : more;
}

async function open(path, options) {
  try {
    return await fetch(at(path), { cache: 'no-store', ...options });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'unreachable', 'The gateway cannot be reached. It may have stopped, or the network connection is down.');
  }
}

async function failure(response) {
  let body = null;
  try { body = await response.json(); } catch { /* not ours: say what we know */ }
  if (response.status === 401) onRefused();
  const detail = body?.detail || `The gateway answered ${response.status}.`;
  return Object.assign(new ApiError(response.status, body?.error ?? 'error', detail), { body });
}

async function request(method, path, body) {
  const options = { method, headers: headers(body === undefined ? {} : { 'Content-Type': 'application/json' }) };
  if (body !== undefined) options.body = JSON.stringify(body);
  const response = await open(path, options);
  if (!response.ok) throw await failure(response);
  return response.status === 204 ? null : response.json();
}

export const get = (path) => request('GET', path);
export const post = (path, body) => request('POST', path, body);
export const put = (path, body) => request('PUT', path, body);
export const remove = (path) => request('DELETE', path);

// Logs in with user and password, or with a token when there is no user, and keeps the token of the
// login.
export async function login(user, secret) {
  const bytes = new TextEncoder().encode(`${user}:${secret}`);
  const shown = user ? `Basic ${btoa(String.fromCharCode(...bytes))}` : `Bearer ${secret.trim()}`;
  const response = await open('v1/session', { method: 'POST', headers: { Authorization: shown } });
  if (!response.ok) throw await failure(response);
  setToken((await response.json()).token);
}

// Ends the login.
export function logout() {
  if (token()) open('v1/session', { method: 'DELETE', headers: headers(), keepalive: true }).catch(() => {});
  setToken('');
}

export const devicePath = (endpoint, rest = '') => `v1/devices/${encodeURIComponent(endpoint)}${rest}`;

// Whether there is anything at this path.
export const exists = async (path) => (await open(path, { headers: headers() })).ok;

// Sends a command. Gives the answer, or `{status: "queued", …}`. An answer that the gateway gave
// itself comes with an HTTP error and the JSON of an answer; that is an answer like any other.
export async function command(endpoint, message, wait) {
  try {
    return await post(devicePath(endpoint, `/commands?wait=${wait}`), message);
  } catch (error) {
    if (error.body?.data) return error.body;
    throw error;
  }
}

// Follows a stream of events until the function that it returns is called; connects again when it
// breaks. `onEvents` gets lists of `[kind, data]`, `onState` "open", "closed" or "refused".
export function follow(path, onEvents, onState = () => {}) {
  const abort = new AbortController();
  let wait = SHORTEST_WAIT;
  const run = async () => {
    while (!abort.signal.aborted) {
      let opened = Infinity;
      try {
        const response = await open(path, { headers: headers({ Accept: 'text/event-stream' }), signal: abort.signal });
        if (!response.ok) throw await failure(response);
        onState('open');
        opened = performance.now();
        await pump(response.body, onEvents);
      } catch (error) {
        if (abort.signal.aborted) return;
        if ([400, 401, 403, 404].includes(error.status)) return onState('refused', error);
      }
      if (abort.signal.aborted) return;
      onState('closed');
      // One that breaks again and again is tried less often, though it opens each time.
      if (performance.now() - opened > LASTED) wait = SHORTEST_WAIT;
      await new Promise((go) => setTimeout(go, wait));
      wait = Math.min(wait * 2, LONGEST_WAIT);
    }
  };
  run();
  return () => abort.abort();
}

// Reads the lines of Server-Sent Events. One event may have 1 MB; a longer one is given up.
async function pump(body, onEvents) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    if (rest.length > 1 << 20 && !rest.includes('\n\n')) throw new Error('an event is too long');
    const blocks = rest.split('\n\n');
    rest = blocks.pop();
    const events = blocks.map(parse).filter(Boolean);
    if (events.length) onEvents(events);
  }
}

function parse(block) {
  let kind = 'message';
  let data = '';
  for (const line of block.split('\n')) {
    if (line.startsWith('event:')) kind = line.slice(6).trim();
    else if (line.startsWith('data:')) data += line.slice(5).trimStart();
  }
  if (!data) return null;
  try { return [kind, JSON.parse(data)]; } catch { return [kind, data]; }
}
