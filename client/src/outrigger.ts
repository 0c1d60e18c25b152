import { resolve } from './address.ts';
import { Channel, type Host } from './channel.ts';
import { connection } from './connection.ts';
import { credentials, type Credentials, type TokenOptions } from './credentials.ts';
import { Emitter } from './emitter.ts';
import { ended, failed, OutriggerError } from './error.ts';
import type { Line, State, Status } from './line.ts';
import type { Close, Command, Failure, Gap, Message, Reply } from './protocol.ts';
import { publishes, type Publishes } from './publishes.ts';
import { canShare, shared } from './shared.ts';
import type { Transport, WebSocketLike } from './transports/link.ts';

export interface Options extends TokenOptions {
  /** Where the server is: an absolute URL or a path of this page's origin. By default the place the script came from, or
   * `/realtime`. */
  url?: string;
  /** What may be used, best first. By default `['websocket', 'sse', 'poll']`. */
  transports?: Transport[];
  /** Publications that may wait for an answer at a time; beyond it `publish` rejects. By default 100. */
  queue?: number;
  /** How long a publication may wait for its answer, over all attempts, in ms. By default 60000. */
  publishTimeout?: number;
  /** One connection for all tabs of this origin that say the same here. Say who the user is, if that can change: tabs of
   * two users must not share. By default false. */
  shared?: boolean | string;
  /** Whether requests to another origin carry cookies. By default `'include'`, with a token `'same-origin'`. */
  credentials?: RequestCredentials;
  /** Where the platform has none: Node before 22 needs that of the `ws` package. */
  WebSocket?: WebSocketLike;
  fetch?: typeof fetch;
}

export type OutriggerEvents = {
  /** The first attempt began. */
  connecting: [status: Status];
  /** Everything works: at first, after a loss, and when a better transport took over. */
  connected: [status: Status];
  /** The connection was lost. */
  disconnected: [close: Close];
  /** It comes back by itself. */
  reconnecting: [status: Status];
  /** It does not come back: `close()` was called, or the server says that it would not help. */
  closed: [close: Close];
  /** Any of the above. */
  status: [status: Status];
  /** Something was not done that nobody else was told of. Goes to the console if nobody listens. */
  error: [error: Error];
  /** Publications of a channel were lost for good. */
  gap: [gap: Gap];
  /** The server cannot reach the others: nothing is published until `restored`. */
  degraded: [];
  restored: [];
  /** The token ends soon. With `getToken` it is renewed by itself. */
  expiring: [expiresAt: number];
  /** Any message, on any channel or for this user alone. */
  message: [data: unknown, message: Message];
};

/** An answer to a question comes within this, in ms. */
const ANSWER_WITHIN = 40_000;

interface Question {
  resolve(reply: never): void;
  reject(error: OutriggerError): void;
  timer: ReturnType<typeof setTimeout>;
}

/** A client of one server. It connects when there is something to do, and comes back by itself. */
export class Outrigger extends Emitter<OutriggerEvents> {
  #options: Options;
  /** Made when it is needed: a server that renders the page never connects, and has no address to know. */
  #line: Line | undefined;
  #credentials: Credentials;
  #status: Status = { state: 'idle' };
  #isUp = false;
  #ref = 0;
  #channels = new Map<string, Channel<any>>();
  #questions = new Map<number, Question>();
  #publishes: Publishes;
  #host: Host;

