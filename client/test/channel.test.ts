import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Gap, Message } from '../src/protocol.ts';
import { clientOf, listenTo } from './client.ts';
import { ModelServer, pass } from './model.ts';

let server: ModelServer;
beforeEach(() => {
  vi.useFakeTimers();
  server = new ModelServer();
});
afterEach(() => vi.useRealTimers());

async function following(name = 'room.5', options = {}) {
  const client = clientOf(server, options);
  const room = listenTo(client.live, name);
  const gaps: Gap[] = [];
  room.channel.on('gap', (gap) => gaps.push(gap));
  await pass(1000);
  return { ...client, ...room, gaps };
}

const asked = (type: string) => server.commands.filter((it) => it.type === type);

describe('following', () => {
  test('a channel is always the same one', () => {
    const { live } = clientOf(server);
    expect(live.channel('a')).toBe(live.channel('a'));
  });

  test('it is left with its last listener', async () => {
    const { channel } = await following();
    const other = vi.fn();
    channel.on('message', other);
    channel.off('message', other);
    await pass(100);
    expect(asked('unsubscribe')).toHaveLength(0);
    const only = vi.fn();
    const lone = clientOf(server).live.channel('room.6').on('message', only);
    await pass(100);
    lone.off('message', only).off('message', only);
    await pass(100);
    expect(asked('unsubscribe').map((it) => it.channel)).toEqual(['room.6']);
  });

  test('unless subscribe() was called', async () => {
    const { live } = clientOf(server);
    const handler = vi.fn();
    live.channel('room.6').subscribe().on('message', handler).off('message', handler);
    await pass(100);
    expect(live.channel('room.6').state).toBe('subscribed');
  });

  test('a component that is mounted, unmounted and mounted again asks once', async () => {
    const { live } = clientOf(server);
    const handler = vi.fn();
    live.channel('room.6').on('message', handler).off('message', handler).on('message', handler);
    await pass(100);
    expect(server.commands.map((it) => it.type)).toEqual(['subscribe']);
  });

  test('whoever comes again after leaving begins anew', async () => {
    const { channel, heard } = await following();
    server.push('room.5', 1);
    await pass(100);
    channel.unsubscribe();
    await pass(100);
    server.push('room.5', 'not for us');
    channel.subscribe();
    await pass(100);
    server.push('room.5', 2);
    await pass(100);
    expect(heard).toEqual([1, 2]);
  });

  test('what a question that was overtaken brings is left aside', async () => {
    const { channel, heard } = await following();
    channel.unsubscribe();
    await pass(1);
    channel.subscribe();
    await pass(1);
    server.push('room.5', 'in between');
    await pass(200);
    server.push('room.5', 'after');
    await pass(200);
    expect(heard.filter((it) => it === 'after')).toHaveLength(1);
    expect(channel.state).toBe('subscribed');
  });

  test('ready resolves when it is followed, and subscribes', async () => {
    const { live } = clientOf(server);
    const done = vi.fn();
    live.channel('room.6').ready.then(done);
    await pass(10);
    expect(done).not.toHaveBeenCalled();
    await pass(200);
    expect(done).toHaveBeenCalled();
    await live.channel('room.6').ready;
  });

  test('a channel that may not be followed says so, and is asked for again after a reconnect', async () => {
    server.answer = ({ type }) => (type === 'subscribe' ? { type: 'error', code: 'not_allowed', message: 'no', retryable: false } : undefined);
    const { channel, errors } = await following();
    expect([channel.state, errors.map((it: any) => it.code)]).toEqual(['refused', ['not_allowed']]);
    const ready = channel.ready.catch((error) => error.code);
    await pass(100);
    expect(await ready).toBe('not_allowed');
    server.answer = undefined;
    server.cut();
    await pass(2000);
    expect(channel.state).toBe('subscribed');
  });

  test('a refusal for now is tried again', async () => {
    let left = 2;
    server.answer = ({ type }) =>
      type === 'subscribe' && left-- > 0 ? { type: 'error', code: 'rate_limited', message: 'slow down', retryable: true } : undefined;
    const { channel, errors } = await following();
    await pass(5000);
    expect([channel.state, errors]).toEqual(['subscribed', []]);
  });

  test('a backend that takes the client off a channel is obeyed, also after a reconnect', async () => {
    const { channel } = await following();
    const left = vi.fn();
    channel.on('unsubscribed', left);
    server.tellAll({ type: 'unsubscribed', channel: 'room.5', reason: 'backend' });
    await pass(100);
    server.cut();
    await pass(2000);
    expect([left.mock.calls, channel.state, asked('subscribe').length]).toEqual([[['backend']], 'idle', 1]);
  });

  test('a backend that puts the client on a channel is heard, and its channel is restored', async () => {
    const { live } = await following();
    const heard: unknown[] = [];
    live.on('message', (data) => heard.push(data));
    const { epoch } = server.channel('news');
    server.tellAll({ type: 'subscribed', channel: 'news', epoch, seq: 0 });
    for (const it of server.sessions) it.follows.add('news');
    server.push('news', 'extra');
    await pass(100);
    server.cut();
    server.push('news', 'missed');
    await pass(2000);
    expect(heard).toEqual(['extra', 'missed']);
  });

  test('a message for this user alone is heard by the client', async () => {
    const { live } = await following();
    const heard = vi.fn();
    live.on('message', heard);
    server.tellAll({ type: 'message', id: 'd1', data: 'psst', timestamp: 1 });
    await pass(100);
    expect(heard.mock.calls[0]![0]).toBe('psst');
  });

  test('named events have listeners of their own', async () => {
    const { channel } = await following();
    const paid = vi.fn();
    channel.on('message:paid', paid);
    server.push('room.5', 1);
    server.push('room.5', 2, { event: 'paid' });
    await pass(100);
    expect(paid.mock.calls.map(([data]) => data)).toEqual([2]);
  });

  test('a handler that throws stops no other', async () => {
    const thrown = vi.fn();
    const { process } = globalThis as any;
    process.on('uncaughtException', thrown);
    const { channel } = await following();
    const second = vi.fn();
    channel.on('message', () => { throw new Error('mine'); }).on('message', second);
    server.push('room.5', 1);
    await pass(100);
    expect([second.mock.calls.length, thrown.mock.calls.length]).toEqual([1, 1]);
    process.off('uncaughtException', thrown);
  });
});

