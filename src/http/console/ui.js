// Small parts that pages are made of: buttons, badges, dialogs, messages, what stands where nothing is.
import { h, icon, put } from './dom.js';

export function button(label, onclick, { kind = '', symbol = null, title = null, name = null } = {}) {
  const node = h(`button.button${kind ? `.${kind}` : ''}`, { type: 'button', onclick, title, 'aria-label': name });
  if (symbol) node.append(icon(symbol));
  if (label) node.append(label);
  return node;
}

export const iconButton = (symbol, label, onclick) =>
  h('button.button.quiet.only-icon', { type: 'button', onclick, 'aria-label': label, title: label }, icon(symbol));

export const badge = (label, kind = '') => h(`span.badge${kind ? `.${kind}` : ''}`, label);

export const stateBadge = (state) => (state === 'asleep' ? badge('asleep', 'sleep') : badge('online', 'ok'));

export function codeBadge(entry) {
  if (entry.state === 'waiting') return badge('waiting', 'busy');
  if (entry.state === 'queued') return badge('queued', 'sleep');
  const code = entry.answer?.data?.code;
  return badge(code ?? (entry.answer?.msgType === 'coap_timeout' ? 'timeout' : 'failed'), entry.state === 'done' ? 'ok' : 'bad');
}

// What stands where there is nothing yet: what it is, and what to do next.
export const empty = (title, hint, ...more) => h('div.empty', h('h2', title), h('p.muted', hint), ...more);

export const failed = (error, again) =>
  h('div.notice.bad', { role: 'alert' }, h('span.grow', error.message), again && button('Try again', again));

export function toast(message, kind = '') {
  const place = document.getElementById('toasts');
  const node = h(`div.toast${kind ? `.${kind}` : ''}`, message);
  place.append(node);
  while (place.children.length > 4) place.firstChild.remove();
  setTimeout(() => node.remove(), kind === 'bad' ? 8000 : 4000);
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS browsers offer no clipboard but this one.
    const area = h('textarea.hide-visually', { value: text });
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  button?.setAttribute('data-done', '');
  setTimeout(() => button?.removeAttribute('data-done'), 1500);
  toast('Copied.');
}

export function copyLine(label, text) {
  const node = iconButton('copy', `Copy: ${label}`, () => copy(text, node));
  return h('div.copy-line', h('div.label', label), h('div.code-box', h('pre', text), node));
}

// A dialog with a form. `done` gets called on its main button; when it throws, the text is shown and
// the dialog stays. Returns the dialog.
export function dialog({ title, hint, body, action, kind = 'primary', done, wide = false }) {
  const problem = h('p.bad.wrap', { role: 'alert', hidden: true });
  const main = action && h(`button.button.${kind}`, { type: 'submit' }, action);
  const close = () => node.close();
  const form = h('form', { method: 'dialog' },
    h('div.dialog-head', h('div.grow', h('h2', title), hint && h('p.muted.small.wrap', hint)), iconButton('close', 'Close', close)),
    h('div.dialog-body', body, problem),
    h('div.dialog-foot', button(action ? 'Cancel' : 'Close', close), main));
  const node = h(`dialog.dialog${wide ? '.wide' : ''}`, { 'aria-label': title }, form);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    problem.hidden = true;
    if (main) main.disabled = true;
    try {
      await done?.();
      node.close();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    if (main) main.disabled = false;
  });
  node.addEventListener('close', () => node.remove());
  node.addEventListener('click', (event) => { if (event.target === node) close(); });
  document.body.append(node);
  node.showModal();
  form.querySelector('.dialog-body input, .dialog-body select, .dialog-body textarea')?.focus();
  return node;
}

export const field = (label, input, hint) =>
  h('label.field', h('span.label', label), input, hint && h('span.hint', hint));

export function select(options, value, onchange) {
  const node = h('select', { onchange: () => onchange?.(node.value) });
  for (const [key, label] of options) node.append(h('option', { value: key }, label));
  node.value = value;
  return node;
}

// A menu below a button; the keyboard moves in it, Escape closes it.
export function menu(label, symbol, items) {
  const list = h('div.menu-list', { role: 'menu', popover: 'auto' });
  const opener = h('button.button.quiet.only-icon', { type: 'button', 'aria-haspopup': 'menu', 'aria-label': label, title: label }, icon(symbol));
  const open = () => {
    put(list, items().map(([name, act, kind]) =>
      h(`button.menu-item${kind ? `.${kind}` : ''}`, { type: 'button', role: 'menuitem', onclick: () => { list.hidePopover(); act(); } }, name)));
    document.body.append(list);
    list.showPopover();
    const box = opener.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = list;
    list.style.left = `${Math.max(8, Math.min(box.right - width, innerWidth - width - 8))}px`;
    list.style.top = `${box.bottom + height + 8 > innerHeight ? box.top - height - 4 : box.bottom + 4}px`;
    list.firstChild?.focus();
  };
  opener.addEventListener('click', open);
  list.addEventListener('toggle', (event) => {
    if (event.newState === 'closed') { list.remove(); opener.focus({ preventScroll: true }); }
  });
  list.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...list.children];
    all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
  });
  return opener;
}

// Tabs as links, so that each has an address.
export function tabs(items, current) {
  return h('nav.tabs', { 'aria-label': 'Views' }, items.map(([key, label, href, n]) =>
    h('a', { href, 'aria-current': key === current ? 'page' : null }, label, n ? h('span.n', String(n)) : null)));
}

export const facts = (pairs) => h('dl.facts', pairs.filter(([, value]) => value != null && value !== '').map(([name, value]) => [
  h('dt', name), h('dd.wrap', value instanceof Node ? value : String(value)),
]));
