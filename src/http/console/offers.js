// What this gateway offers: a build without a part of the API has no page for it either.
import * as api from './api.js';

const ASKED = { keys: 'v1/keys', objects: 'v1/objects', counters: 'v1/stats', log: 'v1/log?lines=1' };
const missing = new Set();

export const offers = (what) => !missing.has(what);
export const lacks = (what) => missing.add(what);

// Asks for each part once; only a clear "there is no such thing", or "not for you", counts.
export async function learn() {
  missing.clear();
  await Promise.all(Object.entries(ASKED).map(async ([what, path]) => {
    try { await api.get(path); } catch (error) { if ((error.status === 404 && error.code === 'not_found') || error.code === 'forbidden') missing.add(what); }
  }));
}
