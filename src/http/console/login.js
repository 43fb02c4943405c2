// Asks for user and password, or for a token, and keeps neither: what is kept, for this tab only, is
// the token of a login that ends by itself.
import * as api from './api.js';
import { h } from './dom.js';

export function login(enter, why = '') {
  const user = h('input', { type: 'text', name: 'user', autocomplete: 'username', id: 'user', autocapitalize: 'none', spellcheck: 'false' });
  const input = h('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: true, id: 'token' });
  const problem = h('p.bad.wrap', { role: 'alert', hidden: !why }, why);
  const go = h('button.button.primary.tall', { type: 'submit' }, 'Log in');
  const form = h('form.card', { novalidate: true },
    h('div.brand', h('img', { src: 'console/icon.svg', alt: '' }), h('span', 'LwM2M gateway')),
    h('label.field', h('span.label', 'User'), user, h('span.hint', 'A user in http.users_file. Leave empty for a token.')),
    h('label.field', h('span.label', 'Password or token'), input,
      h('span.hint', 'The token is in http.token_file, or in the gateway’s variable LWM2M_GATEWAY_HTTP_TOKEN.')),
    problem, go);
  const fail = (message) => {
    problem.textContent = message;
    problem.hidden = false;
    input.focus();
  };
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (!input.value) return fail('Enter a password or a token.');
    go.disabled = true;
    try {
      await api.login(user.value.trim(), input.value);
      input.value = '';
      return enter();
    } catch (error) {
      const wrong = user.value.trim() ? 'The gateway rejects this user or password.' : 'The gateway rejects this token.';
      fail(error.status === 401 ? wrong : error.message);
    }
    go.disabled = false;
  });
  setTimeout(() => user.focus());
  return h('div.login', form);
}
