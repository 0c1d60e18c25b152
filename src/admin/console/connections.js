// Connections of this node: who is behind, and one of them in full. Ending one asks first.

import { call, get } from './node.js';
import { ago, bytes, count } from './numbers.js';
import { card, el, every, facts, field, link, table, trouble } from './page.js';

export default {
  title: 'Connections',
  open: (root, _live, which = '') => (/^[0-9a-f]{32}$/.test(which) ? one(root, which) : list(root, new URLSearchParams(which))),
};

const dropped = (it) => Object.values(it.dropped).reduce((sum, one) => sum + one, 0);

function list(root, wanted) {
  const user = el('input', { type: 'search', value: wanted.get('user') ?? '', autocomplete: 'off' });
  const channel = el('input', { type: 'search', value: wanted.get('channel') ?? '', autocomplete: 'off' });
  const slow = el('input', { type: 'checkbox' });
  const found = el('div', { 'aria-live': 'polite' });
  root.append(card('Connections of this node', el('div.fields', {}, field('User', user), field('Channel', channel), el('label.check', {}, slow, 'Behind')), found));
  const read = async () => {
    const query = new URLSearchParams({ limit: 200 });
    if (user.value) query.set('user', user.value);
    if (channel.value) query.set('channel', channel.value);
    if (slow.checked) query.set('slow', 'true');
    try {
      const { connections, total } = await get(`/connections?${query}`);
      connections.sort((a, b) => b.outboxBytes - a.outboxBytes);
      found.replaceChildren(
        el('p.dim', {}, `${count(connections.length)} of ${count(total)}, those furthest behind first`),
        table(
          [
            { name: 'Connection', cell: (it) => link(it.id, 'connections', it.id) },
            { name: 'User', cell: (it) => it.user ?? 'anonymous' },
            { name: 'Transport', cell: (it) => it.transport },
            { name: 'Connected', cell: (it) => ago(it.connectedAt) },
            { name: 'Outbox', number: true, cell: (it) => bytes(it.outboxBytes) },
            { name: 'Dropped', number: true, cell: (it) => count(dropped(it)) },
          ],
          connections,
          'Nobody.',
        ),
      );
    } catch (error) {
      found.replaceChildren(trouble(error));
    }
  };
  user.addEventListener('input', read);
  channel.addEventListener('input', read);
  slow.addEventListener('input', read);
  return every(3000, read);
}

function one(root, id) {
  const about = el('div');
  const end = el('button.danger', { type: 'button' }, 'Disconnect');
  const said = el('div', { 'aria-live': 'polite' });
  root.append(el('p', {}, link('All connections', 'connections')), card(id, about, el('div.buttons', {}, end), said));
  end.addEventListener('click', async () => {
    if (!confirm('Disconnect this client? It may come back at once.')) return;
    try {
      await call('POST', `/connections/${id}/disconnect`, {});
      said.replaceChildren(el('p.good', {}, 'Told to go.'));
    } catch (error) {
      said.replaceChildren(trouble(error));
    }
  });
  return every(2000, async () => {
    try {
      const it = await get(`/connections/${id}`);
      about.replaceChildren(facts(Object.entries(it).flatMap(([name, value]) => fact(name, value))), followed(it.channels));
    } catch (error) {
      about.replaceChildren(trouble(error));
    }
  });
}

/** Whatever the node tells of a connection, in words. */
function fact(name, value) {
  if (name === 'channels') return [];
  const words = name.replace(/([A-Z])/g, ' $1').toLowerCase();
  if (value === null) return [[words, '–']];
  if (name.endsWith('At')) return [[words, `${new Date(value).toLocaleString()} (${ago(value)} ago)`]];
  if (name.endsWith('Bytes')) return [[words, bytes(value)]];
  if (name === 'grants') return [[words, value.map((it) => it.match).join(', ') || 'none']];
  if (typeof value === 'object') return Object.entries(value).map(([key, it]) => [`${words}: ${key}`, String(it)]);
  return [[words, String(value)]];
}

function followed(channels) {
  if (!Array.isArray(channels)) return '';
  return table(
    [
      { name: 'Channel', cell: (it) => link(it.channel, 'channels', it.channel) },
      { name: 'Written up to', number: true, cell: (it) => (it.catchingUp ? 'catching up' : it.seq === null ? '–' : count(it.seq)) },
      { name: 'Head', number: true, cell: (it) => (it.head === null ? '–' : count(it.head)) },
    ],
    channels,
    'It follows nothing.',
  );
}
