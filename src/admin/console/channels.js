// Channels with followers, and one channel in full: where it stands, who is in it, what it keeps.

import { get } from './node.js';
import { ago, clock, count } from './numbers.js';
import { card, el, every, facts, field, json, link, table, trouble } from './page.js';

export default {
  title: 'Channels',
  open: (root, _live, channel) => (channel ? one(root, channel) : list(root)),
};

function list(root) {
  const prefix = el('input', { type: 'search', placeholder: 'room.', autocomplete: 'off' });
  const found = el('div', { 'aria-live': 'polite' });
  root.append(card('Channels', field('Names beginning with', prefix), found));
  const read = async () => {
    try {
      const { channels, truncated } = await get(`/channels?limit=500&prefix=${encodeURIComponent(prefix.value)}`);
      found.replaceChildren(
        table(
          [
            { name: 'Channel', cell: (it) => link(it.channel, 'channels', it.channel) },
            { name: 'Subscribers here', number: true, cell: (it) => count(it.subscribers) },
          ],
          channels,
          'No channel is followed here. They need no creation: subscribe to one, or push to it.',
        ),
        truncated ? el('p.dim', {}, 'There are more: narrow the search.') : '',
      );
    } catch (error) {
      found.replaceChildren(trouble(error));
    }
  };
  prefix.addEventListener('input', read);
  return every(3000, read);
}

function one(root, name) {
  const path = `/channels/${encodeURIComponent(name)}`;
  const [about, members, history] = [el('div'), el('div'), el('div')];
  root.append(
    el('p', {}, link('All channels', 'channels')),
    el('h2.title', {}, name),
    el('p.actions', {}, link('Watch it live', 'tail', name), link('Why not delivered?', 'explain', name), link('Who follows it', 'connections', `channel=${name}`)),
    el('div.columns', {}, card('Position', about), card('Members', members)),
    card('History', history),
  );
  const part = async (place, read) => {
    try {
      place.replaceChildren(await read());
    } catch (error) {
      place.replaceChildren(trouble(error));
    }
  };
  return every(3000, () =>
    Promise.all([
      part(about, async () => {
        const it = await get(path);
        return facts([['Subscribers here', count(it.subscribers)], ['Rule', it.rule ?? 'none: refused'], ['Seq', count(it.seq)], ['Epoch', it.epoch], ['Last id', it.id]]);
      }),
      part(members, async () => {
        const { members: found, total } = await get(`${path}/members`);
        const names = table(
          [{ name: 'User', cell: (it) => it.userId }, { name: 'Info', cell: (it) => (it.info === undefined ? '' : JSON.stringify(it.info)) }],
          found,
          'Nobody, or the rule keeps no presence.',
        );
        return el('div', {}, total > found.length && el('p.dim', {}, `${count(found.length)} of ${count(total)}`), names);
      }),
      part(history, async () => {
        const { messages } = await get(`${path}/history?limit=50`);
        return table(
          [
            { name: 'Seq', number: true, cell: (it) => count(it.seq) },
            { name: 'When', cell: (it) => el('span', { title: new Date(it.timestamp).toISOString() }, `${clock(it.timestamp)}, ${ago(it.timestamp)} ago`) },
            { name: 'Event', cell: (it) => it.event ?? '' },
            { name: 'By', cell: (it) => it.userId ?? 'backend' },
            { name: 'Data', cell: (it) => (it.erased ? 'erased' : json(it.data_base64 ?? JSON.stringify(it.data))) },
          ],
          messages.toReversed(),
          'The channel keeps nothing: its rule has no history, or all of it has expired.',
        );
      }),
    ]),
  );
}
