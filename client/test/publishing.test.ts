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

describe('publishing', () => {
  test('the acknowledgement says where it is', async () => {
    const { channel, heard } = await following(server);
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
    const { channel, heard } = await following(server);
    const ack = channel.publish('once');
    await pass(25); // It arrived; its answer is on the way.
    server.cut();
    await pass(2000);
    expect((await ack).seq).toBe(1);
    expect([heard, new Set(asked('publish').map((it) => it.id)).size, asked('publish').length]).toEqual([['once'], 1, 2]);
  });

  test('a refusal rejects, in the words of the backend', async () => {
    server.answer = ({ type }) => (type === 'publish' ? { type: 'error', code: 'invalid', message: 'mind your words', retryable: false } : undefined);
    const { channel, errors } = await following(server);
    const refused = channel.publish('rude').catch((error) => error);
    await pass(100);
    expect(await refused).toMatchObject({ code: 'invalid', message: 'mind your words', channel: 'room.5', retryable: false });
    expect(errors).toEqual([]);
  });

  test('a refusal for now is tried again', async () => {
    let left = 2;
    server.answer = ({ type }) => (type === 'publish' && left-- > 0 ? { type: 'error', code: 'rate_limited', message: '', retryable: true } : undefined);
    const { channel } = await following(server);
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
    const { channel } = await following(server);
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
    const { channel, heard } = await following(server, { transports: [transport] });
    const ack = channel.publish('hi');
    await pass(200);
    expect([(await ack).seq, heard]).toEqual([1, ['hi']]);
  });

  test('close() rejects what waits', async () => {
    const { live, channel } = await following(server);
    const outcome = channel.publish('late').catch((error) => error.code);
    live.close();
    expect(await outcome).toBe('closed');
  });
});
