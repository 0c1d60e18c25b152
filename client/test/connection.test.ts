import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Outrigger } from '../src/outrigger.ts';
import { clientOf, following } from './client.ts';
import { LATENCY, ModelServer, pass } from './model.ts';

let server: ModelServer;
beforeEach(() => {
  vi.useFakeTimers();
  server = new ModelServer();
});
afterEach(() => vi.useRealTimers());

describe('coming', () => {
  test('nothing is opened before there is something to do', async () => {
    const { live } = clientOf(server);
    await pass(1000);
    expect([live.state, server.attempts]).toEqual(['idle', []]);
  });

  test('the first listener connects and subscribes', async () => {
    const { said, heard, live } = await following(server);
    server.push('room.5', 'hello');
    await pass(LATENCY);
    expect(said).toEqual(['connecting', 'connected']);
    expect(heard).toEqual(['hello']);
    expect(live.status).toMatchObject({ transport: 'websocket', userId: 'u' });
  });

  test('a client without WebSocket falls to the next transport by itself', async () => {
    const { live } = await following(server, { WebSocket: undefined as never });
    expect(live.status.transport).toBe('sse');
  });
});

describe('coming back', () => {
  test('after a cut everything missed is heard, once and in order', async () => {
    const { heard, said } = await following(server);
    server.push('room.5', 1);
    await pass(LATENCY);
    server.push('room.5', 2);
    server.cut();
    server.push('room.5', 3);
    await pass(2000);
    expect(heard).toEqual([1, 2, 3]);
    expect(said).toEqual(['connecting', 'connected', 'reconnecting', 'connected']);
  });

  test('attempts wait up to twice as long each time, and half a minute at most', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.999_999);
    await following(server, { transports: ['websocket'] });
    server.blocked.add('websocket');
    server.cut();
    await pass(120_000);
    const at = server.attempts.map((it) => it.at);
    const waits = at.slice(1).map((it, n) => Math.round((it - at[n]!) / 100) * 100).slice(1);
    expect(waits.slice(0, 7)).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  });

  test('they wait anything down to nothing: clients cut off together do not return together', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0);
    await following(server, { transports: ['websocket'] });
    server.cut();
    await pass(0);
    expect(server.attempts).toHaveLength(2);
  });

  test('the slot a draining server gives is kept, and messages are heard until it closes', async () => {
    const { heard } = await following(server);
    server.tellAll({ type: 'reconnect', afterMs: 9000, reason: 'drain' });
    await pass(1000);
    server.push('room.5', 'still here');
    await pass(LATENCY);
    server.close(4003);
    await pass(7000);
    expect([heard, server.attempts.length]).toEqual([['still here'], 1]);
    await pass(1500);
    expect(server.attempts).toHaveLength(2);
  });

  test('who is turned away by a crowd comes back when it is told to', async () => {
    server.refuse = () => ({ code: 4006, reason: 'Come back later', afterMs: 20_000 });
    const { live } = await following(server);
    server.refuse = undefined;
    await pass(18_000);
    expect(server.transports).toEqual(['websocket']);
    await pass(3000);
    expect([server.transports, live.state]).toEqual([['websocket', 'websocket'], 'connected']);
  });

  test.each(['sse', 'poll'] as const)('over %s too', async (transport) => {
    server.refuse = () => ({ code: 4006, reason: 'Come back later', afterMs: 20_000 });
    await following(server, { transports: [transport] });
    server.refuse = undefined;
    await pass(18_000);
    expect(server.attempts).toHaveLength(1);
    await pass(3000);
    expect(server.attempts).toHaveLength(2);
  });

  test('a server that does not close by then is left', async () => {
    const { live } = await following(server);
    server.tellAll({ type: 'reconnect', afterMs: 3000, reason: 'drain' });
    await pass(5000);
    expect([server.attempts.length, live.state]).toEqual([2, 'connected']);
  });

  test.each([4001, 4003, 4005, 4007, 4499, 1001, 1011, 1012])('it comes back after %i', async (code) => {
    const { live } = await following(server);
    server.close(code);
    await pass(2000);
    expect([live.state, server.attempts.length]).toEqual(['connected', 2]);
  });

  test.each([4500, 4501, 4999])('it does not come back after %i', async (code) => {
    const { live, said } = await following(server);
    const closed = vi.fn();
    live.on('closed', closed);
    server.close(code, 'go away');
    await pass(600_000);
    expect([live.state, server.attempts.length, said.at(-1)]).toEqual(['closed', 1, 'closed']);
    expect(closed).toHaveBeenCalledWith({ code, reason: 'go away' });
  });

  test.each(['sse', 'poll'] as const)('nor over %s', async (transport) => {
    const { live } = await following(server, { transports: [transport] });
    server.close(4501, 'out');
    await pass(100_000);
    expect([live.status.close?.code, server.attempts.length]).toEqual([4501, 1]);
  });

  test('a poll that meets a node that does not know it is a new session, and nothing is lost', async () => {
    const { said, heard } = await following(server, { transports: ['poll'] });
    server.sessions.clear();
    server.push('room.5', 'meanwhile');
    await pass(60_000);
    expect([said, heard]).toEqual([['connecting', 'connected', 'connected'], ['meanwhile']]);
    expect(server.sessions.size).toBe(1);
  });

  test('connect() opens it again after that', async () => {
    const { live, heard } = await following(server);
    server.close(4501);
    await pass(1000);
    live.connect();
    await pass(1000);
    server.push('room.5', 'again');
    await pass(1000);
    expect(heard).toEqual(['again']);
  });

  test('the retry of an event stream is obeyed', async () => {
    server.retry = 7000;
    await following(server, { transports: ['sse'] });
    server.close(4003);
    await pass(6500);
    expect(server.attempts).toHaveLength(1);
    await pass(1000);
    expect(server.attempts).toHaveLength(2);
  });
});

