// Counts: what the backend pushed and the server took, against what the page heard. A publication that is not heard must
// have been told of; one heard twice is never right.

import assert from 'node:assert/strict';

const sums = { pushed: 0, told: 0, silent: 0 };

export class Ledger {
  pushed = [];
  #n = 0;

  constructor(stage, page, channel) {
    Object.assign(this, { stage, page, channel });
  }

  /** Follows the channel in the page, and has it keep a record. */
  static async open(stage, page, channel, options = {}) {
    const ledger = new Ledger(stage, page, channel);
    await page.evaluate(async ([name, given]) => {
      window.live = new window.Outrigger({ ...given, ...(given.getToken && { getToken: async () => (await fetch('/token')).text() }) });
      window.heard = [];
      window.gaps = [];
      window.states = [];
      window.wake = () => {};
      live.on('status', (it) => { states.push({ ...it }); window.wake(); });
      live.on('error', (it) => { states.push({ error: it.message }); });
      live.on('gap', (it) => { gaps.push(it); window.wake(); });
      window.until = async (test) => { while (!test()) await new Promise((resolve) => { window.wake = resolve; }); };
      window.room = live.channel(name).on('message', (data) => { heard.push(data); window.wake(); });
      room.on('subscribed', () => window.wake());
      await room.ready;
    }, [channel, options]);
    return ledger;
  }

  /** Pushes so many, one after the other. */
  async push(count = 1) {
    for (let n = 0; n < count; n += 1) {
      this.#n += 1;
      const data = `${this.channel}/${this.#n}`;
      const { results } = await this.stage.post('/push', { channel: this.channel, data, id: data });
      if (results[0].status === 'taken') this.pushed.push(data);
    }
  }

  /** Waits until the page heard the last that was pushed, and compares. Answers what was lost, and told. */
  async settle({ mayLose = false } = {}) {
    await this.page.evaluate((last) => until(() => heard.includes(last)), this.pushed.at(-1));
    const { heard, gaps } = await this.page.evaluate(() => ({ heard, gaps }));
    const lost = this.pushed.filter((it) => !heard.includes(it));
    const isTold = gaps.length > 0;
    sums.pushed += this.pushed.length;
    sums[isTold ? 'told' : 'silent'] += lost.length;
    assert.deepEqual(heard, this.pushed.filter((it) => !lost.includes(it)), 'each once, in the order they were pushed');
    if (!isTold) assert.equal(lost.length, 0, `${lost.length} of ${this.pushed.length} were lost in silence: ${lost.slice(0, 5)} …`);
    if (!mayLose) assert.deepEqual(gaps, []);
    return lost.length;
  }

  /** What a page's own connection says. */
  status() {
    return this.page.evaluate(() => live.status);
  }

  /** Waits for the connection to be in a state, after whatever it is in now. */
  async becomes(state) {
    await this.page.evaluate((state) => until(() => live.state === state), state);
  }

  /** Waits for another session than the one of now. */
  async returns(before) {
    await this.page.evaluate((id) => until(() => live.state === 'connected' && live.status.connectionId !== id && room.state === 'subscribed'), before);
  }

  static sum() {
    return sums;
  }
}
