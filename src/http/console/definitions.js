// Object definitions of the gateway, asked for once each.
import * as api from './api.js';

const known = new Map();
let all = null;

export function list() {
  all ??= api.get('v1/objects').then((body) => body.objects).catch((error) => { all = null; throw error; });
  return all;
}

// Names by id, for lists; empty until they are there.
export const names = new Map();
export async function loadNames() {
  for (const { id, name } of await list()) names.set(id, name);
  return names;
}

// The definition of one object, or null where the gateway has none.
export function of(id) {
  if (!known.has(id)) {
    const asked = api.get(`v1/objects/${id}`).catch((error) => {
      if (error.status === 404) return null;
      known.delete(id);
      throw error;
    });
    known.set(id, asked);
  }
  return known.get(id);
}

export const can = (resource, what) => (resource?.operations ?? 'RWE').toUpperCase().includes(what);

// Type, units and range in one short line.
export const kindOf = (resource) => [resource.multiple ? `${resource.type || 'None'}[]` : resource.type, resource.units, resource.range && `${resource.range}`]
  .filter(Boolean).join(' · ');
