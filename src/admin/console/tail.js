// A channel as it is published, and a form to publish.

import { call, listen } from './node.js';
import { clock, count } from './numbers.js';
import { card, el, field, json, trouble } from './page.js';

/** Messages on the page; older ones go, and the page says so. */
const MOST = 200;

export default {
  title: 'Tail & push',
  open(root, _live, name = '') {
    const channel = el('input', { value: name, placeholder: 'room.5', autocomplete: 'off', required: true, spellcheck: false });
    const log = el('ol.log', { role: 'log', 'aria-label': 'Messages', tabIndex: 0 });
    const state = el('p.dim', { role: 'status' }, 'Name a channel to watch it.');
    const watch = el('form.fields', {}, field('Channel', channel), el('button', {}, 'Watch'));
    root.append(card('Watch a channel', watch, state, log), card('Push a message', pushing(() => channel.value)));
    let watching = new AbortController();
    let heard = 0;
    const start = () => {
      watching.abort();
      watching = new AbortController();
      heard = 0;
      log.replaceChildren();
      listen(`/tail?channel=${encodeURIComponent(channel.value)}`, {
        signal: watching.signal,
        state: (isThere) => (state.textContent = isThere ? `Watching ${channel.value}.` : 'Lost; coming back.'),
        heard: (data, event) => {
          heard += 1;
          log.prepend(line(event, data));
          while (log.children.length > MOST) log.lastChild.remove();
          if (heard > MOST) state.textContent = `The last ${MOST} of ${count(heard)}.`;
        },
      }).catch((error) => state.replaceChildren(trouble(error)));
    };
    watch.addEventListener('submit', (event) => {
      event.preventDefault();
      history.replaceState(null, '', `#tail/${encodeURIComponent(channel.value)}`);
      start();
    });
    if (name) start();
    return () => watching.abort();
  },
};

function line(event, data) {
  let message = null;
  try {
    message = JSON.parse(data);
  } catch {
    return el('li', {}, data);
  }
  if (event !== 'message') return el('li.event', {}, el('b', {}, event), json(message));
  const by = message.userId ?? 'backend';
  return el('li', {}, el('p.dim', {}, `${clock(message.timestamp)} · seq ${message.seq} · ${by}${message.event ? ` · ${message.event}` : ''}`), json(message.data_base64 ?? message.data));
}

function pushing(channel) {
  const event = el('input', { autocomplete: 'off', placeholder: 'none' });
  const data = el('textarea', { rows: 4, spellcheck: false, value: '{"text":"hello"}' });
  const receipt = el('div', { 'aria-live': 'polite' });
  const form = el('form', {}, field('Event', event), field('Data (JSON)', data), el('div.buttons', {}, el('button', {}, 'Push')), receipt);
  form.addEventListener('submit', async (submitted) => {
    submitted.preventDefault();
    try {
      const message = { channel: channel(), data: JSON.parse(data.value), ...(event.value && { event: event.value }) };
      const { results } = await call('POST', '/push?wait=flushed', message);
      receipt.replaceChildren(json(results[0]));
    } catch (error) {
      receipt.replaceChildren(trouble(error));
    }
  });
  return form;
}
