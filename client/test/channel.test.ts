import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { clientOf, following } from './client.ts';
import { ModelServer, pass } from './model.ts';

let server: ModelServer;
beforeEach(() => {
  vi.useFakeTimers();
  server = new ModelServer();
});
afterEach(() => vi.useRealTimers());

const asked = (type: string) => server.commands.filter((it) => it.type === type);

describe('following', () => {
  test('a channel is always the same one', () => {
    const { live } = clientOf(server);
    expect(live.channel('a')).toBe(live.channel('a'));
  });

  test('it is left with its last listener', async () => {
    const { channel } = await following(server);
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
    const { channel, heard } = await following(server);
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
    const { channel, heard } = await following(server);
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
    const { channel, errors } = await following(server);
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
    const { channel, errors } = await following(server);
    await pass(5000);
    expect([channel.state, errors]).toEqual(['subscribed', []]);
  });

  test('a backend that takes the client off a channel is obeyed, also after a reconnect', async () => {
    const { channel } = await following(server);
    const left = vi.fn();
    channel.on('unsubscribed', left);
    server.tellAll({ type: 'unsubscribed', channel: 'room.5', reason: 'backend' });
    await pass(100);
    server.cut();
    await pass(2000);
    expect([left.mock.calls, channel.state, asked('subscribe').length]).toEqual([[['backend']], 'idle', 1]);
  });

  test('a backend that puts the client on a channel is heard, and its channel is restored', async () => {
    const { live } = await following(server);
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
    const { live } = await following(server);
    const heard = vi.fn();
    live.on('message', heard);
    server.tellAll({ type: 'message', id: 'd1', data: 'psst', timestamp: 1 });
    await pass(100);
    expect(heard.mock.calls[0]![0]).toBe('psst');
  });

  test('named events have listeners of their own', async () => {
    const { channel } = await following(server);
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
    const { channel } = await following(server);
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
    const { heard } = await following(server);
    const first = server.push('room.5', 1);
    server.tellAll(first);
    server.tellAll({ ...first, seq: 2 });
    server.channel('room.5').head += 1;
    server.push('room.5', 3);
    await pass(100);
    expect(heard).toEqual([1, 3]);
  });

  test('a hole is asked about before anything after it is heard', async () => {
    const { heard, gaps } = await following(server);
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
    const { heard, gaps } = await following(server);
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
    const { heard, gaps } = await following(server);
    server.channel('room.5').head = 9;
    server.push('room.5', 'sparse', { prev: 0 });
    await pass(100);
    expect([heard, gaps, asked('subscribe').length]).toEqual([['sparse'], [], 1]);
  });

  test('a message that left this client out leaves no hole', async () => {
    const { heard, gaps } = await following(server);
    server.channel('room.5').head += 1;
    server.tellAll({ type: 'skipped', channel: 'room.5', seq: 1 });
    server.push('room.5', 2);
    await pass(100);
    expect([heard, gaps, asked('subscribe').length]).toEqual([[2], [], 1]);
  });

  test('a conflated channel has holes on purpose', async () => {
    server.answer = ({ type, channel }) =>
      type === 'subscribe' ? { type: 'subscribed', epoch: server.channel(channel).epoch, seq: 0, conflated: true } : undefined;
    const { heard, gaps, channel } = await following(server);
    for (const it of server.sessions) it.follows.add('room.5');
    server.channel('room.5').head = 7;
    server.push('room.5', 'latest');
    await pass(100);
    expect([heard, gaps, channel.isConflated]).toEqual([['latest'], [], true]);
  });

  test('a gap the server tells of is passed on, and the position goes on from there', async () => {
    const { live, gaps, channel } = await following(server);
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
    const { heard, gaps } = await following(server);
    server.cut();
    for (let n = 0; n < 3; n += 1) server.push('room.5', n);
    await pass(2000);
    server.push('room.5', 'on');
    await pass(100);
    expect([heard, gaps.map((it) => it.reason)]).toEqual([['on'], ['history']]);
  });

  test('a server that forgot everything is a gap, and its old messages are not heard again', async () => {
    const { heard, gaps } = await following(server);
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
    const { heard } = await following(server);
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
    const { channel } = await following(server);
    const reader = channel[Symbol.asyncIterator]();
    for (let n = 0; n < 1003; n += 1) server.push('room.5', n);
    await pass(100);
    const { value } = await reader.next();
    expect([value.data, value.dropped]).toEqual([3, 3]);
    expect((await reader.next()).value.dropped).toBeUndefined();
  });

  test('the loop ends with the channel, after what has come', async () => {
    const { channel } = await following(server);
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
