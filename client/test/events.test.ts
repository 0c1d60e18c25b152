import { expect, test } from 'vitest';
import { eventReader } from '../src/transports/events.ts';

function read(...pieces: string[]) {
  const said: unknown[] = [];
  const feed = eventReader({ event: ({ event, data }) => said.push([event, data]), retry: (ms) => said.push(ms) });
  for (const piece of pieces) feed(piece);
  return said;
}

test('events come in whatever pieces they come', () => {
  const text = 'retry: 2013\n\nevent: message\nid: 1x\ndata: {"a":1}\n\n:\n\ndata: plain\n\n';
  const expected = [2013, ['message', '{"a":1}'], ['message', 'plain']];
  expect(read(text)).toEqual(expected);
  expect(read(...text)).toEqual(expected);
});

test.each(['\r\n', '\r'])('lines may end with %j', (end) => {
  const text = `event: a${end}data: 1${end}data:2${end}${end}data: 3${end}${end}${end}`;
  const expected = [['a', '1\n2'], ['message', '3']];
  expect(read(text)).toEqual(expected);
  expect(read(...text)).toEqual(expected);
});

test('an event that is not finished is none', () => {
  expect(read('event: a\ndata: 1\n')).toEqual([]);
});

test('an event without data is none, and what is not known is left aside', () => {
  expect(read('event: a\n\nfoo: bar\nretry: soon\ndata\n\n')).toEqual([['message', '']]);
});