describe('nothing lost, nothing twice', () => {
  test('what comes again is dropped, by number and by id', async () => {
    const { heard } = await following();
    const first = server.push('room.5', 1);
    server.tellAll(first);
    server.tellAll({ ...first, seq: 2 });
    server.channel('room.5').head += 1;
    server.push('room.5', 3);
    await pass(100);
    expect(heard).toEqual([1, 3]);
  });

  test('a hole is asked about before anything after it is heard', async () => {
    const { heard, gaps } = await following();
    server.push('room.5', 1);
    await pass(100);
    const [session] = server.sessions;
    session!.follows.delete('room.5');
    server.push('room.5', 2);
    session!.follows.add('room.5');
    server.push('room.5', 3);
    await pass(200);
    expect([heard, gaps]).toEqual([[1, 2, 3], []]);
  });

  test('a hole the server cannot fill is a gap, said once', async () => {
    const { heard, gaps } = await following();
    server.push('room.5', 1);
    await pass(100);
    server.channel('room.5').head += 5;
    server.channel('room.5').log.length = 0;
    server.push('room.5', 'after');
    await pass(200);
    expect(heard).toEqual([1, 'after']);
    expect(gaps.map((it) => it.reason)).toEqual(['missing']);
  });

  test('sparse numbers are no holes where prev says so', async () => {
    const { heard, gaps } = await following();
    server.channel('room.5').head = 9;
    server.push('room.5', 'sparse', { prev: 0 });
    await pass(100);
    expect([heard, gaps, asked('subscribe').length]).toEqual([['sparse'], [], 1]);
  });

  test('a message that left this client out leaves no hole', async () => {
    const { heard, gaps } = await following();
    server.channel('room.5').head += 1;
    server.tellAll({ type: 'skipped', channel: 'room.5', seq: 1 });
    server.push('room.5', 2);
    await pass(100);
    expect([heard, gaps, asked('subscribe').length]).toEqual([[2], [], 1]);
  });

  test('a conflated channel has holes on purpose', async () => {
    server.answer = ({ type, channel }) =>
      type === 'subscribe' ? { type: 'subscribed', epoch: server.channel(channel).epoch, seq: 0, conflated: true } : undefined;
    const { heard, gaps, channel } = await following();
    for (const it of server.sessions) it.follows.add('room.5');
    server.channel('room.5').head = 7;
    server.push('room.5', 'latest');
    await pass(100);
    expect([heard, gaps, channel.isConflated]).toEqual([['latest'], [], true]);
  });

  test('a gap the server tells of is passed on, and the position goes on from there', async () => {
    const { live, gaps, channel } = await following();
    const all = vi.fn();
    live.on('gap', all);
    const { epoch } = server.channel('room.5');
    server.tellAll({ type: 'gap', channel: 'room.5', epoch, seq: 40, reason: 'slow' });
    await pass(100);
    expect(gaps).toMatchObject([{ reason: 'slow', seq: 40 }]);
    expect([channel.position, all.mock.calls.length]).toEqual([{ epoch, seq: 40 }, 1]);
  });

  test('more than the history holds is a gap', async () => {
    server.history = 2;
    const { heard, gaps } = await following();
    server.cut();
    for (let n = 0; n < 3; n += 1) server.push('room.5', n);
    await pass(2000);
    server.push('room.5', 'on');
    await pass(100);
    expect([heard, gaps.map((it) => it.reason)]).toEqual([['on'], ['history']]);
  });

  test('a server that forgot everything is a gap, and its old messages are not heard again', async () => {
    const { heard, gaps } = await following();
    server.push('room.5', 1, { id: 'order-1' });
    await pass(100);
    server.restart();
    await pass(2000);
    server.push('room.5', 1, { id: 'order-1' });
    server.push('room.5', 2, { id: 'order-2' });
    await pass(100);
    expect([heard, gaps.length]).toEqual([[1, 2], 1]);
  });

  test('an erased message keeps its place', async () => {
    const { heard } = await following();
    server.push('room.5', null, { erased: true });
    server.push('room.5', 2);
    await pass(100);
    expect(heard).toEqual([null, 2]);
  });
});

