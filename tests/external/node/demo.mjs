// `outrigger demo` in headless Chromium: what a newcomer does in its first minutes, in several windows.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { chromium } from 'playwright-core';
import { promise, sumUp, within } from './promises.mjs';

const PORTS = [8443, 8080, 8700];
const SECONDS_TO_START = 20;
/** Less than whoever runs this would wait before it is killed, which would leave the demo behind, on its ports. */
const SECONDS_IN_ALL = 110;

for (const port of PORTS) {
  if (await isFree(port)) continue;
  console.log(`# the demo is NOT tried: port ${port} is taken`);
  process.exit(0);
}

async function isFree(port) {
  const server = net.createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening'); // rejects with what `error` brings
  } catch {
    return false;
  }
  await new Promise((resolve) => server.close(resolve));
  return true;
}

class Demo {
  static async start() {
    const demo = new Demo();
    demo.process = spawn(process.env.OUTRIGGER, ['demo'], { stdio: ['ignore', 'pipe', 'inherit'] });
    demo.welcome = '';
    const welcomed = new Promise((resolve, reject) => {
      demo.process.stdout.on('data', (data) => {
        demo.welcome += data;
        if (demo.welcome.includes('Ctrl-C')) resolve();
      });
      demo.process.on('exit', (code) => reject(new Error(`the demo ended with ${code}`)));
    });
    await within(SECONDS_TO_START * 1000, welcomed, 'the demo was up');
    return demo;
  }

  async stop() {
    const ended = once(this.process, 'exit');
    this.process.kill('SIGTERM');
    const [code] = await within(20_000, ended, 'the demo ended');
    return code;
  }
}

let demo = await Demo.start();
process.on('exit', () => demo.process.kill('SIGKILL'));
process.on('SIGTERM', () => process.exit(1));
setTimeout(() => {
  console.log(`not ok - demo: it ends within ${SECONDS_IN_ALL} s`);
  process.exit(1);
}, SECONDS_IN_ALL * 1000).unref();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  timeout: 60_000,
});
const complaints = [];

/** A window of somebody of their own: nobody, before a name is chosen. */
async function open(name, { url = 'http://localhost:8080/', ...options } = {}) {
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true, ...options })).newPage();
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (said) => said.type() === 'error' && complaints.push(said.text()));
  await page.goto(url);
  await isLive(page, 'WebSocket');
  if (name) await join(page, name);
  return page;
}

async function join(page, name) {
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Join' }).click();
  await here(page, `${name} (you)`);
}

const isLive = (page, transport) => page.locator('#state').getByText(`Live over ${transport}`, { exact: true }).waitFor();
const here = (page, name) => page.getByRole('list', { name: 'Who is here' }).getByText(name, { exact: true }).waitFor();
const names = (page) => page.getByRole('list', { name: 'Who is here' }).getByRole('listitem').allTextContents();
const heard = (page, text) => page.getByRole('log', { name: 'Messages' }).getByText(text, { exact: true }).waitFor();

