// A backend, Outrigger before it, a relay before that, and a browser: everything a page needs, for real.

import { spawn } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { Relay } from './relay.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../../', import.meta.url));
const OUTRIGGER = process.env.OUTRIGGER ?? `${root}target/debug/outrigger`;
const SECONDS_TO_START = 20;

/** No inline script, no eval, and connections to the page's own origin alone. */
const POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'";
const PAGES = {
  '/': '<!doctype html><title>page</title><script src="/realtime/client.js"></script>',
  '/tag': `<!doctype html><title>tag</title><p id="total">–</p>
    <script src="/realtime/client.js" data-channel="room.tag" data-target="#total" data-field="order.total"></script>`,
  '/module': '<!doctype html><title>module</title><script type="module" src="/module.js"></script>',
};
const MODULE = `import { Outrigger } from '/realtime/client.mjs';
window.Outrigger = Outrigger;`;

export class Stage {
  /** How long tokens live, in seconds. */
  ttl = 3600;

  static async open() {
    const stage = new Stage();
    stage.secret = randomBytes(32).toString('hex');
    stage.key = randomBytes(16).toString('hex');
    stage.data = mkdtempSync(join(tmpdir(), 'outrigger-client-'));
    stage.backend = await stage.#startBackend();
    [stage.port, stage.tls, stage.api] = await freePorts(3);
    stage.relay = await Relay.start(stage.port);
    await stage.start();
    stage.browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'],
      timeout: 60_000,
    });
    return stage;
  }

  async #startBackend() {
    const server = http.createServer((request, response) => {
      if (request.url === '/token') return response.end(this.token());
      if (request.url === '/module.js') return response.setHeader('content-type', 'text/javascript').end(MODULE);
      const { pathname, searchParams } = new URL(request.url, 'http://backend');
      const page = PAGES[pathname];
      if (!page) return response.writeHead(404).end();
      response.setHeader('content-type', 'text/html').setHeader('content-security-policy', POLICY);
      response.setHeader('set-cookie', `outrigger_token=${this.token(searchParams.get('user') ?? undefined)}; Path=/; HttpOnly; SameSite=Lax`);
      response.end(page);
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  /** A token as a backend signs it (RFC 7519). */
  token(user = 'carol') {
    const now = Math.floor(Date.now() / 1000);
    const part = (it) => Buffer.from(JSON.stringify(it)).toString('base64url');
    const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, iat: now, exp: now + this.ttl })}`;
    return `${text}.${createHmac('sha256', this.secret).update(text).digest('base64url')}`;
  }

  async start() {
    mkdirSync(`${root}target/external`, { recursive: true });
    this.outrigger = spawn(OUTRIGGER, ['run', '--config', `${here}outrigger.yaml`], {
      env: {
        ...process.env, PUBLIC_PORT: this.port, TLS_PORT: this.tls, API_PORT: this.api, RELAY_PORT: this.relay.port,
        BACKEND_PORT: this.backend.address().port, JWT_SECRET: this.secret, PUSH_KEY: this.key, DATA: this.data,
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.outrigger.stderr.pipe(createWriteStream(`${root}target/external/outrigger-client.log`, { flags: 'a' }));
    const deadline = Date.now() + SECONDS_TO_START * 1000;
    for (;;) {
      if (await this.get('/readyz').then((it) => it.ok, () => false)) return;
      if (Date.now() > deadline || this.outrigger.exitCode !== null) throw new Error('Outrigger did not become ready');
      await new Promise((resolve) => setTimeout(resolve, 50)); // There is no event to wait for before it listens.
    }
  }

  /** Ends Outrigger; SIGTERM drains it first. */
  async stop(signal) {
    const ended = once(this.outrigger, 'exit');
    this.outrigger.kill(signal);
    await ended;
  }

  /** What it kept is gone. */
  forget() {
    rmSync(this.data, { recursive: true, force: true });
  }

  async close() {
    await this.browser?.close();
    await this.stop('SIGKILL');
    this.relay.stop();
    this.backend.closeAllConnections();
    this.backend.close();
    this.forget();
  }

  get(path) {
    return fetch(`http://127.0.0.1:${this.api}${path}`, {
      headers: { authorization: `Bearer ${this.key}` }, signal: AbortSignal.timeout(10_000),
    });
  }

  async post(path, body) {
    const response = await fetch(`http://127.0.0.1:${this.api}${path}`, {
      method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(10_000),
      headers: { authorization: `Bearer ${this.key}`, 'content-type': 'application/json' },
    });
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
    return response.json();
  }

  /** A page in a browser of its own. */
  async page(path = '/', context, origin = `http://127.0.0.1:${this.relay.port}`) {
    context ??= await this.browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    page.on('console', (it) => it.type() === 'error' && this.onConsole?.(it.text()));
    page.setDefaultTimeout(20_000);
    await page.goto(origin + path);
    return page;
  }

  /** The process in which the browser's connections live. */
  networkProcess() {
    const mine = process.pid;
    const family = new Map(readdirSync('/proc').filter((it) => /^\d+$/.test(it)).flatMap((pid) => {
      try {
        const parent = Number(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ')[1]);
        return [[Number(pid), { parent, command: readFileSync(`/proc/${pid}/cmdline`, 'utf8') }]];
      } catch {
        return []; // It ended meanwhile.
      }
    }));
    const isOurs = (pid) => pid === mine || (family.has(pid) && isOurs(family.get(pid).parent));
    const found = [...family].find(([pid, it]) => it.command.includes('network.mojom.NetworkService') && isOurs(pid));
    if (!found) throw new Error('the browser has no network process');
    return found[0];
  }
}

async function freePorts(count) {
  const held = await Promise.all(Array.from({ length: count }, async () => {
    const server = net.createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return server;
  }));
  const ports = held.map((it) => it.address().port);
  await Promise.all(held.map((it) => new Promise((resolve) => it.close(resolve))));
  return ports;
}
