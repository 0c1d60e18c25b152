// Stands between the browser and Outrigger, as a network does: it may break, go silent, or not let something through.

import net from 'node:net';

export class Relay {
  /** Requests that begin like one of these are answered with 403, by somebody in between. */
  blocked = [];
  #pairs = new Set();
  #isFrozen = false;

  static async start(target) {
    const relay = new Relay();
    relay.server = net.createServer((socket) => relay.#join(socket, net.connect(target, '127.0.0.1')));
    await new Promise((resolve) => relay.server.listen(0, '127.0.0.1', resolve));
    relay.port = relay.server.address().port;
    return relay;
  }

  #join(browser, server) {
    const pair = [browser, server];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      for (const it of pair) it.destroy();
    };
    for (const it of pair) it.on('error', end).on('close', end);
    browser.on('data', (bytes) => {
      if (this.#isBlocked(bytes)) return browser.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
      server.write(bytes);
    });
    server.on('data', (bytes) => browser.write(bytes));
    if (this.#isFrozen) for (const it of pair) it.pause();
  }

  #isBlocked(bytes) {
    if (this.blocked.length === 0) return false;
    const text = bytes.toString('latin1');
    return /^[A-Z]+ /.test(text) && this.blocked.some((it) => text.toLowerCase().includes(it));
  }

  /** Every connection breaks. */
  cut() {
    for (const pair of this.#pairs) for (const it of pair) it.resetAndDestroy();
  }

  /** Nothing passes, and nobody is told. */
  freeze() {
    this.#isFrozen = true;
    for (const pair of this.#pairs) for (const it of pair) it.pause();
  }

  /** The network is another one: what was open before is dead without having said so. */
  thaw() {
    this.#isFrozen = false;
    this.cut();
  }

  stop() {
    this.cut();
    this.server.close();
  }
}

/** What to block, as it is seen on the wire. */
export const WEBSOCKET = 'upgrade: websocket';
export const EVENT_STREAM = '/realtime/sse';
