// Headless Chromium: its own WebSocket and EventSource, on a page served through the proxy, with a cookie login.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { post, promise, push, sumUp } from './promises.mjs';

const { PLAIN, SECURE } = process.env;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
  timeout: 60_000,
});

// A page of the backend's, logged in as `user`. In it, `heard(list, test)` waits for an entry of a list that grows.
async function pageOf(user, origin = `http://${PLAIN}`) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(`${origin}/`);
  await page.evaluate(async (name) => {
    await fetch('/login', { method: 'POST', body: name });
    window.heard = async (list, test) => {
      while (!list.some(test)) await new Promise((resolve) => { list.wake = resolve; });
      return list.find(test);
    };
    window.openSocket = () => {
      const list = [];
      const socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/realtime');
      const note = (entry) => { list.push(entry); list.wake?.(); };
      socket.onmessage = ({ data }) => note(JSON.parse(data));
      socket.onclose = ({ code, reason }) => note({ type: 'close', code, reason });
      return { socket, list, send: (message) => socket.send(JSON.stringify(message)) };
    };
    window.openStream = (path) => {
      const list = [];
      const source = new EventSource(path);
      for (const name of ['connected', 'subscribed', 'message', 'resumed', 'failure', 'error']) {
        source.addEventListener(name, ({ data, lastEventId }) => {
          list.push({ name, id: lastEventId, ...(data ? JSON.parse(data) : {}) });
          list.wake?.();
        });
      }
      return { source, list };
    };
  }, user);
  return page;
}

await promise('Chromium gets the page through the proxy and logs in with a cookie', async () => {
  const page = await pageOf('carol');
  assert.equal(await page.title(), 'page');
});

for (const [name, origin] of [['plain HTTP', `http://${PLAIN}`], ['TLS', `https://${SECURE}`]]) {
  await promise(`its WebSocket, with the page's cookie, through ${name}: subscribes, publishes, hears`, async () => {
    const page = await pageOf('carol', origin);
    const [welcome, message] = await page.evaluate(async () => {
      const { list, send } = window.openSocket();
      const welcome = await window.heard(list, (it) => it.type === 'connected');
      send({ type: 'subscribe', channel: 'room.web' });
      await window.heard(list, (it) => it.type === 'subscribed');
      send({ type: 'publish', channel: 'room.web', data: { text: 'from a page' } });
      return [welcome, await window.heard(list, (it) => it.type === 'message')];
    });
    assert.equal(welcome.userId, 'carol');
    assert.deepEqual([message.data, message.userId], [{ text: 'from a page' }, 'carol']);
  });

  await promise(`its EventSource, through ${name}: hears a push, with an id to resume from`, async () => {
    const page = await pageOf('dave', origin);
    await page.evaluate(async () => {
      window.stream = window.openStream('/realtime/sse?channels=orders.web');
      await window.heard(window.stream.list, (it) => it.name === 'subscribed');
    });
    await push({ channel: 'orders.web', data: { total: 12 }, event: 'created' });
    const message = await page.evaluate(() => window.heard(window.stream.list, (it) => it.name === 'message'));
    assert.deepEqual([message.data, message.event], [{ total: 12 }, 'created']);
    assert.ok(message.id.length > 0);
  });
}

await promise('a stream goes on where another ended, with nothing lost', async () => {
  const page = await pageOf('erin');
  const cursor = await page.evaluate(async () => {
    const { source, list } = window.openStream('/realtime/sse?channels=orders.resumed');
    const { id } = await window.heard(list, (it) => it.name === 'subscribed' && it.id);
    source.close();
    return id;
  });
  await push({ channel: 'orders.resumed', data: 'while away' });
  const [message, resumed] = await page.evaluate(async (cursor) => {
    const { list } = window.openStream(`/realtime/sse?cursor=${encodeURIComponent(cursor)}`);
    const message = await window.heard(list, (it) => it.name === 'message');
    return [message, await window.heard(list, (it) => it.name === 'resumed')];
  }, cursor);
  assert.equal(message.data, 'while away');
  assert.equal(resumed.complete, true);
});