describe('reading in a loop', () => {
  test('messages come in order, and leaving the loop leaves the channel', async () => {
    const { live } = clientOf(server);
    const read: unknown[] = [];
    const done = (async () => {
      for await (const message of live.channel('room.6')) {
        read.push(message.data);
        if (read.length === 2) break;
      }
    })();
    await pass(100);
    for (const n of [1, 2, 3]) server.push('room.6', n);
    await pass(100);
    await done;
    expect([read, asked('unsubscribe').length]).toEqual([[1, 2], 1]);
  });

  test('a reader that does not keep up is told how many it missed', async () => {
    const { channel } = await following();
    const reader = channel[Symbol.asyncIterator]();
    for (let n = 0; n < 1003; n += 1) server.push('room.5', n);
    await pass(100);
    const { value } = await reader.next();
    expect([value.data, value.dropped]).toEqual([3, 3]);
    expect((await reader.next()).value.dropped).toBeUndefined();
  });

  test('the loop ends with the channel, after what has come', async () => {
    const { channel } = await following();
    const reader = channel[Symbol.asyncIterator]();
    server.push('room.5', 'last');
    await pass(100);
    channel.unsubscribe();
    await pass(100);
    expect((await reader.next()).value.data).toBe('last');
    expect((await reader.next()).done).toBe(true);
  });

  test('a channel that may not be followed ends it with the reason', async () => {
    server.answer = () => ({ type: 'error', code: 'not_allowed', message: 'no', retryable: false });
    const { live } = clientOf(server);
    const next = live.channel('room.6')[Symbol.asyncIterator]().next();
    const outcome = next.catch((error) => error.code);
    await pass(200);
    expect(await outcome).toBe('not_allowed');
  });
});

