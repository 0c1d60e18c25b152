// A client for Outrigger in one page: WebSocket, event stream or long-poll, all saying the same messages.
// It comes back by itself, goes on from where it was, and says so where something was lost.

const PATH = '/realtime';
/** Attempts wait twice as long each time, from the first to the second of these (ms), and never quite the same. */
const BACKOFF = [400, 30_000];
/** Closes that ask not to come back: 1008, and 4500 to 4999. */
const isFinal = (code) => code === 1008 || (code >= 4500 && code <= 4999);
const EVENTS = ['connected', 'subscribed', 'unsubscribed', 'message', 'gap', 'skipped', 'resumed',
  'reconnect', 'expiring', 'refreshed', 'failure', 'closed'];

export class Realtime {
  /**
   * @param {string[]} channels what to follow
   * @param {{message(m), history(channel, messages), state(state), position(channel, position),
   *   resumed(channel, isWhole), error(e)}} on
   */
  constructor(channels, on) {
    this.channels = channels;
    this.on = on;
    /** Per channel: where we are ({epoch, seq, id}), and what was lost on the way there. */
    this.positions = new Map();
    /** Where an event stream is. */
    this.cursor = '';
    /** The session of polls: {cursor, connection}. It outlives a request that failed. */
    this.polled = {};
    this.attempt = 0;
    this.comeBackAfter = 0;
    this.link = null;
    addEventListener('online', () => this.timer && this.open());
  }

  /** Connects over `websocket`, `sse` or `poll`; leaves the transport before. */
  use(transport) {
    this.transport = transport;
    this.polled = {};
    this.attempt = 0;
    this.open();
  }

  /** Goes, until `use`. */
  leave() {
    clearTimeout(this.timer);
    this.timer = null;
    this.link?.close();
    this.link = null;
    this.tell('away');
  }