await promise('its EventSource comes back by itself when the node ends its stream, with nothing lost', async () => {
  const page = await pageOf('grace');
  const connectionId = await page.evaluate(async () => {
    window.stream = window.openStream('/realtime/sse?channels=orders.again');
    await window.heard(window.stream.list, (it) => it.name === 'subscribed' && it.id);
    return (await window.heard(window.stream.list, (it) => it.name === 'connected')).connectionId;
  });
  await post(`/connections/${connectionId}/disconnect`, { code: 4003, reason: 'come back' });
  await push({ channel: 'orders.again', data: 'meanwhile' });
  const [message, resumed] = await page.evaluate(async () => {
    const { list } = window.stream;
    return [await window.heard(list, (it) => it.name === 'message'), await window.heard(list, (it) => it.name === 'resumed')];
  });
  assert.equal(message.data, 'meanwhile');
  assert.equal(resumed.complete, true);
});

await promise('channels of a live stream change by a POST with its secret', async () => {
  const page = await pageOf('frank');
  const status = await page.evaluate(async () => {
    window.stream = window.openStream('/realtime/sse?channels=orders.a');
    const { connectionId, secret } = await window.heard(window.stream.list, (it) => it.name === 'connected');
    const response = await fetch(`/realtime/connections/${connectionId}/subscribe`, {
      method: 'POST',
      headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' },
      body: JSON.stringify({ channel: 'orders.b' }),
    });
    return response.status;
  });
  assert.equal(status, 200);
  await push({ channel: 'orders.b', data: 'added' });
  const message = await page.evaluate(() => window.heard(window.stream.list, (it) => it.name === 'message'));
  assert.deepEqual([message.channel, message.data], ['orders.b', 'added']);
});

await promise("the client written by hand in the docs hears, comes back after a loss of connection, and gets what it missed", async () => {
  const text = readFileSync(new URL('../../../docs/client.md', import.meta.url), 'utf8');
  const blocks = text.split('```js\n').slice(1).map((it) => it.split('```')[0]);
  const code = blocks.find((it) => it.includes('function listen(')).replace(/^const send = listen[^]*$/m, '');
  const page = await pageOf('heidi');
  await page.addScriptTag({ content: code });
  await page.evaluate(async () => {
    window.list = [];
    window.lost = [];
    // The socket of now is where the server's own id of it can be seen.
    const Native = window.WebSocket;
    window.WebSocket = class extends Native {
      constructor(url) {
        super(url);
        this.addEventListener('message', ({ data }) => {
          const { type, connectionId, channel } = JSON.parse(data);
          window.list.push({ type, connectionId, channel });
          window.list.wake?.();
        });
      }
    };
    window.send = listen(['room.readme'], (it) => {
      window.list.push({ type: 'heard', data: it.data });
      window.list.wake?.();
    }, (channel) => window.lost.push(channel));
    await window.heard(window.list, (it) => it.type === 'subscribed');
  });
  await push({ channel: 'room.readme', data: 'first' });
  const { connectionId } = await page.evaluate(async () => {
    await window.heard(window.list, (it) => it.data === 'first');
    return window.heard(window.list, (it) => it.type === 'connected');
  });
  await post(`/connections/${connectionId}/disconnect`, { code: 4003 });
  await push({ channel: 'room.readme', data: 'missed' });
  const heard = await page.evaluate(async () => {
    await window.heard(window.list, (it) => it.data === 'missed');
    return [window.list.filter((it) => it.type === 'heard').map((it) => it.data), window.lost];
  });
  assert.deepEqual(heard, [['first', 'missed'], []]);
});

await promise('who is not logged in learns why, on a socket and on a stream', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`http://${PLAIN}/`);
  const [code, message] = await page.evaluate(async () => {
    const socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/realtime');
    const code = await new Promise((resolve) => { socket.onclose = (it) => resolve(it.code); });
    const source = new EventSource('/realtime/sse?channels=orders.a');
    const failure = await new Promise((resolve) => { source.addEventListener('failure', (it) => resolve(it.data)); });
    source.close();
    return [code, JSON.parse(failure).message];
  });
  assert.deepEqual([code, message], [4500, 'log in first']);
});

await browser.close();
sumUp();
