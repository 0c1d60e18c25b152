import { afterEach, expect, test, vi } from 'vitest';
import { baseOf, resolve } from '../src/address.ts';
import { Outrigger } from '../src/outrigger.ts';

afterEach(() => vi.unstubAllGlobals());

test.each([
  ['https://app.test/realtime/client.js', 'https://app.test/realtime'],
  ['https://app.test/live/client.0123456789abcdef.js?v=1', 'https://app.test/live'],
  ['https://app.test/assets/outrigger-1234.js', undefined],
  ['', undefined],
])('the server of %j is %j', (script, base) => {
  expect(baseOf(script)).toBe(base);
});

test('a path is one of the page, and any scheme of the web will do', () => {
  vi.stubGlobal('location', { href: 'https://app.test/orders/5' });
  expect(resolve('/realtime/')).toBe('https://app.test/realtime');
  expect(resolve('wss://other.test/realtime')).toBe('https://other.test/realtime');
  expect(resolve('ws://other.test:8080/r')).toBe('http://other.test:8080/r');
});

test('outside of a page the address is whole, or the mistake is named', () => {
  expect(() => new Outrigger('/realtime').connect()).toThrow('begins with http:// or https://');
  expect(() => new Outrigger('ftp://app.test').connect()).toThrow('no address');
});

test('where pages are rendered on a server a client may be made, and does nothing', () => {
  expect(new Outrigger().state).toBe('idle');
});

test('without any transport the mistake is named', () => {
  vi.stubGlobal('WebSocket', undefined);
  expect(() => new Outrigger('http://app.test', { transports: ['websocket'] }).connect()).toThrow('give one');
});
