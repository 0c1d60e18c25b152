import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { following } from './client.ts';
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
    const { live, said } = await following(server);
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
    await following(server);
    fire('offline');
    await pass(LATENCY);
    expect(server.commands.at(-1)).toEqual({ type: 'ping' });
  });

  test('a page that is looked at again does not wait for its turn', async () => {
    const { target } = page();
    vi.spyOn(Math, 'random').mockReturnValue(0.999);
    const { live } = await following(server, { transports: ['websocket'] });
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
    await following(server);
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
    const { heard } = await following(server);
    fire('pagehide', { persisted: true });
    expect(server.sessions.size).toBe(0);
    server.push('room.5', 'meanwhile');
    await pass(60_000);
    fire('pageshow', { persisted: true });
    await pass(1000);
    expect(heard).toEqual(['meanwhile']);
  });
});