  /** Publishes, and resolves with the answer or rejects with the error. */
  publish(channel, data) {
    return this.send('publish', { channel, data, id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` });
  }

  async send(type, fields) {
    if (!this.link?.isOpen) throw { code: 'offline', message: 'Not connected right now.', retryable: true };
    const reply = await this.link.send(type, fields);
    if (reply.type === 'error') throw reply;
    return reply;
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    this.link?.close();
    this.tell(this.attempt === 0 ? 'connecting' : 'reconnecting');
    const link = LINKS[this.transport](this, {
      hear: (reply) => this.link === link && this.hear(reply),
      lost: (code, reason) => this.link === link && this.lost(code, reason),
      waiting: () => this.link === link && this.tell('reconnecting'),
    });
    this.link = link;
  }

  lost(code, reason) {
    this.link.close();
    if (isFinal(code)) return this.tell('refused', reason);
    const longest = Math.min(BACKOFF[1], BACKOFF[0] * 2 ** this.attempt++);
    const delay = this.comeBackAfter || longest / 2 + Math.random() * longest / 2;
    this.comeBackAfter = 0;
    this.timer = setTimeout(() => this.open(), delay);
    this.tell('reconnecting', reason, delay);
  }

  tell(state, reason = '', delay = 0) {
    this.on.state({ state, reason, delay, transport: this.transport, connection: this.connection });
  }

  hear(reply) {
    switch (reply.type) {
      case 'connected': return this.connected(reply);
      case 'subscribed': return this.subscribed(reply);
      case 'message': return this.message(reply);
      case 'gap': return this.jump(reply.channel, reply, { gaps: 1 });
      case 'skipped': return this.jump(reply.channel, { ...this.positions.get(reply.channel), seq: reply.seq });
      case 'reconnect': this.comeBackAfter = Math.max(1, reply.afterMs); return;
      case 'error': if (reply.ref === undefined) this.on.error(reply); return;
    }
  }

  connected(connection) {
    this.connection = connection;
    this.attempt = 0;
    this.tell('connected');
  }

  /** Where the server could not go on for us, the channel's history tells what it still has. */
  async subscribed({ channel, epoch, seq, id, recovered, conflated }) {
    const before = this.positions.get(channel);
    const isKnown = before?.epoch === epoch;
    if (recovered && isKnown) {
      this.on.resumed(channel, true);
      return this.jump(channel, { ...before, conflated });
    }
    const isLoss = recovered === false && !conflated;
    if (isLoss) this.on.resumed(channel, false);
    const left_out = conflated && isKnown ? Math.max(0, seq - before.seq) : 0;
    this.jump(channel, { epoch, seq, id, conflated }, { gaps: isLoss ? 1 : 0, left_out });
    const since = isKnown && !conflated ? { epoch, seq: before.seq } : undefined;
    try {
      const history = await this.send('history', { channel, since, limit: 50 });
      this.on.history(channel, history.messages);
      if (since && !isLoss) {
        this.on.resumed(channel, history.complete);
        if (!history.complete) this.jump(channel, {}, { gaps: 1 });
      }
    } catch (error) {
      if (error.code !== 'offline') this.on.error(error);
    }
  }

  message(message) {
    const at = this.positions.get(message.channel);
    if (at && message.seq <= at.seq) return; // Answered again, because we had not confirmed it.
    if (message.channel) {
      const isNext = !at || (message.prev ?? message.seq - 1) === at.seq;
      const loss = isNext ? {} : at.conflated ? { left_out: message.seq - at.seq - 1 } : { gaps: 1 };
      this.jump(message.channel, { seq: message.seq, id: message.id }, loss);
    }
    this.on.message(message);
  }

  jump(channel, { epoch, seq, id, conflated }, { gaps = 0, left_out = 0 } = {}) {
    const at = this.positions.get(channel) ?? { gaps: 0, left_out: 0 };
    const position = { ...at, gaps: at.gaps + gaps, left_out: at.left_out + left_out };
    if (epoch !== undefined) position.epoch = epoch;
    if (seq !== undefined) Object.assign(position, { seq, id });
    if (conflated !== undefined) position.conflated = conflated;
    this.positions.set(channel, position);
    this.on.position(channel, position);
  }
}

const LINKS = { websocket: overWebSocket, sse: overEventStream, poll: overPolls };

function overWebSocket(realtime, { hear, lost }) {
  const socket = new WebSocket(new URL(PATH, location).href.replace(/^http/, 'ws'), ['outrigger.v1.json']);
  const waiting = new Map();
  let refs = 0;
  let heard = Date.now();
  let heartbeat;

  const send = (type, fields) => new Promise((resolve) => {
    const ref = ++refs;
    waiting.set(ref, resolve);
    socket.send(JSON.stringify({ type, ...fields, ref }));
  });
  const started = ({ heartbeat: { interval, timeout } }) => {
    heartbeat = setInterval(() => {
      if (Date.now() - heard > timeout) return lost(4002, 'The server fell silent.');
      socket.send('{"type":"ping"}');
    }, interval / 2);
    for (const channel of realtime.channels) {
      const at = realtime.positions.get(channel);
      send('subscribe', { channel, since: at?.epoch && { epoch: at.epoch, seq: at.seq, id: at.id } });
    }
  };
  socket.onmessage = ({ data }) => {
    heard = Date.now();
    const reply = JSON.parse(data);
    waiting.get(reply.ref)?.(reply);
    waiting.delete(reply.ref);
    hear(reply);
    if (reply.type === 'connected') started(reply);
  };
  socket.onclose = ({ code, reason }) => {
    clearInterval(heartbeat);
    for (const resolve of waiting.values()) resolve({ type: 'error', code: 'offline', message: 'The connection broke.' });
    waiting.clear();
    lost(code, reason);
  };
  return {
    get isOpen() { return socket.readyState === WebSocket.OPEN; },
    send,
    close() {
      clearInterval(heartbeat);
      socket.close();
    },
  };
}

/** The browser's own EventSource: it comes back by itself, with the cursor as Last-Event-ID. */
function overEventStream(realtime, { hear, lost, waiting }) {
  const query = new URLSearchParams({ channels: realtime.channels.join(',') });
  if (realtime.cursor) query.set('cursor', realtime.cursor);
  const source = new EventSource(`${PATH}/sse?${query}`);
  const posts = new Posts();

  for (const event of EVENTS) {
    source.addEventListener(event, ({ data, lastEventId }) => {
      if (lastEventId) realtime.cursor = lastEventId;
      const reply = JSON.parse(data);
      if (reply.type === 'connected') posts.connection = reply;
      if (reply.type === 'closed' && isFinal(reply.code)) return lost(reply.code, reply.reason);
      hear(reply);
    });
  }
  source.onerror = () => {
    posts.connection = null;
    // It gives up after an answer that is no event stream, such as a proxy's error page.
    if (source.readyState === EventSource.CLOSED) lost(1006, 'No event stream.');
    else waiting();
  };
  return {
    get isOpen() { return posts.connection !== null; },
    send: (type, fields) => posts.send(type, fields),
    close: () => source.close(),
  };
}

/** One request after another. The cursor of the last answer confirms it. */
function overPolls(realtime, { hear, lost }) {
  const ended = new AbortController();
  const posts = new Posts();
  const session = realtime.polled;
  let goesOn = session.connection !== undefined;

  const poll = async () => {
    const query = new URLSearchParams({ channels: realtime.channels.join(',') });
    if (session.cursor) query.set('cursor', session.cursor);
    const response = await fetch(`${PATH}/poll?${query}`, { signal: ended.signal, cache: 'no-store' });
    const answer = await response.json();
    if (!response.ok) {
      realtime.comeBackAfter = 1000 * (Number(response.headers.get('retry-after')) || 0);
      const mayComeBack = answer.retryable || response.status >= 500;
      return lost(mayComeBack ? 1006 : 4500, answer.message);
    }
    session.cursor = answer.cursor;
    session.connection = answer.messages.find((it) => it.type === 'connected') ?? session.connection;
    posts.connection = session.connection;
    if (goesOn) realtime.connected(session.connection);
    goesOn = false;
    for (const reply of answer.messages) {
      if (reply.type === 'closed') return lost(reply.code, reply.reason);
      hear(reply);
    }
    setTimeout(go, answer.retry);
  };
  const go = () => {
    if (!ended.signal.aborted) poll().catch((error) => ended.signal.aborted || lost(1006, error.message));
  };
  go();
  return {
    get isOpen() { return posts.connection !== null; },
    send: (type, fields) => posts.send(type, fields),
    close: () => ended.abort(),
  };
}

/** Commands beside an event stream or polls, with the secret that `connected` carried. */
class Posts {
  connection = null;

  async send(type, fields) {
    const { connectionId, secret } = this.connection;
    const response = await fetch(`${PATH}/connections/${connectionId}/${type}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' },
      body: JSON.stringify(fields),
    });
    return response.json();
  }
}