async function say(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

/** [seq, gaps] of a channel. */
async function position(page, channel) {
  const cells = await page.getByRole('row', { name: channel }).getByRole('cell').allTextContents();
  return [cells[0], cells[2]];
}

/** The ticker is pushed each second: it goes on, or it does not. */
async function ticks(page) {
  const [seq] = await position(page, 'ticker');
  await page.waitForFunction((it) => Number(document.querySelector('[data-channel=ticker] td').textContent) > Number(it), seq);
}

await promise('demo: its page is live over TLS as well as without', async () => {
  for (const url of ['https://localhost:8443/', 'http://localhost:8080/']) {
    const page = await open(null, { url });
    await ticks(page);
    await page.context().close();
  }
});

await promise('demo: each transport can be chosen, by the keyboard too, and the ticker goes on', async () => {
  const page = await open();
  await page.getByRole('radio', { name: 'WebSocket' }).focus();
  for (const transport of ['event stream', 'long-poll', 'WebSocket']) {
    await page.keyboard.press('ArrowRight');
    await isLive(page, transport);
    await ticks(page);
  }
  assert.deepEqual(await position(page, 'orders'), ['0', '0']);
  await page.context().close();
});

const [ada, bob, reader] = [await open('ada'), await open('bob'), await open()];

await promise('demo: everybody sees who is in the chat, and who has no name is not seen', async () => {
  for (const page of [ada, bob, reader]) await Promise.all(['ada', 'bob'].map((it) => here(page, (it === 'ada' ? ada : bob) === page ? `${it} (you)` : it)));
  assert.deepEqual(await names(reader), ['ada', 'bob']);
});

await promise('demo: what one says the others hear, whatever the transport', async () => {
  await bob.getByRole('radio', { name: 'Long-poll' }).check({ force: true });
  await reader.getByRole('radio', { name: 'SSE' }).check({ force: true });
  await isLive(bob, 'long-poll');
  await isLive(reader, 'event stream');
  await say(ada, 'ahoy');
  await Promise.all([ada, bob, reader].map((it) => heard(it, 'ahoy')));
  await say(bob, 'ahoy yourself');
  await Promise.all([ada, bob, reader].map((it) => heard(it, 'ahoy yourself')));
});

await promise('demo: who leaves for three seconds comes back and has lost nothing, over each transport', async () => {
  for (const [page, word] of [[ada, 'WebSocket'], [bob, 'long-poll'], [reader, 'event stream']]) {
    await page.getByRole('button', { name: 'Leave for 3 seconds' }).click();
    await page.getByText('Away…').waitFor();
    await say(page === ada ? bob : ada, `said while ${word} is away`);
    await page.getByRole('button', { name: 'Sail' }).click();
    await isLive(page, word);
    await page.getByText('Resumed: nothing was lost.').waitFor();
    await heard(page, `said while ${word} is away`);
  }
  const sails = reader.getByRole('log', { name: 'Orders' }).getByRole('listitem');
  await Promise.all([ada, bob, reader].map((it) => it.getByRole('log', { name: 'Orders' }).getByRole('listitem').nth(2).waitFor()));
  assert.equal(await sails.count(), 3);
  for (const page of [ada, bob, reader]) {
    assert.deepEqual(await position(page, 'chat.lobby'), ['5', '0']);
    assert.equal(await page.getByRole('log', { name: 'Messages' }).getByRole('listitem').count(), 5);
  }
});

await promise('demo: who logs out is seen no more, and goes on reading', async () => {
  await bob.getByRole('button', { name: 'Log out' }).click();
  await bob.getByText('as nobody').waitFor();
  await ada.getByRole('list', { name: 'Who is here' }).getByText('bob').waitFor({ state: 'detached' });
  assert.deepEqual(await names(reader), ['ada']);
  await say(ada, 'he is gone');
  await heard(bob, 'he is gone');
});

await promise('demo: on a phone nothing is wider than the screen', async () => {
  const page = await open('somebody-with-long-names', { viewport: { width: 390, height: 844 } });
  await say(page, 'w'.repeat(200));
  await heard(page, 'w'.repeat(200));
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
  await page.context().close();
});

await promise('demo: the key in the welcome opens the console it names', async () => {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(demo.welcome.match(/^ *(http:\/\/127\.0\.0\.1:8700\/)$/m)[1]);
  await page.getByRole('link', { name: 'Channels' }).click();
  await page.getByLabel('Key', { exact: true }).fill(demo.welcome.match(/Bearer (\S+)'/)[1]);
  await page.getByRole('button', { name: 'Use this key' }).click();
  await page.getByRole('link', { name: 'chat.lobby' }).waitFor();
  await page.context().close();
});

await promise('demo: no page complained of anything', () => assert.deepEqual(complaints, []));

await promise('demo: a page comes back by itself after a restart, and says what that cost', async () => {
  assert.equal(await demo.stop(), 0);
  await ada.getByText(/Reconnecting|Trying again/).waitFor();
  demo = await Demo.start();
  await isLive(ada, 'WebSocket');
  await ada.getByText('A new server: the past is gone.').waitFor();
  await ada.getByText('You were logged out: choose a name again.').waitFor();
  await ada.getByText(demo.welcome.match(/Bearer (\S+)'/)[1]).first().waitFor();
  await join(ada, 'ada');
  await say(ada, 'here again');
  await heard(reader, 'here again');
});

await browser.close();
await demo.stop();
sumUp();
