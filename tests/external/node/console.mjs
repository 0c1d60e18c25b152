// The console in headless Chromium: what an operator does there, at a desk and on a phone.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import WebSocket from 'ws';
import { promise, push, sumUp } from './promises.mjs';

const { API, PLAIN, PUSH_KEY, TOKEN } = process.env;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  timeout: 60_000,
});

const complaints = [];

async function open(view = 'overview', options = {}) {
  const page = await (await browser.newContext(options)).newPage();
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (said) => said.type() === 'error' && /Content Security Policy/.test(said.text()) && complaints.push(said.text()));
  await page.goto(`http://${API}/`);
  await page.evaluate((key) => sessionStorage.setItem('outrigger.key', key), PUSH_KEY);
  await page.goto(`http://${API}/console/#${view}`);
  return page;
}

/** A client of room.5, which stays. */
async function follower() {
  const socket = new WebSocket(`ws://${PLAIN}/realtime?token=${TOKEN}`);
  const heard = [];
  await new Promise((resolve, reject) => {
    socket.onerror = reject;
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      heard.push(message);
      if (message.type === 'connected') socket.send(JSON.stringify({ type: 'subscribe', channel: 'room.5' }));
      if (message.type === 'subscribed') resolve();
    };
  });
  return { socket, heard };
}

const client = await follower();

await promise('a browser at / is led to the console, and the key is asked once', async () => {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(`http://${API}/`);
  assert.match(page.url(), /\/console\/$/);
  await page.getByRole('link', { name: 'Channels' }).click();
  await page.getByLabel('Key', { exact: true }).fill('wrong');
  await page.getByRole('button', { name: 'Use this key' }).click();
  await page.getByRole('alert').waitFor();
  await page.getByRole('button', { name: 'API key' }).click();
  await page.getByLabel('Key', { exact: true }).fill(PUSH_KEY);
  await page.getByRole('button', { name: 'Use this key' }).click();
  await page.getByRole('link', { name: 'room.5' }).waitFor();
  await page.getByRole('link', { name: 'Connections' }).click();
  await page.getByRole('cell', { name: '42' }).first().waitFor();
});

await promise('the overview is live: connections, deliveries, and books that balance', async () => {
  const page = await open();
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByText('expected = flushed + queued + dropped').waitFor();
  await push({ channel: 'room.5', data: 'seen in the overview' });
  await page.waitForFunction(() => /\d/.test(document.querySelector('.facts dd').textContent) && document.querySelector('.facts dd').textContent !== '0');
});

await promise('a channel shows its position and what it keeps, as text whatever it is', async () => {
  const nasty = '<img src=x onerror="document.title=1">';
  await push({ channel: 'room.5', data: { nasty } });
  const page = await open('channels/room.5');
  await page.getByText(JSON.stringify({ nasty })).waitFor();
  assert.equal(await page.locator('main img').count(), 0);
});

await promise('a tail shows what is pushed from its own form, and the receipt', async () => {
  const page = await open('tail/room.5');
  await page.getByText('Watching room.5.').waitFor();
  await page.getByLabel('Data (JSON)').fill('{"from":"the console"}');
  await page.getByRole('button', { name: 'Push' }).click();
  await page.getByRole('log').getByText('{"from":"the console"}').waitFor();
  await page.getByText('"status": "taken"').waitFor();
});

await promise('why somebody does not get a channel is said in a sentence', async () => {
  const page = await open('explain/rom.5/42');
  await page.getByText('did you mean the rule').first().waitFor();
  await page.goto(`http://${API}/console/#explain/room.5/42`);
  await page.getByText('would get it on').waitFor();
});

await promise('a connection is shown whole and can be sent away', async () => {
  const { socket, heard } = await follower();
  const closed = new Promise((resolve) => (socket.onclose = resolve));
  const page = await open(`connections/${heard[0].connectionId}`);
  page.on('dialog', (dialog) => dialog.accept());
  await page.getByRole('link', { name: 'room.5' }).waitFor();
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await closed;
});

await promise('who is in a channel, and that no letter is dead, is said in words', async () => {
  const page = await open('channels/room.5');
  await page.getByText('Nobody, or the rule keeps no presence.').waitFor();
  await page.goto(`http://${API}/console/#dead`);
  await page.getByText('None: the backend has acknowledged every notice.').waitFor();
});

await promise('the configuration is compared with its file and shows no secret', async () => {
  const page = await open('config');
  await page.getByText('The file says what runs').waitFor();
  await page.getByText('"webhooks"').waitFor();
  assert.ok(!(await page.content()).includes(process.env.WEBHOOK_SECRET));
});

await promise('it is read on a phone without scrolling sideways, and worked by the keyboard alone', async () => {
  const page = await open('overview', { viewport: { width: 360, height: 740 } });
  for (const [at, title] of ['Overview', 'Channels', 'Connections', 'Tail & push', 'Explain', 'Dead letters', 'Configuration'].entries()) {
    await page.locator('body').press(String(at + 1));
    await page.waitForFunction((it) => document.title.startsWith(it), title);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${title} is ${wide} px too wide`);
  }
});

await promise('no script failed and nothing was against its own policy', () => assert.deepEqual(complaints, []));

client.socket.close();
await browser.close();
sumUp();
