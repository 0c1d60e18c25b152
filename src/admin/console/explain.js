// Why does somebody not get a channel's messages? The node's own answer, in its own words.

import { get } from './node.js';
import { ago, count, seconds } from './numbers.js';
import { card, el, facts, field, link, table, trouble } from './page.js';

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

function said({ summary, rule, subscribe, publish, connections, receivers, position }) {
  return [
    summary && el('p.sentence', {}, summary),
    el('div.verdicts', {}, verdict('Subscribe', subscribe), verdict('Publish', publish)),
    facts([
      ['Rule', rule ? `${rule.match} (${rule.key})` : 'none'],
      ...(rule ? [['It asks for', `subscribe: ${rule.subscribe}, publish: ${rule.publish}`]] : []),
      ['History', rule?.history ? `${count(rule.history.size)} publications, ${seconds(rule.history.ttlMs / 1000)}` : 'none'],
      ['Slow readers', rule?.whenSlow],
      ['Seq', count(position.seq)],
      ['Would get a publication now', `${count(receivers.total)} on this node`],
    ]),
    connections && el('h3', {}, 'Their connections'),
    connections && table(THEIRS, connections, 'None on this node.'),
    el('h3', {}, 'Who would get it'),
    table(THEIRS.filter((it) => it.name !== 'Why'), receivers.connections, 'Nobody on this node.'),
  ].filter(Boolean);
}

function verdict(what, { decision, why }) {
  return el(`p.verdict.${decision}`, {}, el('b', {}, `${what}: ${decision}`), ` ${why}`);
}

const THEIRS = [
  { name: 'Connection', cell: (it) => link(it.id, 'connections', it.id) },
  { name: 'User', cell: (it) => it.user ?? 'anonymous' },
  { name: 'Transport', cell: (it) => it.transport },
  { name: 'Connected', cell: (it) => ago(it.connectedAt) },
  { name: 'Why', cell: (it) => (it.following ? 'follows it' : it.subscribe?.why) },
];
