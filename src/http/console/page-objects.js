// The object definitions that the gateway has, and the resources of one.
import * as definitions from './definitions.js';
import { h, icon, put, text } from './dom.js';
import { kindOf } from './definitions.js';
import { count } from './format.js';
import { badge, empty, failed } from './ui.js';

let search = '';
const OPERATIONS = { R: 'read', W: 'write', E: 'run' };

export function objectsPage([wanted]) {
  const total = h('span.count');
  const list = h('div.object-list');
  const detail = h('div.grow.definition');
  const input = h('input', { type: 'search', placeholder: 'Number or name', 'aria-label': 'Search objects', value: search });
  let objects = [];
  const draw = () => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = objects.filter(({ id, name }) => words.every((word) => String(id).startsWith(word.replace('/', '')) || name.toLowerCase().includes(word)));
    text(total, shown.length === objects.length ? count(objects.length) : `${count(shown.length)} of ${count(objects.length)}`);
    put(list, shown.length ? shown.map(({ id, name, version }) => h('a.object-item', { href: `#/objects/${id}`, 'aria-current': String(id) === wanted ? 'page' : null },
      h('span.number', String(id)), h('span.grow.cut', name), h('span.small.muted', version ?? ''))) : h('p.muted.pad', 'No matching definition.'));
  };
  input.addEventListener('input', () => { search = input.value; draw(); });
  const load = () => definitions.list().then((all) => { objects = all; draw(); list.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' }); }, (error) => put(list, failed(error, load)));
  load();
  if (wanted) {
    definitions.of(Number(wanted)).then((definition) => put(detail, definition ? card(definition) : empty('No definition', `The gateway has none of object ${wanted}. Put its XML file into xml_dir.`)),
      (error) => put(detail, failed(error)));
  } else put(detail, empty('Object definitions', 'Choose an object to see its resources. Those of OMA’s registry are built in; xml_dir adds your own.'));
  return {
    title: 'Objects',
    node: h('div.page', h('div.head', h('h1', 'Objects'), total),
      h(`div.values-split.objects-page${wanted ? '.has-one' : ''}`, h('div.card.objects-side', h('div.side-search', h('div.search', icon('search'), input)), list), detail)),
  };
}

function card(definition) {
  const operations = (text_) => [...(text_ ?? '')].map((one) => OPERATIONS[one]).filter(Boolean).join(', ') || 'none';
  return h('div.stack', h('a.back-link', { href: '#/objects' }, 'All objects'),
    h('div.bar', h('h2', `${definition.id}  ${definition.name}`), badge(`version ${definition.version}`), badge(definition.instances === 'single' ? 'one instance' : 'several instances'), definition.mandatory ? badge('mandatory', 'accent') : null),
    definition.description ? h('p.muted.wrap.prose', definition.description) : null,
    h('div.card.resources', { role: 'table', 'aria-label': 'Resources' }, definition.resources.map((resource) => h('div.res.def-row', { role: 'row' },
      h('span.mono.muted', { role: 'cell' }, String(resource.id)),
      h('span.grow', { role: 'cell' }, h('span', resource.name), resource.description ? h('p.small.muted.wrap', resource.description) : null),
      h('span.muted', { role: 'cell' }, kindOf(resource)), h('span.muted', { role: 'cell' }, operations(resource.operations)),
      h('span', { role: 'cell' }, resource.mandatory ? badge('mandatory', 'accent') : null)))));
}