describe('publishing', () => {
  test('the acknowledgement says where it is', async () => {
    const { channel, heard } = await following();
    const ack = channel.publish({ text: 'hi' }, { event: 'said', id: 'mine' });
    await pass(100);
    expect(await ack).toMatchObject({ id: 'mine', seq: 1 });
    expect([heard, asked('publish')[0].event]).toEqual([[{ text: 'hi' }], 'said']);
  });

  test('what is published before there is a connection is sent with it', async () => {
    const { live } = clientOf(server);
    const ack = live.channel('room.5').publish('early');
    await pass(200);
    expect((await ack).seq).toBe(1);
  });

  test('after a loss it is sent again under the same id, and published once', async () => {
    const { channel, heard } = await following();
    const ack = channel.publish('once');
    await pass(25); // It arrived; its answer is on the way.
    server.cut();
    await pass(2000);
    expect((await ack).seq).toBe(1);
    expect([heard, new Set(asked('publish').map((it) => it.id)).size, asked('publish').length]).toEqual([['once'], 1, 2]);
  });

  test('a refusal rejects, in the words of the backend', async () => {
    server.answer = ({ type }) => (type === 'publish' ? { type: 'error', code: 'invalid', message: 'mind your words', retryable: false } : undefined);
    const { channel, errors } = await following();
    const refused = channel.publish('rude').catch((error) => error);
    await pass(100);
    expect(await refused).toMatchObject({ code: 'invalid', message: 'mind your words', channel: 'room.5', retryable: false });
    expect(errors).toEqual([]);
  });

  test('a refusal for now is tried again', async () => {
    let left = 2;
    server.answer = ({ type }) => (type === 'publish' && left-- > 0 ? { type: 'error', code: 'rate_limited', message: '', retryable: true } : undefined);
    const { channel } = await following();
    const ack = channel.publish('patient');
    await pass(5000);
    expect((await ack).seq).toBe(1);
  });

  test('the queue has an end, and says so', async () => {
    const { live } = clientOf(server, { queue: 2 });
    server.blocked.add('websocket').add('sse').add('poll');
    const outcomes = [1, 2, 3].map((n) => live.channel('a').publish(n).catch((error) => error.code));
    await pass(10);
    expect(await outcomes[2]).toBe('queue_full');
    await pass(61_000);
    expect(await Promise.all(outcomes)).toEqual(['timeout', 'timeout', 'queue_full']);
  });

  test('one that is too large for the server is not sent for ever', async () => {
    const { channel } = await following();
    server.answer = ({ type, data }) => {
      if (type === 'publish' && data.length > 10) queueMicrotask(() => server.close(1009, 'Message too large'));
      return type === 'publish' && data.length > 10 ? { type: 'ignored' } : undefined;
    };
    const large = channel.publish('x'.repeat(100)).catch((error) => error.code);
    const small = channel.publish('small');
    await pass(3000);
    expect([await large, (await small).seq]).toEqual(['too_large', 1]);
  });

  test.each(['sse', 'poll'] as const)('over %s it is the same', async (transport) => {
    const { channel, heard } = await following('room.5', { transports: [transport] });
    const ack = channel.publish('hi');
    await pass(200);
    expect([(await ack).seq, heard]).toEqual([1, ['hi']]);
  });

  test('close() rejects what waits', async () => {
    const { live, channel } = await following();
    const outcome = channel.publish('late').catch((error) => error.code);
    live.close();
    expect(await outcome).toBe('closed');
  });
});

