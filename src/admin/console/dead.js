// Notices the backend never acknowledged: why, and once more.

import { call, get } from './node.js';
import { ago, count } from './numbers.js';
import { card, el, every, json, table, trouble } from './page.js';

export default {
  title: 'Dead letters',
  open(root) {
    const found = el('div', { 'aria-live': 'polite' });
    const said = el('div', { 'aria-live': 'polite' });
    const replayAll = el('button', { type: 'button' }, 'Replay all');
    root.append(
      card('Dead letters', el('p.dim', {}, 'Notices that were tried for as long as webhooks.retry allows. A replay keeps their id and order.'), el('div.buttons', {}, replayAll), said, found),
    );
    const replay = async (ids) => {
      try {
        const { replayed, left } = await call('POST', '/webhooks/dead/replay', ids ? { ids } : {});
        const rest = left > 0 ? ` No room in the queue for ${count(left)} more: try again later.` : '';
        said.replaceChildren(el('p.good', {}, `${count(replayed)} on their way again.${rest}`));
        read();
      } catch (error) {
        said.replaceChildren(trouble(error));
      }
    };
    const read = async () => {
      try {
        const { dead, total } = await get('/webhooks/dead?limit=200');
        replayAll.disabled = dead.length === 0;
        found.replaceChildren(
          total > dead.length ? el('p.dim', {}, `${count(dead.length)} of ${count(total)}`) : '',
          table(
            [
              { name: 'Event', cell: (it) => it.event },
              { name: 'Dead for', cell: (it) => ago(it.diedAt) },
              { name: 'Tries', number: true, cell: (it) => count(it.tries) },
              { name: 'Why', cell: (it) => it.reason },
              { name: 'Notice', cell: (it) => el('details', {}, el('summary', {}, it.id), json(it.notice)) },
              { name: '', cell: (it) => el('button.plain', { type: 'button', onclick: () => replay([it.id]) }, 'Replay') },
            ],
            dead,
            'None: the backend has acknowledged every notice.',
          ),
        );
      } catch (error) {
        found.replaceChildren(trouble(error));
      }
    };
    replayAll.addEventListener('click', () => confirm('Send all dead letters again?') && replay());
    return every(5000, read);
  },
};
