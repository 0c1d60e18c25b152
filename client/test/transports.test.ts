import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { clientOf, following } from './client.ts';
import { ModelServer, pass } from './model.ts';

let server: ModelServer;
beforeEach(() => {
  vi.useFakeTimers();
  server = new ModelServer();
});
afterEach(() => vi.useRealTimers());

describe('transports', () => {
  test('where WebSockets do not pass, the event stream is tried at once', async () => {
    server.blocked.add('websocket');
    const { live, heard } = await following(server);
    server.push('room.5', 'hi');
    await pass(100);
    expect([live.status.transport, server.transports, heard]).toEqual(['sse', ['websocket', 'sse'], ['hi']]);
  });

  test('and where those do not pass, long-poll', async () => {
    server.blocked.add('websocket').add('sse');
    const { live, heard } = await following(server);
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
    const { live } = await following(server);
    await pass(10_000);
    server.blocked.add('websocket');
    server.cut();
    await pass(10_000);
    expect([server.transports, live.status.transport]).toEqual([['websocket', 'websocket', 'websocket', 'sse'], 'sse']);
  });

  test('the position goes along from one transport to the next', async () => {
    const { heard, live } = await following(server);
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
    const { heard, live, said } = await following(server);
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
    const { said } = await following(server);
    server.blocked.clear();
    server.refuse = () => ({ code: 4006, reason: 'Come back later', afterMs: 5000 });
    await pass(110_000);
    expect([server.transports.slice(0, 3), said]).toEqual([['websocket', 'sse', 'websocket'], ['connecting', 'connected']]);
  });

  test('what is on its way then is published all the same, once', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
    server.blocked.add('websocket');
    const { channel, live } = await following(server);
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
    await following(server);
    await pass(60 * 60_000);
    expect(server.transports.filter((it) => it === 'websocket').length).toBeLessThan(12);
    expect(server.transports.filter((it) => it === 'websocket').length).toBeGreaterThan(5);
  });
});