  constructor(options?: Options);
  constructor(url: string, options?: Options);
  constructor(first: string | Options = {}, second: Options = {}) {
    super();
    const options = typeof first === 'string' ? { ...second, url: first } : first;
    this.#credentials = credentials(options);
    this.#host = {
      ref: () => ++this.#ref,
      send: (command) => this.#send(command),
      publish: (draft) => this.#publish(draft),
      ask: (question) => this.#ask(question),
      error: (error) => this.#error(error),
      message: (message) => this.emit('message', message.data, message),
    };
    this.#publishes = publishes(this.#host, { most: options.queue ?? 100, ms: options.publishTimeout ?? 60_000 });
    this.#options = options;
  }

  #open(): void {
    this.#line ??= this.#lineOf(this.#options);
    this.#line.open();
  }

  #lineOf(options: Options): Line {
    const { url = Outrigger.url ?? '/realtime', fetch: get = globalThis.fetch, token, getToken } = options;
    const WebSocket = options.WebSocket ?? (globalThis.WebSocket as unknown as WebSocketLike | undefined);
    const transports = (options.transports ?? ['websocket', 'sse', 'poll']).filter((it) => it !== 'websocket' || WebSocket);
    if (transports.length === 0) throw new TypeError('there is no WebSocket here: give one as `WebSocket`');
    const cookies = options.credentials ?? (token || getToken ? 'same-origin' : 'include');
    const settings = {
      transports,
      credentials: this.#credentials,
      // Called as a method of something else, the browser's own throws.
      door: { url: resolve(url), WebSocket, credentials: cookies, fetch: ((...it) => get(...it)) as typeof fetch },
    };
    const events = {
      up: () => this.#up(),
      down: (it: Close) => this.#down(it),
      hear: (it: Reply) => this.#hear(it),
      status: (it: Status) => this.#became(it),
      error: (it: Error) => this.#error(it),
    };
    if (!options.shared || !canShare()) return connection(settings, events);
    return shared(`outrigger:${settings.door.url}:${options.shared}`, settings, events);
  }

  /** Where the script came from, which is where its server is. */
  static url: string | undefined;

  get state(): State {
    return this.#status.state;
  }

  get status(): Status {
    return this.#status;
  }

  /** Connects, if nothing else did yet; also after `close()`. */
  connect(): this {
    this.#open();
    return this;
  }

  /** The channel of this name, always the same. */
  channel<Data = unknown>(name: string): Channel<Data> {
    let channel = this.#channels.get(name);
    if (!channel) {
      channel = new Channel<any>(name, this.#host).on('gap', (gap) => this.emit('gap', gap));
      this.#channels.set(name, channel);
    }
    return channel;
  }

  /** Ends the connection for good. What waits is rejected. */
  close(): void {
    this.#line?.close();
  }

  #send(command: Command): boolean {
    if (this.#isUp) this.#line!.send(command);
    else if (this.state === 'idle') this.#open();
    return this.#isUp;
  }

  #publish(draft: Parameters<Host['publish']>[0]): ReturnType<Host['publish']> {
    if (this.state === 'closed') return Promise.reject(ended(this.#status.close!));
    return this.#publishes.add(draft);
  }

  #ask<Answer>(question: Parameters<Host['ask']>[0] | { type: 'refresh'; token: string }): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const ref = ++this.#ref;
      if (!this.#send({ ...question, ref })) return reject(new OutriggerError('offline', 'not connected', true));
      const late = () => this.#answer(ref, new OutriggerError('timeout', 'no answer in time', true));
      this.#questions.set(ref, { resolve, reject, timer: setTimeout(late, ANSWER_WITHIN) });
    });
  }

  /** Whether somebody waited for it. */
  #answer(ref: number | undefined, answer: Reply | OutriggerError): boolean {
    const question = this.#questions.get(ref ?? -1);
    if (!question) return false;
    this.#questions.delete(ref!);
    clearTimeout(question.timer);
    if (answer instanceof OutriggerError) question.reject(answer);
    else question.resolve(answer as never);
    return true;
  }

  #up(): void {
    this.#isUp = true;
    for (const it of this.#channels.values()) it.up();
    this.#publishes.up();
  }

  #down(close: Close): void {
    this.#isUp = false;
    for (const it of this.#channels.values()) it.down();
    for (const ref of [...this.#questions.keys()]) this.#answer(ref, new OutriggerError('offline', 'the connection was lost', true));
    this.#publishes.down(close);
  }

  #hear(reply: Reply): void {
    switch (reply.type) {
      case 'ack':
        this.#publishes.hear(reply);
        return;
      case 'error':
        return this.#failed(reply);
      case 'history':
      case 'presence':
      case 'refreshed':
        this.#answer(reply.ref, reply);
        if (reply.type === 'refreshed') for (const it of this.#channels.values()) it.retry();
        return;
      case 'expiring':
        this.emit('expiring', reply.expiresAt);
        void this.#renew();
        return;
      case 'degraded':
      case 'restored':
        return this.emit(reply.type);
      case 'message':
        if (reply.channel === undefined) return this.emit('message', reply.data, reply);
    }
    if (!('channel' in reply) || reply.channel === undefined) return;
    // A backend may have put us on a channel nobody here has asked for yet.
    if (reply.type === 'subscribed') this.channel(reply.channel);
    this.#channels.get(reply.channel)?.hear(reply);
  }

  #failed(failure: Failure): void {
    if (this.#publishes.hear(failure) || this.#answer(failure.ref, failed(failure))) return;
    if (failure.channel !== undefined && failure.ref !== undefined) this.#channels.get(failure.channel)?.hear(failure);
    else this.#error(failed(failure));
  }

  async #renew(): Promise<void> {
    try {
      const token = await this.#credentials.renewed();
      if (token && this.#isUp) await this.#ask({ type: 'refresh', token });
    } catch (error) {
      // The next connection shows the new one anyway.
      if (this.#isUp) this.#error(error as Error);
    }
  }

  #became(status: Status): void {
    const before = this.state;
    this.#status = status;
    this.emit('status', status);
    if (before === 'connected' && status.state !== 'connected') this.emit('disconnected', status.close!);
    if (status.state === 'closed') return this.#closed(status.close!);
    if (status.state !== 'idle') this.emit(status.state, status);
  }

  #closed(close: Close): void {
    this.#publishes.end(ended(close));
    for (const it of this.#channels.values()) it.end(close);
    this.emit('closed', close);
  }

  #error(error: Error): void {
    if (this.hears('error')) this.emit('error', error);
    else console.error('Outrigger:', error);
  }
}
