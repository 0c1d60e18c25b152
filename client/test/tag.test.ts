import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Outrigger } from '../src/outrigger.ts';
import { actOn } from '../src/tag.ts';
import { ModelServer, pass } from './model.ts';

class Place extends EventTarget {
  textContent = '';
  dataset: Record<string, string> = {};
}

let server: ModelServer;
let page: EventTarget & { querySelectorAll(selector: string): Place[] };
const target = new Place();
const tag = new Place();

beforeEach(() => {
  vi.useFakeTimers();
  server = new ModelServer();
  page = Object.assign(new EventTarget(), { querySelectorAll: (it: string) => (it === '#total' ? [target] : []) });
  vi.stubGlobal('document', page);
  vi.stubGlobal('location', { href: 'https://app.test/' });
  vi.stubGlobal('WebSocket', server.WebSocket);
  vi.stubGlobal('addEventListener', () => {});
  Outrigger.url = '/realtime';
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test('a message is shown as text, never as markup, and is an event of the page', async () => {
  const heard: unknown[] = [];
  target.addEventListener('outrigger:message', ({ detail }: any) => heard.push(detail.data));
  actOn(tag as any, { channel: 'orders.1', target: '#total', field: 'order.total' });
  await pass(100);
  server.push('orders.1', { order: { total: '<b>12</b>' } });
  await pass(100);
  expect([target.textContent, heard]).toEqual(['<b>12</b>', [{ order: { total: '<b>12</b>' } }]]);
  expect(tag.dataset.state).toBe('connected');
});

test('without a target the document is told', async () => {
  const heard: unknown[] = [];
  for (const name of ['message', 'gap', 'connected']) page.addEventListener(`outrigger:${name}`, () => heard.push(name));
  actOn(tag as any, { channel: 'a, b', event: 'paid' });
  await pass(100);
  server.push('a', 1);
  server.push('b', 2, { event: 'paid' });
  server.tellAll({ type: 'gap', channel: 'a', epoch: 'e', seq: 9, reason: 'slow' });
  await pass(100);
  expect(heard).toEqual(['connected', 'message', 'gap']);
});
