import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Outrigger } from '../src/outrigger.ts';
import { clientOf, listenTo } from './client.ts';
import { LATENCY, ModelServer, pass } from './model.ts';

let server: ModelServer;
beforeEach(() => {
  vi.useFakeTimers();
  server = new ModelServer();
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** A client that follows a channel and is connected. */
async function connected(options: Parameters<typeof clientOf>[1] = {}) {
  const client = clientOf(server, options);
  const room = listenTo(client.live, 'room.5');
  await pass(1000);
  return { ...client, ...room };
}

describe('coming', () => {
  test('nothing is opened before there is something to do', async () => {
    const { live } = clientOf(server);
    await pass(1000);
    expect([live.state, server.attempts]).toEqual(['idle', []]);
  });

  test('the first listener connects and subscribes', async () => {
    const { said, heard, live } = await connected();
    server.push('room.5', 'hello');
    await pass(LATENCY);
    expect(said).toEqual(['connecting', 'connected']);
    expect(heard).toEqual(['hello']);
    expect(live.status).toMatchObject({ transport: 'websocket', userId: 'u' });
  });

  test('a client without WebSocket falls to the next transport by itself', async () => {
    const { live } = await connected({ WebSocket: undefined as never });
    expect(live.status.transport).toBe('sse');
  });
});

describe('coming back', () => {
  test('after a cut everything missed is heard, once and in order', async () => {
    const { heard, said } = await connected();
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
    await connected({ transports: ['websocket'] });
    server.blocked.add('websocket');
    server.cut();
    await pass(120_000);
    const at = server.attempts.map((it) => it.at);
    const waits = at.slice(1).map((it, n) => Math.round((it - at[n]!) / 100) * 100).slice(1);
    expect(waits.slice(0, 7)).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  });

  test('they wait anything down to nothing: clients cut off together do not return together', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0);
    await connected({ transports: ['websocket'] });
    server.cut();
    await pass(0);
    expect(server.attempts).toHaveLength(2);
  });

  test('the slot a draining server gives is kept, and messages are heard until it closes', async () => {
    const { heard } = await connected();
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
    const { live } = await connected();
    server.refuse = undefined;
    await pass(18_000);
    expect(server.transports).toEqual(['websocket']);
    await pass(3000);
    expect([server.transports, live.state]).toEqual([['websocket', 'websocket'], 'connected']);
  });

  test.each(['sse', 'poll'] as const)('over %s too', async (transport) => {
    server.refuse = () => ({ code: 4006, reason: 'Come back later', afterMs: 20_000 });
    await connected({ transports: [transport] });
    server.refuse = undefined;
    await pass(18_000);
    expect(server.attempts).toHaveLength(1);
    await pass(3000);
    expect(server.attempts).toHaveLength(2);
  });

  test('a server that does not close by then is left', async () => {
    const { live } = await connected();
    server.tellAll({ type: 'reconnect', afterMs: 3000, reason: 'drain' });
    await pass(5000);
    expect([server.attempts.length, live.state]).toEqual([2, 'connected']);
  });

  test.each([4001, 4003, 4005, 4007, 4499, 1001, 1011, 1012])('it comes back after %i', async (code) => {
    const { live } = await connected();
    server.close(code);
    await pass(2000);
    expect([live.state, server.attempts.length]).toEqual(['connected', 2]);
  });

  test.each([4500, 4501, 4999])('it does not come back after %i', async (code) => {
    const { live, said } = await connected();
    const closed = vi.fn();
    live.on('closed', closed);
    server.close(code, 'go away');
    await pass(600_000);
    expect([live.state, server.attempts.length, said.at(-1)]).toEqual(['closed', 1, 'closed']);
    expect(closed).toHaveBeenCalledWith({ code, reason: 'go away' });
  });

  test.each(['sse', 'poll'] as const)('nor over %s', async (transport) => {
    const { live } = await connected({ transports: [transport] });
    server.close(4501, 'out');
    await pass(100_000);
    expect([live.status.close?.code, server.attempts.length]).toEqual([4501, 1]);
  });

  test('a poll that meets a node that does not know it is a new session, and nothing is lost', async () => {
    const { said, heard } = await connected({ transports: ['poll'] });
    server.sessions.clear();
    server.push('room.5', 'meanwhile');
    await pass(60_000);
    expect([said, heard]).toEqual([['connecting', 'connected', 'connected'], ['meanwhile']]);
    expect(server.sessions.size).toBe(1);
  });

  test('connect() opens it again after that', async () => {
    const { live, heard } = await connected();
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
    await connected({ transports: ['sse'] });
    server.close(4003);
    await pass(6500);
    expect(server.attempts).toHaveLength(1);
    await pass(1000);
    expect(server.attempts).toHaveLength(2);
  });
});

