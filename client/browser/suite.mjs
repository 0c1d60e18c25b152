// The client in real Chromium, against a real Outrigger: `npm run browser`. A line for each promise; exits with 1 if one is
// broken. OUTRIGGER and CHROMIUM name other programs than the usual ones.

import assert from 'node:assert/strict';
import { promise, sumUp } from '../../tests/external/node/promises.mjs';
import { Ledger } from './ledger.mjs';
import { EVENT_STREAM, WEBSOCKET } from './relay.mjs';
import { Stage } from './stage.mjs';

const stage = await Stage.open();
const { relay } = stage;
let channels = 0;
const complaints = [];
stage.onConsole = (text) => complaints.push(text);

/** A page that follows a channel nobody else uses. */
async function ledger(options, path, context) {
  channels += 1;
  return Ledger.open(stage, await stage.page(path, context), `room.${channels}`, options);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Pushes all the while something happens, within what the history holds. */
async function meanwhile(it, happens) {
  let isOver = false;
  const pushing = (async () => {
    while (!isOver) {
      await it.push();
      await pause(5);
    }
  })();
  try {
    await happens();
  } finally {
    isOver = true;
    await pushing;
  }
  await it.push();
}

for (const transport of ['websocket', 'sse', 'poll']) {
  await promise(`${transport}: two hundred pushes are heard, each once and in order`, async () => {
    const it = await ledger({ transports: [transport] });
    await it.push(200);
    await it.settle();
    assert.equal((await it.status()).transport, transport);
    await it.page.close();
  });

  await promise(`${transport}: cut five times amid pushes, nothing is lost`, async () => {
    const it = await ledger({ transports: [transport] });
    await meanwhile(it, async () => {
      for (let n = 0; n < 5; n += 1) {
        await pause(300);
        relay.cut();
      }
    });
    await it.settle();
    await it.page.close();
  });

  await promise(`${transport}: what is published amid cuts is published once`, async () => {
    const it = await ledger({ transports: [transport] });
    const published = it.page.evaluate(async () => {
      const acks = [];
      for (let n = 0; n < 40; n += 1) {
        acks.push(room.publish(n));
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
      return (await Promise.all(acks)).map((ack) => ack.seq);
    });
    for (let n = 0; n < 3; n += 1) {
      await pause(250);
      relay.cut();
    }
    const seqs = await published;
    assert.equal(new Set(seqs).size, 40);
    const history = await (await stage.get(`/channels/${it.channel}/history?limit=1000`)).json();
    const kept = history.messages.map((message) => message.data).sort((a, b) => a - b);
    assert.deepEqual(kept, Array.from({ length: 40 }, (_, n) => n));
    await it.page.close();
  });
}

for (const transport of ['websocket', 'sse', 'poll']) {
  await promise(`through TLS and HTTP/2, ${transport}: pushes and publications get through`, async () => {
    const page = await stage.page('/', undefined, `https://127.0.0.1:${stage.tls}`);
    const it = await Ledger.open(stage, page, `room.tls-${transport}`, { transports: [transport] });
    await it.push(20);
    await it.settle();
    const { seq } = await page.evaluate(() => room.publish('from the page'));
    assert.equal(seq, 21);
    const { nextHopProtocol } = await page.evaluate(() => ({ ...performance.getEntriesByType('resource')[0].toJSON() }));
    assert.equal(nextHopProtocol, 'h2');
    await page.close();
  });
}

await promise('where WebSockets are blocked the event stream is used, and then long-poll, and nothing is lost', async () => {
  const it = await ledger();
  await it.push(5);
  await meanwhile(it, async () => {
    relay.blocked = [WEBSOCKET];
    const before = await it.status();
    relay.cut();
    await it.returns(before.connectionId);
    assert.equal((await it.status()).transport, 'sse');
    relay.blocked = [WEBSOCKET, EVENT_STREAM];
    const { connectionId } = await it.status();
    relay.cut();
    await it.returns(connectionId);
    assert.equal((await it.status()).transport, 'poll');
  });
  relay.blocked = [];
  await it.settle();
  await it.page.close();
});

await promise('the network goes silent: it is noticed, and nothing is lost', async () => {
  const it = await ledger();
  const { connectionId } = await it.status();
  await it.push(5);
  relay.freeze();
  await it.push(20);
  await it.becomes('reconnecting');
  await it.push(20);
  relay.thaw();
  await it.returns(connectionId);
  await it.push(5);
  await it.settle();
  await it.page.close();
});

await promise('the browser is offline for a while: it waits, comes back by itself, and nothing is lost', async () => {
  const it = await ledger();
  const { connectionId } = await it.status();
  const network = await it.page.context().newCDPSession(it.page);
  await it.push(5);
  const offline = (is) => network.send('Network.emulateNetworkConditions', { offline: is, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await offline(true);
  relay.cut();
  await it.becomes('reconnecting');
  await it.push(50);
  assert.equal((await it.status()).delay, undefined, 'it does not try while it is offline');
  await offline(false);
  await it.returns(connectionId);
  await it.push(5);
  await it.settle();
  await it.page.close();
});

await promise('the laptop sleeps: its network stands still until the server has given it up, and nothing is lost', async () => {
  const it = await ledger();
  const { connectionId } = await it.status();
  await it.push(5);
  const network = stage.networkProcess();
  process.kill(network, 'SIGSTOP');
  try {
    await it.push(50);
    for (;;) {
      const { channels: all } = await (await stage.get(`/channels?prefix=${it.channel}`)).json();
      if (!all.some((channel) => channel.subscribers > 0)) break;
      await pause(200);
    }
    await it.push(50);
  } finally {
    process.kill(network, 'SIGCONT');
  }
  await it.returns(connectionId);
  await it.push(5);
  await it.settle();
  await it.page.close();
});

for (const [how, signal, transport] of [
  ['drained', 'SIGTERM', 'websocket'], ['drained', 'SIGTERM', 'sse'], ['drained', 'SIGTERM', 'poll'], ['killed', 'SIGKILL', 'websocket'],
]) {
  await promise(`Outrigger is ${how} and started again under the page (${transport}): nothing is lost`, async () => {
    const it = await ledger({ transports: [transport] });
    const { connectionId } = await it.status();
    await it.push(20);
    await stage.stop(signal);
    await stage.start();
    await it.push(20);
    await it.returns(connectionId);
    await it.push(20);
    await it.settle();
    await it.page.close();
  });
}

await promise('Outrigger is started again without its memory: the page is told', async () => {
  const it = await ledger();
  const { connectionId } = await it.status();
  await it.push(20);
  await it.page.evaluate((last) => until(() => heard.includes(last)), it.pushed.at(-1));
  await stage.stop('SIGKILL');
  stage.forget();
  await stage.start();
  await it.push(20);
  await it.returns(connectionId);
  await it.push(20);
  await it.settle({ mayLose: true });
  assert.equal((await it.page.evaluate(() => gaps)).length, 1);
  await it.page.close();
});

await promise('who is there is known, over a loss of connection too', async () => {
  const carol = await ledger();
  const dave = await Ledger.open(stage, await stage.page('/?user=dave'), carol.channel);
  const members = (it, expected) => it.page.evaluate(async (expected) => {
    room.presence.on('change', () => window.wake());
    await until(() => [...room.presence.members.keys()].sort().join() === expected);
  }, expected);
  await members(carol, 'carol,dave');
  await members(dave, 'carol,dave');
  const { connectionId } = await carol.status();
  relay.cut();
  await carol.returns(connectionId);
  await members(carol, 'carol,dave');
  await dave.page.close();
  await members(carol, 'carol');
  await carol.page.close();
});

await promise('a user whose tokens are revoked comes back with another, and nothing is lost', async () => {
  const it = await ledger({ getToken: true });
  const { connectionId } = await it.status();
  await meanwhile(it, async () => {
    await pause(1100); // Tokens count in seconds: the page's own is to be older than the revocation.
    await stage.post('/users/carol/revoke', {});
    await it.returns(connectionId);
  });
  await it.settle();
  await it.page.close();
});

await promise('a token is renewed before it ends, on the same connection', async () => {
  stage.ttl = 20;
  const it = await ledger({ getToken: true });
  await it.page.evaluate(() => new Promise((resolve) => live.on('expiring', resolve)).then(() => {}));
  const { connectionId } = await it.status();
  await it.push(5);
  await it.settle();
  assert.equal((await it.status()).connectionId, connectionId);
  await it.page.close();
});

await promise('a token that has ended is replaced, and nothing is lost', async () => {
  const it = await ledger({ getToken: true });
  const { connectionId } = await it.status();
  await meanwhile(it, async () => {
    await stage.post(`/connections/${connectionId}/disconnect`, { code: 4004, reason: 'Token expired' });
    await it.returns(connectionId);
  });
  await it.settle();
  await it.page.close();
});

await promise('a backend that ends a connection for good is obeyed', async () => {
  const it = await ledger();
  const { connectionId } = await it.status();
  await stage.post(`/connections/${connectionId}/disconnect`, { code: 4501, reason: 'out' });
  await it.becomes('closed');
  assert.deepEqual((await it.status()).close, { code: 4501, reason: 'out' });
  await it.page.close();
});

await promise('three tabs share one connection; when the tab that has it closes, nothing is lost', async () => {
  const context = await stage.browser.newContext();
  channels += 1;
  const open = async () => Ledger.open(stage, await stage.page('/', context), `room.${channels}`, { shared: 'carol' });
  const [first, ...others] = [await open(), await open(), await open()];
  const ids = await Promise.all([first, ...others].map(async (it) => (await it.status()).connectionId));
  assert.equal(new Set(ids).size, 1);
  await first.push(20);
  await first.settle();
  await first.page.close();
  await first.push(20);
  for (const it of others) {
    await it.returns(ids[0]);
    it.pushed = [...first.pushed];
  }
  await first.push(20);
  for (const it of others) {
    it.pushed = [...first.pushed];
    await it.settle();
  }
  const now = await Promise.all(others.map(async (it) => (await it.status()).connectionId));
  assert.equal(new Set(now).size, 1);
  await context.close();
});

await promise('a script tag with attributes shows messages as text, without a line of code', async () => {
  const page = await stage.page('/tag');
  await page.waitForSelector('script[data-state=connected]', { state: 'attached' });
  for (;;) {
    const { channels: all } = await (await stage.get('/channels?prefix=room.tag')).json();
    if (all.some((channel) => channel.subscribers > 0)) break;
    await pause(20);
  }
  await stage.post('/push', { channel: 'room.tag', data: { order: { total: '<b>12</b>' } } });
  await page.waitForFunction(() => document.querySelector('#total').textContent === '<b>12</b>');
  await page.close();
});

await promise('the module is the same client', async () => {
  const page = await stage.page('/module');
  await page.waitForFunction(() => window.Outrigger);
  const it = await Ledger.open(stage, page, 'room.module');
  await it.push(5);
  await it.settle();
  await page.close();
});

await promise('in Node it is the same client, over whatever Node has', async () => {
  const { Outrigger } = await import('../dist/client.mjs');
  const live = new Outrigger(`http://127.0.0.1:${stage.port}/realtime`, { getToken: () => stage.token() });
  const room = live.channel('room.node');
  const read = (async () => {
    const data = [];
    for await (const message of room) if (data.push(message.data) === 3) return data;
  })();
  await room.ready;
  for (const n of [1, 2]) await stage.post('/push', { channel: 'room.node', data: n });
  await room.publish(3);
  assert.deepEqual(await read, [1, 2, 3]);
  live.close();
});

await promise('none of the pages broke its policy: no inline script, no eval', async () => {
  assert.deepEqual(complaints.filter((it) => it.includes('Content Security Policy')), []);
});

const { pushed, told, silent } = Ledger.sum();
console.log(`# ledger: ${pushed} pushed, ${told} lost with a node's memory and told, ${silent} lost in silence`);
await stage.close();
sumUp();