describe('silence', () => {
  test('a quiet WebSocket is asked for a sign of life, and kept if it gives one', async () => {
    await following(server);
    await pass(200_000);
    expect(server.commands.filter((it) => it.type === 'ping').length).toBeGreaterThan(4);
    expect(server.attempts).toHaveLength(1);
  });

  test('one that gives none is left within ten seconds', async () => {
    const { said } = await following(server);
    // The network swallows everything from here on.
    for (const it of server.sessions) it.tell = () => {};
    await pass(29_500);
    expect(said).toEqual(['connecting', 'connected']);
    await pass(10_000);
    expect(server.attempts).toHaveLength(2);
  });

  test('an event stream is kept while its heartbeats come, and left when they do not', async () => {
    await following(server, { transports: ['sse'] });
    await pass(200_000);
    expect(server.attempts).toHaveLength(1);
    server.mute.add('sse');
    await pass(61_000);
    expect(server.attempts).toHaveLength(2);
  });

  test('a greeting that does not come is waited for ten seconds, and then the next transport is tried', async () => {
    server.mute.add('websocket');
    const { live } = await following(server);
    await pass(8500);
    expect(server.transports).toEqual(['websocket']);
    await pass(1000);
    expect([server.transports, live.state]).toEqual([['websocket', 'sse'], 'connected']);
  });
});

describe('the end', () => {
  test('close() ends it for good', async () => {
    const { live, said, channel } = await following(server);
    const left = vi.fn();
    channel.on('unsubscribed', left);
    live.close();
    await pass(600_000);
    expect([server.sessions.size, server.attempts.length, said.at(-1)]).toEqual([0, 1, 'closed']);
    expect(left).toHaveBeenCalledOnce();
    await expect(channel.publish('late')).rejects.toMatchObject({ code: 'closed' });
  });

  test('an error nobody listens for goes to the console', async () => {
    const shown = vi.spyOn(console, 'error').mockImplementation(() => {});
    const live = new Outrigger('http://app.test/realtime', { WebSocket: server.WebSocket }).connect();
    await pass(100);
    server.tellAll({ type: 'error', code: 'bad_message', message: 'what?', retryable: false });
    await pass(100);
    expect(shown).toHaveBeenCalledWith('Outrigger:', expect.objectContaining({ code: 'bad_message', message: 'what?' }));
    live.close();
  });
});
