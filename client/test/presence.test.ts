import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Message } from '../src/protocol.ts';
import { clientOf, following } from './client.ts';
import { ModelServer, pass } from './model.ts';

let server: ModelServer;
beforeEach(() => {
  vi.useFakeTimers();
  server = new ModelServer();
});
afterEach(() => vi.useRealTimers());

describe('history and presence', () => {
  test.each(['websocket', 'sse', 'poll'] as const)('the past is answered over %s', async (transport) => {
    const { channel } = await following(server, { transports: [transport] });
    server.push('room.5', 1);
    const history = channel.history({ limit: 10 });
    await pass(200);
    expect((await history).messages.map((it: Message) => it.data)).toEqual([1]);
  });

  test('a question without a connection is refused at once, and one that a loss overtakes too', async () => {
    const { live, channel } = await following(server);
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
    const { channel, live } = await following(server);
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
    const { channel } = await following(server);
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
    const { channel } = await following(server);
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
    const { live } = await following(server);
    const told: string[] = [];
    live.on('degraded', () => told.push('degraded')).on('restored', () => told.push('restored'));
    server.tellAll({ type: 'degraded', timestamp: 1 });
    server.tellAll({ type: 'restored', timestamp: 2 });
    await pass(100);
    expect(told).toEqual(['degraded', 'restored']);
  });

  test('what was refused is asked for again with a new token', async () => {
    server.answer = ({ type }) => (type === 'subscribe' ? { type: 'error', code: 'not_allowed', message: '', retryable: false } : undefined);
    const { channel } = await following(server, { getToken: () => 't' });
    server.answer = undefined;
    server.tellAll({ type: 'expiring', expiresAt: 1 });
    await pass(500);
    expect(channel.state).toBe('subscribed');
  });
});
