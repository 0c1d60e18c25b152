// Why does somebody not get a channel's messages? The node's own answer, in its own words.

import { get } from './node.js';
import { card, el, field, json, trouble } from './page.js';

export default {
  title: 'Explain',
  open(root, _live, name = '', who = '') {
    const channel = el('input', { value: name, placeholder: 'room.5', autocomplete: 'off', required: true });
    const user = el('input', { value: who, placeholder: 'anonymous', autocomplete: 'off' });
    const answer = el('div', { 'aria-live': 'polite' });
    const form = el('form.fields', {}, field('Channel', channel), field('User', user), el('button', {}, 'Explain'));
    root.append(card('Who gets a channel, and what denies it', form, answer));
    const ask = async () => {
      const query = new URLSearchParams({ channel: channel.value });
      if (user.value) query.set('user', user.value);
      try {
        answer.replaceChildren(...said(await get(`/explain?${query}`)));
      } catch (error) {
        answer.replaceChildren(trouble(error));
      }
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      history.replaceState(null, '', `#explain/${encodeURIComponent(channel.value)}/${encodeURIComponent(user.value)}`);
      ask();
    });
    if (name) ask();
  },
};

/** Sentences first, the rest as it came. */
function said(explanation) {
  const sentences = [explanation.summary, explanation.why, explanation.subscribe?.why, explanation.publish?.why].filter((it) => typeof it === 'string');
  return [...sentences.map((it) => el('p.sentence', {}, it)), json(explanation)];
}