describe('silence', () => {
  test('a quiet WebSocket is asked for a sign of life, and kept if it gives one', async () => {
    await connected();
    await pass(200_000);
    expect(server.commands.filter((it) => it.type === 'ping').length).toBeGreaterThan(4);
    expect(server.attempts).toHaveLength(1);
  });

  test('one that gives none is left within ten seconds', async () => {
    const { said } = await connected();
    // The network swallows everything from here on.
    for (const it of server.sessions) it.tell = () => {};
    await pass(29_500);
    expect(said).toEqual(['connecting', 'connected']);
    await pass(10_000);
    expect(server.attempts).toHaveLength(2);
  });

  test('an event stream is kept while its heartbeats come, and left when they do not', async () => {
    await connected({ transports: ['sse'] });
    await pass(200_000);
    expect(server.attempts).toHaveLength(1);
    server.mute.add('sse');
    await pass(61_000);
    expect(server.attempts).toHaveLength(2);
  });

  test('a greeting that does not come is waited for ten seconds, and then the next transport is tried', async () => {
    server.mute.add('websocket');
    const { live } = await connected();
    await pass(8500);
    expect(server.transports).toEqual(['websocket']);
    await pass(1000);
    expect([server.transports, live.state]).toEqual([['websocket', 'sse'], 'connected']);
  });
});

describe('transports', () => {
  test('where WebSockets do not pass, the event stream is tried at once', async () => {
    server.blocked.add('websocket');
    const { live, heard } = await connected();
    server.push('room.5', 'hi');
    await pass(100);
    expect([live.status.transport, server.transports, heard]).toEqual(['sse', ['websocket', 'sse'], ['hi']]);
  });

  test('and where those do not pass, long-poll', async () => {
    server.blocked.add('websocket').add('sse');
    const { live, heard } = await connected();
    server.push('room.5', 'hi');
    await pass(100);
    expect([live.status.transport, heard]).toEqual(['poll', ['hi']]);
  });

  test('where nothing passes, it begins again from the best, after a pause', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.999);
    server.blocked.add('websocket').add('sse').add('poll');
    clientOf(server).live.connect();
    await pass(700);
    expect(server.transports).toEqual(['websocket', 'sse', 'poll', 'websocket', 'sse', 'poll']);
  });

  test('one that has worked before is given three tries', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
    const { live } = await connected();
    await pass(10_000);
    server.blocked.add('websocket');
    server.cut();
    await pass(10_000);
    expect([server.transports, live.status.transport]).toEqual([['websocket', 'websocket', 'websocket', 'sse'], 'sse']);
  });

  test('the position goes along from one transport to the next', async () => {
    const { heard, live } = await connected();
    server.push('room.5', 1);
    await pass(100);
    for (const [blocked, next] of [['websocket', 'sse'], ['sse', 'poll']] as const) {
      server.blocked.add(blocked);
      server.cut();
      server.push('room.5', next);
      await pass(60_000);
      expect(live.status.transport).toBe(next);
    }
    expect(heard).toEqual([1, 'sse', 'poll']);
  });

  test('it climbs back once the better one passes, and nothing is lost on the way', async () => {
    server.blocked.add('websocket');
    const { heard, live, said } = await connected();
    server.blocked.clear();
    for (let n = 0; n < 100; n += 1) {
      server.push('room.5', n);
      await pass(1000);
    }
    expect(live.status.transport).toBe('websocket');
    expect(heard).toEqual(Array.from({ length: 100 }, (_, n) => n));
    expect(said).toEqual(['connecting', 'connected', 'connected']);
    expect(server.sessions.size).toBe(1);
  });

  test('a better one that is turned away for now leaves the other alone', async () => {
    server.blocked.add('websocket');
    const { said } = await connected();
    server.blocked.clear();
    server.refuse = () => ({ code: 4006, reason: 'Come back later', afterMs: 5000 });
    await pass(110_000);
    expect([server.transports.slice(0, 3), said]).toEqual([['websocket', 'sse', 'websocket'], ['connecting', 'connected']]);
  });

  test('what is on its way then is published all the same, once', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
    server.blocked.add('websocket');
    const { channel, live } = await connected();
    server.blocked.clear();
    // The old way swallows it.
    server.answer = ({ type }) => (type === 'publish' && server.sessions.size > 1 ? { type: 'pong' } : undefined);
    await pass(58_900);
    const acks: Promise<{ seq?: number }>[] = [];
    for (let n = 0; n < 80; n += 1) {
      acks.push(channel.publish(n));
      await pass(5);
    }
    await pass(3000);
    expect(live.status.transport).toBe('websocket');
    const seqs = (await Promise.all(acks)).map((it) => it.seq);
    expect(new Set(seqs).size).toBe(80);
    expect(server.channel('room.5').log).toHaveLength(80);
  });

  test('it looks for it ever more seldom', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
    server.blocked.add('websocket');
    await connected();
    await pass(60 * 60_000);
    expect(server.transports.filter((it) => it === 'websocket').length).toBeLessThan(12);
    expect(server.transports.filter((it) => it === 'websocket').length).toBeGreaterThan(5);
  });
});

