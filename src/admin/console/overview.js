// Everything at a glance: who is connected, what flows, whether the books balance, how the backend does.

import { bytes, count, perSecond, quantile, rate, seconds } from './numbers.js';
import { get } from './node.js';
import { card, el, every, facts, link, sparkline } from './page.js';

/** Rates and latencies look back over so many readings, one a second. */
const WINDOW = 10;

export default {
  title: 'Overview',
  open(root, live) {
    const tiles = el('div.tiles');
    const books = el('div');
    const backend = el('div');
    const node = el('div');
    const warnings = el('div');
    root.append(
      warnings, tiles,
      el('div.columns', {}, card('Deliveries: the books', books), card('Backend', backend), card('This node', node)),
    );
    const numbers = live.watch((readings) => {
      tiles.replaceChildren(...TILES.map((it) => tile(it, readings)));
      books.replaceChildren(...ledger(readings));
      backend.replaceChildren(webhooks(readings));
    });
    const state = every(5000, async () => {
      const [health, ready] = await Promise.all([get('/healthz'), readiness()]).catch(() => [null, null]);
      if (health) {
        node.replaceChildren(about(health, ready, live.readings.at(-1)));
        warnings.replaceChildren(...warningsOf(health, ready));
      }
    });
    return () => {
      numbers();
      state();
    };
  },
};

/** `/readyz` says no with 503 and the same body. */
const readiness = () => get('/readyz').catch((error) => error.body);

const TILES = [
  { name: 'Connections', value: (it) => it.sum('connections'), say: count, parts: (it) => it.by('connections', 'transport') },
  { name: 'Deliveries', rate: 'deliveries_expected_total', say: perSecond },
  { name: 'Pushes', rate: 'pushes_total', say: perSecond, parts: (it) => it.by('pushes_total', 'status') },
  { name: 'Client messages', rate: 'messages_received_total', say: perSecond },
  { name: 'Sent', rate: 'sent_bytes_total', say: (it) => `${bytes(it)}/s` },
  { name: 'Waiting in outboxes', value: (it) => it.sum('deliveries_queued'), say: count },
  { name: 'Dropped', rate: 'deliveries_dropped_total', say: perSecond, parts: (it) => it.by('deliveries_dropped_total', 'reason') },
  { name: 'Refused', rate: 'rejected_total', say: perSecond, parts: (it) => it.by('rejected_total', 'reason') },
];

function tile({ name, value, rate: counter, say, parts }, readings) {
  const course = readings.map((it, at) => {
    if (value) return value(it);
    return rate(readings[Math.max(0, at - WINDOW)], it, counter);
  });
  const beneath = (parts?.(readings.at(-1)) ?? []).filter(([, it]) => it > 0).slice(0, 4);
  return el(
    'section.tile', {},
    el('h2', {}, name),
    el('strong', {}, say(course.at(-1) ?? 0)),
    sparkline(course, `${name} over the last ${readings.length} seconds`),
    el('p.dim', {}, beneath.map(([label, it]) => `${label} ${count(it)}`).join(' · ')),
  );
}

function ledger(readings) {
  const now = readings.at(-1);
  const before = readings[Math.max(0, readings.length - 1 - WINDOW)];
  const [expected, flushed, queued] = ['deliveries_expected_total', 'deliveries_flushed_total', 'deliveries_queued'].map((it) => now.sum(it));
  const dropped = now.by('deliveries_dropped_total', 'reason');
  const lost = dropped.reduce((sum, [, it]) => sum + it, 0);
  const isBalanced = expected === flushed + queued + lost;
  const share = (it) => `${expected > 0 ? (it / expected) * 100 : 0}%`;
  const part = (name, value) => {
    const piece = el(`span.${name}`, { title: `${name}: ${count(value)}` });
    piece.style.inlineSize = share(value);
    return piece;
  };
  return [
    el('div.bar', { 'aria-hidden': 'true' }, part('flushed', flushed), part('queued', queued), part('dropped', lost)),
    facts([
      ['Expected', count(expected)],
      ['Flushed to the kernel', count(flushed)],
      ['Queued', count(queued)],
      ...dropped.map(([reason, it]) => [`Dropped: ${reason}`, count(it)]),
      ['Half of the pushes delivered within', within(before, now, 'push_duration_seconds', 0.5, 'nothing pushed')],
      ['99 % delivered within', within(before, now, 'push_duration_seconds', 0.99, 'nothing pushed')],
    ]),
    el(isBalanced ? 'p.good' : 'p.bad', {}, isBalanced ? 'expected = flushed + queued + dropped' : 'The books do not balance'),
  ];
}

const BREAKER = ['closed', 'half open: one is trying', 'open: the backend is not asked'];

/** Below which time a share of what happened lately lies, in words. */
function within(before, now, name, share, nothing) {
  const it = quantile(before, now, name, share);
  return it === undefined ? nothing : `≤ ${seconds(it)}`;
}

function webhooks(readings) {
  const now = readings.at(-1);
  const before = readings[Math.max(0, readings.length - 1 - WINDOW)];
  const latency = (share) => within(before, now, 'webhook_duration_seconds', share, 'nothing asked');
  return facts([
    ['Questions', perSecond(rate(before, now, 'webhook_duration_seconds_count'))],
    ['Half answered within', latency(0.5)],
    ['99 % answered within', latency(0.99)],
    ['In flight, waiting', `${count(now.sum('webhook_in_flight'))}, ${count(now.sum('webhook_waiting'))}`],
    ['Circuit breaker', BREAKER[now.sum('webhook_breaker_state')]],
    ['Notices waiting', count(now.sum('notices_queued'))],
    ['Dead letters', link(count(now.sum('dead_letters')), 'dead')],
    ...now.by('webhook_duration_seconds_count', 'outcome').map(([outcome, it]) => [`Answered: ${outcome}`, count(it)]),
    ['Requests passed through', perSecond(rate(before, now, 'proxy_requests_total'))],
    ['Failed at the backend', count(now.sum('proxy_failures_total'))],
  ]);
}

function about(health, ready, now) {
  return facts([
    ['Version', health.version],
    ['Configuration', link(`generation ${health.generation}`, 'config')],
    ['Taking clients', ready?.accepting ? 'yes' : 'no: draining'],
    ['Engine', ready?.engine ? 'in reach' : 'out of reach'],
    ...(now?.has('process_resident_memory_bytes') ? [['Memory', bytes(now.sum('process_resident_memory_bytes'))]] : []),
    ...(now?.has('process_open_fds') ? [['File descriptors', count(now.sum('process_open_fds'))]] : []),
  ]);
}

function warningsOf(health, ready) {
  const said = [];
  if (health.lastReloadError) said.push(`The last configuration was not taken: ${health.lastReloadError}`);
  if (ready && !ready.accepting) said.push('This node is draining: it sends its clients elsewhere and ends.');
  if (ready && !ready.engine) said.push('The engine is out of reach: nothing is published meanwhile.');
  return said.map((it) => el('p.trouble', { role: 'alert' }, it));
}
