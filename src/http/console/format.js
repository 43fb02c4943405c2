// How times, sizes, values and codes are written for people.

const date = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const hours = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
const grouped = new Intl.NumberFormat('en');

export const when = (ms) => (ms ? date.format(ms) : '–');
export const clock = (ms) => hours.format(ms);
export const clockMs = (ms) => `${hours.format(ms)}.${String(Math.floor(ms) % 1000).padStart(3, '0')}`;
export const count = (n) => grouped.format(n ?? 0);

// A duration in seconds, in its two largest units.
export function span(seconds) {
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total} s`;
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const at = parts.findIndex(([size]) => total >= size);
  const [size, unit] = parts[at];
  const rest = Math.floor((total % size) / (parts[at + 1]?.[0] ?? 1));
  const more = at < 3 && rest ? ` ${rest} ${parts[at + 1][1]}` : '';
  return `${Math.floor(total / size)} ${unit}${more}`;
}

export function ago(ms, now = Date.now()) {
  if (!ms) return '–';
  const seconds = Math.round((now - ms) / 1000);
  if (seconds < 2) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let size = n / 1024;
  let at = 0;
  while (size >= 1000 && at < units.length - 1) { size /= 1024; at += 1; }
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${units[at]}`;
}

// A number without the noise of floating point.
export function number(n) {
  if (!Number.isFinite(n)) return String(n);
  if (Number.isInteger(n)) return String(n);
  return String(Number(n.toPrecision(7)));
}

// A value as a device gave it; `type` is that of the definition. At most `most` characters.
export function value(v, type, most = 4096) {
  if (v === null || v === undefined) return '–';
  if (type === 'Time' && typeof v === 'number') return when(v * 1000);
  if (typeof v === 'boolean') return v ? 'true' : 'false';
  if (typeof v === 'number') return number(v);
  const text = typeof v === 'string' ? v : JSON.stringify(v);
  if (text === '') return '(empty)';
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

const CODES = {
  '2.01': 'Created', '2.02': 'Deleted', '2.04': 'Changed', '2.05': 'Content', '2.31': 'Continue',
  '4.00': 'Bad request', '4.01': 'Not authorized', '4.02': 'Bad option', '4.04': 'Not found',
  '4.05': 'Not allowed', '4.06': 'Format not offered', '4.08': 'Incomplete', '4.09': 'Conflict',
  '4.12': 'Precondition failed', '4.13': 'Too large', '4.15': 'Format not understood',
  '5.00': 'Error of the device', '5.01': 'Not implemented', '5.02': 'Bad gateway', '5.03': 'Unavailable', '5.04': 'Too late',
};
export const codeName = (code) => CODES[code] ?? '';

const MEANINGS = {
  '4.01': 'The device does not allow this server to do that.',
  '4.04': 'The device does not have this.',
  '4.05': 'The device does not support this operation here.',
  '4.06': 'The device cannot answer in this format. Choose another one, or “auto”.',
  '4.15': 'The device does not understand this format. Choose another one, or “auto”.',
  '4.13': 'The value is too large for the device.',
  '5.00': 'The device reported an internal error.',
};
const REASONS = {
  not_registered: 'The device is no longer registered.',
  queue_full: 'The queue of the device is full. Cancel waiting commands, or wait for the device.',
  expired: 'The command waited too long for the device.',
  cancelled: 'The command was cancelled.',
  overloaded: 'The gateway is overloaded. Try again.',
};

// An answer in a sentence, for people.
export function answerText(message) {
  const kind = message?.msgType;
  if (kind === 'coap_timeout') return 'The device did not answer in time.';
  if (kind === 'coap_reset') return 'The device rejected the message.';
  if (kind === 'ack') return 'The device has received the command and will answer later.';
  const { code, reason, detail, diagnostic } = message?.data ?? {};
  const parts = [REASONS[reason] ?? detail ?? MEANINGS[code]];
  if (!parts[0] && reason) parts[0] = reason.replaceAll('_', ' ');
  if (diagnostic) parts.push(`It says: ${diagnostic}`);
  return parts.filter(Boolean).join(' ') || codeName(code) || 'Answered.';
}

export const succeeded = (message) => String(message?.data?.code ?? '').startsWith('2.');