describe('tokens', () => {
  const tokens = () => {
    let n = 0;
    return vi.fn(async () => `t${++n}`);
  };

  test('getToken is asked once for many connections', async () => {
    const getToken = tokens();
    await connected({ getToken });
    server.cut();
    await pass(2000);
    expect(server.attempts.map((it) => it.token)).toEqual(['t1', 't1']);
  });

  test('it is asked before the token ends, and the connection goes on with the new one', async () => {
    const getToken = tokens();
    const { live } = await connected({ getToken });
    const expiring = vi.fn();
    live.on('expiring', expiring);
    server.tellAll({ type: 'expiring', expiresAt: 123 });
    await pass(1000);
    expect(server.commands.at(-1)).toMatchObject({ type: 'refresh', token: 't2' });
    expect(expiring).toHaveBeenCalledWith(123);
    expect(server.attempts).toHaveLength(1);
  });

  test('a renewal that a loss overtakes is no error: the next connection shows the new token', async () => {
    const { errors } = await connected({ getToken: tokens() });
    server.tellAll({ type: 'expiring', expiresAt: 123 });
    await pass(LATENCY + 5);
    server.cut();
    await pass(2000);
    expect([errors, server.attempts.at(-1)!.token]).toEqual([[], 't2']);
  });

  test.each([1008, 4004, 4008])('it is asked for another after %i', async (code) => {
    const { live } = await connected({ getToken: tokens() });
    server.close(code);
    await pass(2000);
    expect([server.attempts.at(-1)!.token, live.state]).toEqual(['t2', 'connected']);
  });

  test.each(['websocket', 'sse', 'poll'] as const)('a token that is refused again and again ends it: %s', async (transport) => {
    server.refuse = () => ({ code: 1008, reason: 'Invalid token' });
    const { live } = await connected({ getToken: tokens(), transports: [transport] });
    await pass(600_000);
    expect([server.attempts.map((it) => it.token), live.state]).toEqual([['t1', 't2', 't3'], 'closed']);
  });

  test('a token that is refused because it was made too soon after a revocation is not the last', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const { live } = await connected({ getToken: tokens() });
    const revokedAt = Date.now();
    server.refuse = () => (Date.now() < revokedAt + 1000 ? { code: 1008, reason: 'Invalid token' } : undefined);
    server.close(4008, 'Token revoked');
    await pass(3000);
    expect(live.state).toBe('connected');
  });

  test('a refused token that cannot be renewed ends it at once', async () => {
    server.refuse = (token) => (token === 'good' ? undefined : { code: 1008, reason: 'Invalid token' });
    const { live } = await connected({ token: 'bad' });
    expect([live.state, live.status.close]).toEqual(['closed', { code: 1008, reason: 'Invalid token' }]);
  });

  test('a cookie that expired is tried again: it may have been renewed', async () => {
    const { live } = await connected();
    server.close(4004);
    await pass(2000);
    expect(live.state).toBe('connected');
  });

  test('a getToken that fails is told of and asked again', async () => {
    const getToken = vi.fn<() => Promise<string>>().mockRejectedValueOnce(new Error('login server is away')).mockResolvedValue('t');
    const { live, errors } = await connected({ getToken });
    await pass(2000);
    expect([live.state, errors.map((it) => it.message)]).toEqual(['connected', ['login server is away']]);
  });
});

