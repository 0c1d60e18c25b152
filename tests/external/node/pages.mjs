// node pages.mjs EXAMPLE HOST: what somebody does with an example's page, in two windows where it takes two.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { promise, sumUp } from './promises.mjs';

const [example, host] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  timeout: 60_000,
});

async function open() {
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => assert.fail(error.message));
  await page.goto(`https://${host}/`);
  return page;
}

async function room() {
  await promise('a login, a message, an order and a refusal show on the page, and on that of somebody who only reads', async () => {
    const [ada, reader] = [await open(), await open()];
    await Promise.all([ada, reader].map((it) => it.getByText('Connected as nobody').waitFor()));
    await fill(ada, 'Your name', 'ada', 'Log in');
    await ada.getByText('Connected as ada').waitFor();
    await fill(ada, 'Say something', 'ahoy', 'Send');
    await ada.getByRole('button', { name: 'Buy an oar' }).click();
    for (const page of [ada, reader]) await Promise.all(['ada: ahoy', 'ada bought: oar'].map((it) => page.getByText(it).waitFor()));
    await fill(reader, 'Say something', 'me too', 'Send');
    await reader.getByText('⚠').waitFor();
  });
}

async function fill(page, placeholder, text, button) {
  await page.getByPlaceholder(placeholder).fill(text);
  await page.getByRole('button', { name: button }).click();
}

const EXAMPLES = {
  'python-backend': room,
  'node-backend': room,
  'php-backend': room,

  'progress-bar': () =>
    promise('a job is followed to its end, and a second page that comes late sees where it is', async () => {
      const page = await open();
      await page.getByRole('button', { name: 'Start the import' }).click();
      await page.getByRole('status').getByText('%').waitFor();
      const late = await open();
      await late.goto(page.url());
      await late.reload();
      await late.getByRole('status').getByText(/%|Done/).waitFor();
      await Promise.all([page, late].map((it) => it.getByText('Done.').waitFor()));
      assert.equal(await late.getByRole('progressbar').getAttribute('value'), '100');
    }),

  'presence-cursors': () =>
    promise('two people see each other and where they point, and who closes the page is gone', async () => {
      const [ada, bob] = [await open(), await open()];
      for (const [page, name] of [[ada, 'Ada'], [bob, 'Bob']]) {
        await page.getByLabel('Your name').fill(name);
        await page.getByRole('button', { name: 'Join' }).click();
      }
      await ada.getByRole('listitem').getByText('Bob', { exact: true }).waitFor();
      await bob.getByRole('listitem').getByText('Bob (you)').waitFor();
      await ada.mouse.move(200, 200);
      await ada.mouse.move(320, 240);
      await bob.locator('.cursor', { hasText: 'Ada' }).waitFor();
      await bob.context().close();
      await ada.getByRole('listitem').getByText('Bob', { exact: true }).waitFor({ state: 'detached' });
    }),

  'live-table': () =>
    promise('a change on one page is a change on all', async () => {
      const [here, there] = [await open(), await open()];
      await Promise.all([here, there].map((it) => it.getByText('Live', { exact: true }).waitFor()));
      await here.getByRole('button', { name: 'Oar less' }).click();
      await there.getByRole('row', { name: /^Oar 11/ }).waitFor();
      await there.getByRole('button', { name: 'Rope more' }).click();
      await here.getByRole('row', { name: /^Rope 41/ }).waitFor();
    }),
};

await EXAMPLES[example]();
await browser.close();
sumUp();
