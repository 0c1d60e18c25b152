// Node's ws package: the plain hand-written client that puts its token in the URL.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { promise, push, sumUp, within } from './promises.mjs';

const { PLAIN, SECURE, TOKEN } = process.env;
const url = `ws://${PLAIN}/realtime?token=${TOKEN}`;

// A client that keeps what it hears until somebody asks for it.
class Client {
  #heard = [];
  #wake = () => {};

  constructor(address = url, protocols = [], options = {}) {
    this.socket = new WebSocket(address, protocols, options);
    this.socket.on('message', (data, isBinary) => {
      this.#heard.push(isBinary ? { type: 'binary', bytes: data } : JSON.parse(data));
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
      this.socket.on('error', (error) => resolve({ error: error.message }));
    });
  }

  send(message) {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  // The next message of one of these kinds; others before it are passed over.
  next(...kinds) {
    const look = async () => {
      for (;;) {
        while (this.#heard.length > 0) {
          const message = this.#heard.shift();
          if (kinds.includes(message.type)) return message;
        }
        await new Promise((resolve) => { this.#wake = resolve; });
      }
    };
    return within(10_000, look(), `a ${kinds.join(' or ')} came`);
  }

  async subscribe(channel, since) {
    await this.next('connected');
    this.send({ type: 'subscribe', channel, since });
    return this.next('subscribed');
  }
}

const clients = [];
const client = (...from) => {
  clients.push(new Client(...from));
  return clients.at(-1);
};

await promise('a token in the URL is welcomed with who it is', async () => {
  const welcome = await client().next('connected');
  assert.equal(welcome.userId, '42');
  assert.match(welcome.connectionId, /^[0-9a-f]{32}$/);
  assert.ok(Math.abs(welcome.timestamp - Date.now()) < 60_000);
});

await promise('a bad token is closed with 1008 `Invalid token`', async () => {
  const closed = await within(10_000, client(`ws://${PLAIN}/realtime?token=nonsense`).closed, 'it closed');
  assert.deepEqual(closed, { code: 1008, reason: 'Invalid token' });
});

await promise('subscribed says where the channel is, and echoes the ref', async () => {
  const it = client();
  await it.next('connected');
  it.send({ type: 'subscribe', channel: 'room.ws', ref: 'a' });
  const subscribed = await it.next('subscribed');
  assert.equal(subscribed.ref, 'a');
  assert.equal(typeof subscribed.epoch, 'string');
  assert.equal(typeof subscribed.seq, 'number');
});

await promise('what may not be followed and what cannot be read is an error, and the connection stays', async () => {
  const it = client();
  await it.next('connected');
  it.send({ type: 'subscribe', channel: 'secret.1', ref: 1 });
  const refused = await it.next('error');
  assert.deepEqual([refused.code, refused.channel, refused.ref], ['not_allowed', 'secret.1', 1]);
  it.send('{"type":');
  assert.equal((await it.next('error')).code, 'bad_message');
  it.send({ type: 'ping' });
  await it.next('pong');
});

await promise('a publication is acknowledged, and the author hears it as everybody does', async () => {
  const [author, reader] = [client(), client()];
  await author.subscribe('room.1');
  await reader.subscribe('room.1');
  author.send({ type: 'publish', channel: 'room.1', data: { text: 'hello' }, id: 'c-1' });
  const message = await reader.next('message');
  assert.deepEqual(message.data, { text: 'hello' });
  const own = [await author.next('ack', 'message'), await author.next('ack', 'message')];
  assert.deepEqual(own.find((it) => it.type === 'message'), message);
  const ack = own.find((it) => it.type === 'ack');
  assert.deepEqual([ack.id, ack.seq], ['c-1', message.seq]);
});

await promise('the backend refuses a publication in its own words, and nobody hears it', async () => {
  const [author, reader] = [client(), client()];
  await author.subscribe('room.2');
  await reader.subscribe('room.2');
  author.send({ type: 'publish', channel: 'room.2', data: { text: 'rude' }, ref: 2 });
  const refused = await author.next('error', 'ack');
  assert.deepEqual([refused.type, refused.message, refused.ref], ['error', 'mind your words', 2]);
  await push({ channel: 'room.2', data: 'after' });
  assert.equal((await reader.next('message')).data, 'after');
});

await promise('the backend changes a publication, and answers its author', async () => {
  const [author, reader] = [client(), client()];
  await author.next('connected');
  await reader.subscribe('room.3');
  author.send({ type: 'publish', channel: 'room.3', data: { text: 'quiet' }, ref: 3 });
  assert.deepEqual((await author.next('ack')).reply, { kept: true });
  assert.deepEqual((await reader.next('message')).data, { text: 'QUIET' });
});

await promise('one push reaches everybody on the channel, and the receipt counts them', async () => {
  const all = Array.from({ length: 20 }, () => client());
  await Promise.all(all.map((it) => it.subscribe('room.4')));
  const [receipt] = await push({ channel: 'room.4', data: { n: 1 } });
  assert.deepEqual([receipt.status, receipt.matched], ['taken', 20]);
  const heard = await Promise.all(all.map((it) => it.next('message')));
  for (const message of heard) assert.deepEqual(message, heard[0]);
});

await promise('permessage-deflate is agreed on, and a long message arrives whole', async () => {
  const it = client();
  await it.subscribe('room.5');
  assert.match(it.socket.extensions, /permessage-deflate/);
  const long = 'real-time '.repeat(10_000);
  await push({ channel: 'room.5', data: long });
  assert.equal((await it.next('message')).data, long);
});

await promise('who comes back with its position gets all it missed, in order', async () => {
  const it = client();
  const { epoch, seq } = await it.subscribe('room.6');
  it.socket.terminate();
  await it.closed;
  for (let n = 1; n <= 5; n += 1) await push({ channel: 'room.6', data: n });
  const again = client();
  assert.equal((await again.subscribe('room.6', { epoch, seq })).recovered, true);
  for (let n = 1; n <= 5; n += 1) {
    const message = await again.next('message');
    assert.deepEqual([message.data, message.seq], [n, seq + n]);
  }
});

await promise('who comes back with a position of another time is told that something is lost', async () => {
  const subscribed = await client().subscribe('room.6', { epoch: 'zzzz', seq: 3 });
  assert.equal(subscribed.recovered, false);
});

await promise('MessagePack is spoken in binary frames', async () => {
  const it = client(url, ['outrigger.v1.msgpack']);
  const { bytes } = await it.next('binary');
  assert.equal(it.socket.protocol, 'outrigger.v1.msgpack');
  assert.equal(bytes[0] & 0xf0, 0x80, 'a map');
  assert.ok(bytes.includes('connected'));
});

await promise('through TLS it is the same', async () => {
  const it = client(`wss://${SECURE}/realtime?token=${TOKEN}`, [], { rejectUnauthorized: false });
  await it.subscribe('room.7');
  await push({ channel: 'room.7', data: 'secure' });
  assert.equal((await it.next('message')).data, 'secure');
});

await promise('a close is answered with its code', async () => {
  const it = client();
  await it.next('connected');
  it.socket.close(1000, 'bye');
  assert.equal((await within(10_000, it.closed, 'it closed')).code, 1000);
});

for (const it of clients) it.socket.terminate();
sumUp();