describe('the page', () => {
  const page = () => {
    const target = Object.assign(new EventTarget(), { visibilityState: 'visible' });
    const navigator = { onLine: true };
    const windowEvents = new EventTarget();
    vi.stubGlobal('document', target);
    vi.stubGlobal('navigator', navigator);
    vi.stubGlobal('addEventListener', windowEvents.addEventListener.bind(windowEvents));
    const fire = (name: string, more = {}) => windowEvents.dispatchEvent(Object.assign(new Event(name), more));
    return { target, navigator, fire };
  };

  test('while it is offline nothing is tried, and soon after it is back it connects', async () => {
    const { navigator, fire } = page();
    const { live, said } = await connected();
    navigator.onLine = false;
    server.cut();
    await pass(600_000);
    expect([server.attempts.length, said.at(-1), live.status.delay]).toEqual([1, 'reconnecting', undefined]);
    navigator.onLine = true;
    fire('online');
    await pass(1000);
    expect(live.state).toBe('connected');
  });

  test('going offline puts the connection in doubt: it is asked at once', async () => {
    const { fire } = page();
    await connected();
    fire('offline');
    await pass(LATENCY);
    expect(server.commands.at(-1)).toEqual({ type: 'ping' });
  });

  test('a page that is looked at again does not wait for its turn', async () => {
    const { target } = page();
    vi.spyOn(Math, 'random').mockReturnValue(0.999);
    const { live } = await connected({ transports: ['websocket'] });
    server.blocked.add('websocket');
    server.cut();
    await pass(70_000);
    server.blocked.clear();
    const before = server.attempts.length;
    target.dispatchEvent(new Event('visibilitychange'));
    await pass(600);
    expect([server.attempts.length, live.state]).toEqual([before + 1, 'connected']);
  });

  test('but for the time a server asked for, it does', async () => {
    const { target } = page();
    await connected();
    server.tellAll({ type: 'reconnect', afterMs: 20_000, reason: 'drain' });
    await pass(100);
    server.close(4003);
    await pass(100);
    target.dispatchEvent(new Event('visibilitychange'));
    await pass(15_000);
    expect(server.attempts).toHaveLength(1);
    await pass(6_000);
    expect(server.attempts).toHaveLength(2);
  });

  test('put aside by the browser it lets go, and comes back with the page, with nothing lost', async () => {
    const { fire } = page();
    const { heard } = await connected();
    fire('pagehide', { persisted: true });
    expect(server.sessions.size).toBe(0);
    server.push('room.5', 'meanwhile');
    await pass(60_000);
    fire('pageshow', { persisted: true });
    await pass(1000);
    expect(heard).toEqual(['meanwhile']);
  });
});

describe('the end', () => {
  test('close() ends it for good', async () => {
    const { live, said, channel } = await connected();
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
