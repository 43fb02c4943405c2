// What is running: version, listeners, and the configuration that is in force.
import * as api from './api.js';
import { h, put } from './dom.js';
import { span } from './format.js';
import { badge, failed, facts } from './ui.js';

export function aboutPage() {
  const body = h('div.cards');
  const search = h('input', { type: 'search', placeholder: 'Part of a key', 'aria-label': 'Search the configuration' });
  async function load() {
    try {
      const [about, config] = await Promise.all([api.get('v1/about'), api.get('v1/config').catch(() => null)]);
      const places = [['v1/openapi.json', 'The API, as OpenAPI'], ['metrics', 'Metrics, for Prometheus']];
      const there = await Promise.all(places.map(([path]) => api.exists(path).catch(() => false)));
      const others = places.filter((_, at) => there[at]);
      const list = h('div.resources.config');
      const keys = config ? flat(config) : [];
      const draw = () => put(list, keys.filter(([key]) => key.includes(search.value.trim())).map(([key, value]) =>
        h('div.res.config-row', h('span.mono.wrap', key), h('span.mono.wrap.muted', value))));
      search.addEventListener('input', draw);
      draw();
      put(body,
        h('section.card.pad.stack', h('h2', 'Gateway'), facts([['Version', about.version], ['Runs in', about.host], ['Up for', span(about.uptime_s)], ['Features', about.features?.join(', ')], ['Your role', about.role]])),
        h('section.card.pad.stack', h('h2', 'Listeners'), h('div.resources', (about.listeners ?? []).map((one) => h('div.res.short', h('span', one.name), h('span.mono', one.bind), badge(one.dtls ? 'DTLS' : 'UDP', one.dtls ? 'ok' : ''))))),
        others.length ? h('section.card.pad.stack', h('h2', 'Elsewhere'), h('ul.stack', others.map(([href, name]) =>
          h('li', h('span', `${name}: `), h('code', `${location.origin}/${href}`)))), h('p.small.muted', 'With a token, as “Authorization: Bearer …”, or with user and password.')) : null,
        config ? h('section.card.pad.stack.wide', h('div.bar', h('h2.grow', 'Configuration'), h('div.search', search)), list) : null);
    } catch (error) {
      put(body, failed(error, load));
    }
  }
  load();
  return { title: 'About', node: h('div.page', h('div.head', h('h1', 'About')), body) };
}

// Nested configuration as the keys that people write.
function flat(value, prefix = '', out = []) {
  for (const [key, inner] of Object.entries(value ?? {})) {
    const name = prefix ? `${prefix}.${key}` : key;
    if (inner && typeof inner === 'object' && !Array.isArray(inner) && Object.keys(inner).length) flat(inner, name, out);
    else out.push([name, typeof inner === 'string' ? inner : JSON.stringify(inner)]);
  }
  return out;
}