describe('history and presence', () => {
  test.each(['websocket', 'sse', 'poll'] as const)('the past is answered over %s', async (transport) => {
    const { channel } = await following('room.5', { transports: [transport] });
    server.push('room.5', 1);
    const history = channel.history({ limit: 10 });
    await pass(200);
    expect((await history).messages.map((it: Message) => it.data)).toEqual([1]);
  });

  test('a question without a connection is refused at once, and one that a loss overtakes too', async () => {
    const { live, channel } = await following();
    const idle = clientOf(server).live.channel('a').history().catch((error) => error.code);
    expect(await idle).toBe('offline');
    const lost = channel.history().catch((error) => error.code);
    server.cut();
    expect(await lost).toBe('offline');
    live.close();
  });

  test('members are kept current, over reconnects too', async () => {
    server.presence = true;
    server.channel('room.5').members.set('1', { userId: '1' });
    const { channel, live } = await following();
    const changes: string[][] = [];
    const told: string[] = [];
    channel.presence
      .on('change', (members) => changes.push([...members.keys()]))
      .on('joined', ({ userId }) => told.push(`+${userId}`))
      .on('left', ({ userId }) => told.push(`-${userId}`));
    expect([...channel.presence.members.keys()]).toEqual(['1']);
    server.tellAll({ type: 'joined', channel: 'room.5', userId: '2', info: { name: 'Two' } });
    server.tellAll({ type: 'left', channel: 'room.5', userId: '1' });
    await pass(100);
    expect(channel.presence.members.get('2')).toEqual({ userId: '2', info: { name: 'Two' } });
    server.channel('room.5').members.clear();
    server.channel('room.5').members.set('3', { userId: '3' });
    server.cut();
    await pass(2000);
    expect(changes).toEqual([['1', '2'], ['2'], ['3']]);
    expect(told).toEqual(['+2', '-1', '-2', '+3']);
    const asked = channel.presence.get();
    await pass(100);
    expect(await asked).toMatchObject({ members: [{ userId: '3' }], total: 1 });
    live.close();
  });

  test('who is there already is only known better, and who is gone already is not missed', async () => {
    server.presence = true;
    const { channel } = await following();
    const told: string[] = [];
    channel.presence.on('joined', ({ userId }) => told.push(`+${userId}`)).on('left', ({ userId }) => told.push(`-${userId}`));
    server.tellAll({ type: 'joined', channel: 'room.5', userId: '1' });
    server.tellAll({ type: 'joined', channel: 'room.5', userId: '1', info: 'new' });
    server.tellAll({ type: 'left', channel: 'room.5', userId: '9' });
    await pass(100);
    expect([told, channel.presence.members.get('1')!.info]).toEqual([['+1'], 'new']);
  });

  test('a crowd is counted, not named', async () => {
    server.presence = true;
    server.channel('room.5').members.set('1', { userId: '1' });
    const { channel } = await following();
    const changes: [number, number][] = [];
    const { presence } = channel;
    presence.on('change', (members) => changes.push([members.size, presence.total]));
    server.tellAll({ type: 'members', channel: 'room.5', total: 1001 });
    server.tellAll({ type: 'members', channel: 'room.5', total: 2, members: [{ userId: '1' }, { userId: '2' }] });
    await pass(100);
    expect(changes).toEqual([[0, 1001], [2, 2]]);
  });

  test('listening for members alone follows the channel, and listening no more leaves it', async () => {
    const { live } = clientOf(server);
    const handler = vi.fn();
    const { presence } = live.channel('room.6');
    presence.on('joined', handler);
    await pass(100);
    expect(live.channel('room.6').state).toBe('subscribed');
    presence.off('joined', handler);
    await pass(100);
    expect(live.channel('room.6').state).toBe('idle');
  });

  test('an engine that is out of reach and back is told of', async () => {
    const { live } = await following();
    const told: string[] = [];
    live.on('degraded', () => told.push('degraded')).on('restored', () => told.push('restored'));
    server.tellAll({ type: 'degraded', timestamp: 1 });
    server.tellAll({ type: 'restored', timestamp: 2 });
    await pass(100);
    expect(told).toEqual(['degraded', 'restored']);
  });

  test('what was refused is asked for again with a new token', async () => {
    server.answer = ({ type }) => (type === 'subscribe' ? { type: 'error', code: 'not_allowed', message: '', retryable: false } : undefined);
    const { channel } = await following('room.5', { getToken: () => 't' });
    server.answer = undefined;
    server.tellAll({ type: 'expiring', expiresAt: 1 });
    await pass(500);
    expect(channel.state).toBe('subscribed');
  });
});
