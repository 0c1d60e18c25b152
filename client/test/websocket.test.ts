import { expect, test, vi } from 'vitest';
import { overWebSocket } from '../src/transports/websocket.ts';

function opened(url: string, token: string | undefined) {
  const Fake = vi.fn(class { constructor(public url: string, public protocols: string[]) {} });
  overWebSocket({ url, token, WebSocket: Fake as any, fetch, credentials: 'include' }, {} as any);
  return Fake.mock.calls[0];
}

test('a token travels as a subprotocol: URLs end up in logs', () => {
  expect(opened('https://app.test/realtime', 'aaa.bbb-_.ccc'))
    .toEqual(['wss://app.test/realtime', ['outrigger.v1.json', 'outrigger.token.aaa.bbb-_.ccc']]);
});

test('one that does not fit there is in the URL', () => {
  expect(opened('http://app.test/realtime', 'a b=')).toEqual(['ws://app.test/realtime?token=a%20b%3D', ['outrigger.v1.json']]);
});
