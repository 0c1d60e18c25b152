import { Emitter, type Handler } from './emitter.ts';
import type { OutriggerError } from './error.ts';
import { Presence } from './presence.ts';
import type { Ack, Attendance, Close, Gap, History, Message, Position, Reply, Subscribed } from './protocol.ts';
import type { Draft } from './publishes.ts';
import { reader, type Read, type Reader } from './reader.ts';
import { subscription, type Asks, type Subscription, type SubscriptionState } from './subscription.ts';

export type ChannelEvents<Data> = {
  /** A publication. `message:NAME` hears those whose `event` is NAME alone. */
  message: [data: Data, message: Message<Data>];
  [named: `message:${string}`]: [data: Data, message: Message<Data>];
  /** It is followed, from now on or again. */
  subscribed: [reply: Subscribed];
  /** It is no longer followed; `reason` is given unless it was this page's wish. */
  unsubscribed: [reason?: string];
  /** Publications were lost for good: fetch the page's data anew. */
  gap: [gap: Gap];
  /** It may not be followed. */
  error: [error: OutriggerError];
};

/** What a channel needs of its client. */
export interface Host extends Asks {
  publish(draft: Draft): Promise<Ack>;
  ask<Answer>(question: { type: 'history' | 'presence'; channel: string; since?: Position; limit?: number }): Promise<Answer>;
  /** Told of what nobody listens for on the channel. */
  error(error: OutriggerError): void;
  message(message: Message): void;
}

/** One channel. It is followed while somebody listens for its messages or its members, or since `subscribe()`. */
export class Channel<Data = unknown> extends Emitter<ChannelEvents<Data>> {
  readonly presence: Presence;
  #host: Host;
  #subscription: Subscription;
  #isAskedFor = false;
  #listeners = 0;
  #readers = new Set<Reader<Data>>();

  /** @internal */
  constructor(readonly name: string, host: Host) {
    super();
    this.#host = host;
    this.presence = new Presence(
      (by) => this.#count(by),
      (limit) => host.ask<Attendance>({ type: 'presence', channel: name, ...(limit && { limit }) }),
    );
    this.#subscription = subscription(name, host, {
      subscribed: (reply) => this.emit('subscribed', reply),
      unsubscribed: (reason) => {
        for (const it of this.#readers) it.end();
        this.emit('unsubscribed', reason);
      },
      message: (message) => this.#message(message as Message<Data>),
      gap: (gap) => this.emit('gap', gap),
      refused: (error) => this.#refused(error),
    });
  }

  get state(): SubscriptionState {
    return this.#subscription.state;
  }

  /** The last publication that was heard, or the one before the first. */
  get position(): Position | undefined {
    return this.#subscription.position;
  }

  /** Whether publications are left out on purpose, because only the latest counts. */
  get isConflated(): boolean {
    return this.#subscription.isConflated;
  }

  /** Resolves when the channel is followed, and rejects if it may not be. Asking for it subscribes. */
  get ready(): Promise<void> {
    this.subscribe();
    return new Promise((resolve, reject) => {
      if (this.state === 'subscribed') return resolve();
      const done = (settle: () => void) => {
        this.off('subscribed', good).off('error', bad).off('unsubscribed', gone);
        settle();
      };
      const good = () => done(resolve);
      const bad = (error: OutriggerError) => done(() => reject(error));
      const gone = () => done(() => reject(new Error(`${this.name} was left before it was followed`)));
      this.on('subscribed', good).on('error', bad).on('unsubscribed', gone);
    });
  }

  /** Follows the channel, whether or not somebody listens. */
  subscribe(): this {
    this.#isAskedFor = true;
    this.#subscription.want(true);
    return this;
  }

  /** Leaves the channel. Who listens stays, and hears again after the next `subscribe()`. */
  unsubscribe(): this {
    this.#isAskedFor = false;
    this.#subscription.want(false);
    return this;
  }

  /** Listens. Listening for messages follows the channel. */
  override on<Name extends keyof ChannelEvents<Data>>(event: Name, handler: Handler<ChannelEvents<Data>[Name]>): this {
    if (isMessage(event) && !this.has(event, handler)) this.#count(1);
    return super.on(event, handler);
  }

  /** Listens no more. The channel is left with its last listener, unless `subscribe()` was called. */
  override off<Name extends keyof ChannelEvents<Data>>(event: Name, handler: Handler<ChannelEvents<Data>[Name]>): this {
    if (isMessage(event) && this.has(event, handler)) this.#count(-1);
    return super.off(event, handler);
  }

  /** Publishes to everybody on the channel, or to the backend, as its rule says. Said again after a loss of connection, it
   * is published once. */
  publish(data: unknown, { event, id }: { event?: string; id?: string } = {}): Promise<Ack> {
    return this.#host.publish({ channel: this.name, data, ...(event !== undefined && { event }), ...(id !== undefined && { id }) });
  }

  /** What the server keeps of the past. The channel must be followed. */
  history({ since, limit }: { since?: Position; limit?: number } = {}): Promise<History> {
    return this.#host.ask({ type: 'history', channel: this.name, ...(since && { since }), ...(limit && { limit }) });
  }

  /** `for await (const message of channel)`: follows the channel until the loop is left. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Read<Data>> {
    const it = reader<Data>(() => {
      this.#readers.delete(it);
      this.#leaveIfUnheard();
    });
    this.#readers.add(it);
    this.#subscription.want(true);
    return it;
  }

  #message(message: Message<Data>): void {
    for (const it of this.#readers) it.put(message);
    this.emit('message', message.data, message);
    if (message.event !== undefined) this.emit(`message:${message.event}`, message.data, message);
    this.#host.message(message);
  }

  #refused(error: OutriggerError): void {
    for (const it of this.#readers) it.end(error);
    if (this.hears('error')) this.emit('error', error);
    else this.#host.error(error);
  }

  #count(by: 1 | -1): void {
    this.#listeners += by;
    if (by > 0) this.#subscription.want(true);
    else this.#leaveIfUnheard();
  }

  #leaveIfUnheard(): void {
    if (!this.#isAskedFor && this.#listeners + this.#readers.size === 0) this.#subscription.want(false);
  }

  /** @internal */
  up(): void {
    this.#subscription.up();
  }

  /** @internal */
  down(): void {
    this.#subscription.down();
  }

  /** @internal What was refused may be allowed now. */
  retry(): void {
    if (this.state === 'refused') this.#subscription.want(true);
  }

  /** @internal */
  hear(reply: Reply): void {
    this.#subscription.hear(reply);
    if (this.state === 'subscribed') this.presence.hear(reply);
  }

  /** @internal */
  end(close: Close): void {
    for (const it of this.#readers) it.end();
    if (this.state !== 'idle') this.emit('unsubscribed', close.reason || 'closed');
  }
}

function isMessage(event: PropertyKey): boolean {
  return String(event).startsWith('message');
}
