import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { browser } from './browser.ts';
import { clientOf, listenTo } from './client.ts';
import { ModelServer, pass } from './model.ts';

let server: ModelServer;
beforeEach(() => {
  vi.useFakeTimers();
  browser();
  server = new ModelServer();
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

function tab(options = {}) {
  const { live, said } = clientOf(server, { shared: true, ...options });
  return { live, said, ...listenTo(live, 'room.5') };
}

test('tabs share one connection and one subscription, and each hears everything', async () => {
  const tabs = [tab(), tab(), tab()];
  await pass(500);
  server.push('room.5', 1);
  await pass(100);
  expect(tabs.map((it) => it.heard)).toEqual([[1], [1], [1]]);
  expect(server.sessions.size).toBe(1);
  expect(tabs.map((it) => it.live.status.connectionId)).toEqual(['c1', 'c1', 'c1']);
});

test('a tab that comes later is answered by the first, without asking the server again', async () => {
  tab();
  await pass(500);
  server.push('room.5', 1);
  await pass(100);
  const later = tab();
  await pass(500);
  server.push('room.5', 2);
  await pass(100);
  expect([later.heard, server.commands.filter((it) => it.type === 'subscribe').length]).toEqual([[2], 1]);
});

test('when the tab with the connection goes, the next takes over, and nothing is lost', async () => {
  const [first, second, third] = [tab(), tab(), tab()];
  await pass(500);
  server.push('room.5', 1);
  await pass(100);
  first.live.close();
  server.push('room.5', 2);
  await pass(1000);
  server.push('room.5', 3);
  await pass(100);
  expect([second.heard, third.heard, server.sessions.size]).toEqual([[1, 2, 3], [1, 2, 3], 1]);
  expect(second.live.status.connectionId).not.toBe('c1');
});

test('a channel is left when the last of the tabs leaves it, also a tab that is just gone', async () => {
  const [first, second] = [tab(), tab()];
  await pass(500);
  first.channel.unsubscribe();
  await pass(100);
  expect(server.commands.filter((it) => it.type === 'unsubscribe')).toHaveLength(0);
  second.live.close();
  await pass(100);
  expect(server.commands.filter((it) => it.type === 'unsubscribe')).toHaveLength(1);
});

test('each tab publishes, and gets the answer to its own', async () => {
  const tabs = [tab(), tab()];
  await pass(500);
  const acks = tabs.map((it, n) => it.channel.publish(n));
  await pass(200);
  expect((await Promise.all(acks)).map((it) => it.seq).sort()).toEqual([1, 2]);
  expect(tabs.map((it) => it.heard)).toEqual([[0, 1], [0, 1]]);
});

test('a publication that is refused does not take its tab off the channel', async () => {
  const [first, second] = [tab(), tab()];
  await pass(500);
  server.answer = ({ type }) => (type === 'publish' ? { type: 'error', code: 'invalid', message: 'no', retryable: false } : undefined);
  const refused = second.channel.publish('rude').catch((error) => error.code);
  await pass(200);
  first.channel.unsubscribe();
  await pass(200);
  server.push('room.5', 'still');
  await pass(100);
  expect([await refused, second.heard]).toEqual(['invalid', ['still']]);
});

test('a channel that may not be followed is asked for again by the next tab', async () => {
  server.answer = ({ type }) => (type === 'subscribe' ? { type: 'error', code: 'not_allowed', message: '', retryable: false } : undefined);
  const { channel } = tab();
  await pass(500);
  server.answer = undefined;
  const later = tab();
  await pass(500);
  expect([channel.state, later.channel.state]).toEqual(['refused', 'subscribed']);
});

test('a loss of connection is one for all, and all go on from where they were', async () => {
  const tabs = [tab(), tab()];
  await pass(500);
  server.cut();
  server.push('room.5', 'meanwhile');
  await pass(2000);
  expect(tabs.map((it) => it.heard)).toEqual([['meanwhile'], ['meanwhile']]);
  expect(tabs[1]!.said).toEqual(['connecting', 'connected', 'reconnecting', 'connected']);
});

test('a tab that missed something gets it, and the others hear nothing twice', async () => {
  const [first, second] = [tab(), tab()];
  await pass(500);
  server.push('room.5', 1);
  await pass(100);
  const bus = BroadcastChannel.prototype.postMessage;
  BroadcastChannel.prototype.postMessage = () => {};
  server.push('room.5', 2);
  await pass(100);
  BroadcastChannel.prototype.postMessage = bus;
  server.push('room.5', 3);
  await pass(300);
  expect([first.heard, second.heard]).toEqual([[1, 2, 3], [1, 2, 3]]);
});

test('members are known to a tab that comes later', async () => {
  server.presence = true;
  server.channel('room.5').members.set('1', { userId: '1' });
  tab();
  await pass(500);
  server.tellAll({ type: 'joined', channel: 'room.5', userId: '2' });
  server.tellAll({ type: 'left', channel: 'room.5', userId: '1' });
  await pass(100);
  const later = tab();
  await pass(500);
  expect([...later.channel.presence.members.keys()]).toEqual(['2']);
  server.tellAll({ type: 'members', channel: 'room.5', total: 5000 });
  await pass(100);
  const last = tab();
  await pass(500);
  expect([last.channel.presence.total, last.channel.presence.members.size]).toEqual([5000, 0]);
});

test('one tab renews the token for all', async () => {
  const getToken = vi.fn(async () => 't');
  tab({ getToken });
  tab({ getToken });
  await pass(500);
  server.tellAll({ type: 'expiring', expiresAt: 1 });
  await pass(500);
  expect([getToken.mock.calls.length, server.commands.filter((it) => it.type === 'refresh').length]).toEqual([2, 1]);
});

test('a refusal ends it in all tabs, and connect() tries again', async () => {
  const tabs = [tab(), tab()];
  await pass(500);
  server.close(4501, 'out');
  await pass(500);
  expect(tabs.map((it) => it.live.state)).toEqual(['closed', 'closed']);
  for (const it of tabs) it.live.connect();
  await pass(1000);
  expect([tabs.map((it) => it.live.state), server.sessions.size]).toEqual([['connected', 'connected'], 1]);
});

test('tabs that say different things do not share', async () => {
  tab({ shared: 'user-1' });
  tab({ shared: 'user-2' });
  await pass(500);
  expect(server.sessions.size).toBe(2);
});
