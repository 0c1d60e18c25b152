// Whatever the order of subscribing, leaving, publishing and losing the connection: nothing is lost unseen, nothing is heard
// twice, and nothing published is published twice.

import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { OutriggerError } from '../src/error.ts';
import type { Outrigger } from '../src/outrigger.ts';
import type { Message, Position } from '../src/protocol.ts';
import type { Transport } from '../src/transports/link.ts';
import { browser } from './browser.ts';
import { clientOf } from './client.ts';
import { ModelServer, pass } from './model.ts';

const CHANNELS = ['a', 'b', 'c'];
const RUNS = 300;

beforeEach(() => vi.useFakeTimers());
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** What is done, and how long it is looked at. */
const step = fc.record({
  act: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom('push', 'publish') },
    { weight: 2, arbitrary: fc.constantFrom('subscribe', 'unsubscribe', 'flicker') },
    { weight: 3, arbitrary: fc.constantFrom('cut', 'close', 'lose one', 'wall', 'start anew') },
  ),
  channel: fc.constantFrom(...CHANNELS),
  /** Which of the tabs, where there are several. */
  tab: fc.nat({ max: 2 }),
  wait: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 60 }), fc.integer({ min: 500, max: 3000 })),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** From `subscribed` to `unsubscribed`: one stay on a channel. */
interface Stay {
  from: Position;
  heard: Message[];
  /** After how many messages a gap was told of. */
  gaps: { after: number; to: Position }[];
}

/** Keeps a record of every stay of a client. */
function record(live: Outrigger, name: string): { stays: Stay[]; current(): Stay | undefined } {
  const stays: Stay[] = [];
  let stay: Stay | undefined;
  const channel = live.channel(name);
  channel
    .on('subscribed', (reply) => {
      if (!stay) stays.push((stay = { from: reply, heard: [], gaps: [] }));
    })
    .on('unsubscribed', () => { stay = undefined; })
    .on('gap', (gap) => stay?.gaps.push({ after: stay.heard.length, to: gap }));
  live.on('message', (_, message) => {
    if (message.channel !== name) return;
    if (!stay) throw new Error(`${name}: heard while not followed`);
    stay.heard.push(message);
  });
  return { stays, current: () => stay };
}

/** Goes through the messages of a stay as somebody who trusts `seq` alone. Holes stand only where a gap was told of. */
function check(stay: Stay): void {
  let { epoch, seq } = stay.from;
  const gaps = [...stay.gaps];
  for (const [n, message] of stay.heard.entries()) {
    while (gaps.length > 0 && gaps[0]!.after <= n) ({ epoch, seq } = gaps.shift()!.to);
    expect(message.seq, `after ${seq} of ${epoch}`).toBe(seq + 1);
    seq += 1;
  }
}

async function play(server: ModelServer, tabs: Outrigger[], steps: Step[]) {
  const acks: Promise<unknown>[] = [];
  for (const { act, channel: name, tab, wait } of steps) {
    const live = tabs[tab % tabs.length]!;
    const channel = live.channel(name);
    if (act === 'push') server.push(name, null);
    if (act === 'publish') acks.push(channel.publish(null).catch(unlessClosed));
    if (act === 'subscribe') channel.subscribe();
    if (act === 'unsubscribe') channel.unsubscribe();
    if (act === 'flicker') channel.unsubscribe().subscribe().unsubscribe().subscribe();
    if (act === 'start anew') live.close();
    if (act === 'start anew') live.connect();
    if (act === 'cut') server.cut();
    if (act === 'close') server.close(4003);
    if (act === 'lose one') server.toLose += 1;
    // WebSockets do not get through any more, or again.
    if (act === 'wall' && !server.blocked.delete('websocket')) server.blocked.add('websocket');
    await pass(wait);
  }
  server.toLose = 0;
  server.blocked.clear();
  await pass(120_000);
  for (const name of CHANNELS) server.push(name, 'last');
  await pass(120_000);
  return acks;
}

const unlessClosed = (error: OutriggerError) => {
  if (error.code !== 'closed') throw error;
};

interface Setting {
  transports: Transport[];
  history: number;
  /** How many tabs share the connection. */
  tabs?: number;
}

async function run(steps: Step[], { transports, history, tabs: count = 1 }: Setting): Promise<void> {
  let seed = 1;
  vi.spyOn(Math, 'random').mockImplementation(() => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647);
  const server = new ModelServer();
  server.history = history;
  if (count > 1) browser();
  const tabs = Array.from({ length: count }, () => clientOf(server, { transports, shared: count > 1 }).live);
  const records = tabs.flatMap((live) => CHANNELS.map((name) => ({ name, ...record(live, name) })));
  const acks = await play(server, tabs, steps);
  // A hole is asked about once: it takes a second loss, of the answer, to make a gap of it.
  const losses = steps.filter((it) => it.act === 'lose one').length;
  for (const { name, stays, current } of records) {
    const { head, log } = server.channel(name);
    for (const stay of stays) check(stay);
    const stay = current();
    if (stay) expect(Math.max(stay.heard.at(-1)?.seq ?? 0, stay.gaps.at(-1)?.to.seq ?? 0), `${name} is at its end`).toBe(head);
    if (history === Infinity) expect(stays.flatMap((it) => it.gaps).length).toBeLessThanOrEqual(losses / 2);
    expect(new Set(log.map((it) => it.id)).size, 'published once').toBe(log.length);
  }
  await Promise.all(acks);
  for (const it of tabs) it.close();
}

describe.each<[string, Omit<Setting, 'history'>]>([
  ['over WebSocket', { transports: ['websocket'] }],
  ['over event stream', { transports: ['sse'] }],
  ['over long-poll', { transports: ['poll'] }],
  ['over whatever passes', { transports: ['websocket', 'sse', 'poll'] }],
  ['in three tabs', { transports: ['websocket', 'sse', 'poll'], tabs: 3 }],
])('%s', (_, setting) => {
  test.each([['nothing is lost and nothing is doubled', Infinity], ['what a short history lost is told', 2]])('whatever the order, %s', async (_, history) => {
    const property = fc.asyncProperty(fc.array(step, { maxLength: 25 }), (steps) => run(steps, { ...setting, history }));
    await fc.assert(property, { numRuns: RUNS });
  }, 120_000);
});
