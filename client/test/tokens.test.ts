import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { following } from './client.ts';
import { LATENCY, ModelServer, pass } from './model.ts';

let server: ModelServer;
beforeEach(() => {
  vi.useFakeTimers();
  server = new ModelServer();
});
afterEach(() => vi.useRealTimers());

describe('tokens', () => {
  const tokens = () => {
    let n = 0;
    return vi.fn(async () => `t${++n}`);
  };

  test('getToken is asked once for many connections', async () => {
    const getToken = tokens();
    await following(server, { getToken });
    server.cut();
    await pass(2000);
    expect(server.attempts.map((it) => it.token)).toEqual(['t1', 't1']);
  });

  test('it is asked before the token ends, and the connection goes on with the new one', async () => {
    const getToken = tokens();
    const { live } = await following(server, { getToken });
    const expiring = vi.fn();
    live.on('expiring', expiring);
    server.tellAll({ type: 'expiring', expiresAt: 123 });
    await pass(1000);
    expect(server.commands.at(-1)).toMatchObject({ type: 'refresh', token: 't2' });
    expect(expiring).toHaveBeenCalledWith(123);
    expect(server.attempts).toHaveLength(1);
  });

  test('a renewal that a loss overtakes is no error: the next connection shows the new token', async () => {
    const { errors } = await following(server, { getToken: tokens() });
    server.tellAll({ type: 'expiring', expiresAt: 123 });
    await pass(LATENCY + 5);
    server.cut();
    await pass(2000);
    expect([errors, server.attempts.at(-1)!.token]).toEqual([[], 't2']);
  });

  test.each([1008, 4004, 4008])('it is asked for another after %i', async (code) => {
    const { live } = await following(server, { getToken: tokens() });
    server.close(code);
    await pass(2000);
    expect([server.attempts.at(-1)!.token, live.state]).toEqual(['t2', 'connected']);
  });

  test.each(['websocket', 'sse', 'poll'] as const)('a token that is refused again and again ends it: %s', async (transport) => {
    server.refuse = () => ({ code: 1008, reason: 'Invalid token' });
    const { live } = await following(server, { getToken: tokens(), transports: [transport] });
    await pass(600_000);
    expect([server.attempts.map((it) => it.token), live.state]).toEqual([['t1', 't2', 't3'], 'closed']);
  });

  test('a token that is refused because it was made too soon after a revocation is not the last', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const { live } = await following(server, { getToken: tokens() });
    const revokedAt = Date.now();
    server.refuse = () => (Date.now() < revokedAt + 1000 ? { code: 1008, reason: 'Invalid token' } : undefined);
    server.close(4008, 'Token revoked');
    await pass(3000);
    expect(live.state).toBe('connected');
  });

  test('a refused token that cannot be renewed ends it at once', async () => {
    server.refuse = (token) => (token === 'good' ? undefined : { code: 1008, reason: 'Invalid token' });
    const { live } = await following(server, { token: 'bad' });
    expect([live.state, live.status.close]).toEqual(['closed', { code: 1008, reason: 'Invalid token' }]);
  });

  test('a cookie that expired is tried again: it may have been renewed', async () => {
    const { live } = await following(server);
    server.close(4004);
    await pass(2000);
    expect(live.state).toBe('connected');
  });

  test('a getToken that fails is told of and asked again', async () => {
    const getToken = vi.fn<() => Promise<string>>().mockRejectedValueOnce(new Error('login server is away')).mockResolvedValue('t');
    const { live, errors } = await following(server, { getToken });
    await pass(2000);
    expect([live.state, errors.map((it) => it.message)]).toEqual(['connected', ['login server is away']]);
  });
});
