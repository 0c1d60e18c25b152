import { backoff } from './backoff.ts';
import { failed, type OutriggerError } from './error.ts';
import type { Command, Failure, Gap, Message, Position, Reply, Subscribed } from './protocol.ts';

/** What a subscription tells. */
export interface SubscriptionEvents {
  subscribed(reply: Subscribed): void;
  unsubscribed(reason?: string): void;
  message(message: Message): void;
  gap(gap: Gap): void;
  refused(error: OutriggerError): void;
}

/** What a subscription needs. */
export interface Asks {
  /** A fresh `ref`. */
  ref(): number;
  /** Sends, while there is a connection; answers whether there is. */
  send(command: Command): boolean;
}

export type SubscriptionState = 'idle' | 'subscribing' | 'subscribed' | 'refused';

/** One channel as this client follows it, over all connections. It knows where it stands, so that nothing is lost or heard
 * twice; and of several questions that cross on the way, only the answer to the latest counts. */
export interface Subscription {
  readonly state: SubscriptionState;
  readonly position: Position | undefined;
  readonly isConflated: boolean;
  /** Wishes may change as they like; what is left of them is said once the current code has run. */
  want(isWanted: boolean): void;
  up(): void;
  down(): void;
  hear(reply: Reply): void;
}

/** Ids of messages that are remembered, to drop what comes again under another number. */
const REMEMBERED = 256;
const RETRY = [500, 30_000] as const;

export function subscription(channel: string, { ref, send }: Asks, on: SubscriptionEvents): Subscription {
  let isWanted = false;
  let state: SubscriptionState = 'idle';
  /** The latest question, until it is answered. */
  let asked: number | undefined;
  /** What the server was told last on this connection. */
  let isTold = false;
  let position: Position | undefined;
  let isConflated = false;
  /** Where a hole was asked about: once is enough. */
  let askedAbout = -1;
  let tries = 0;
  let isSettling = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const heard = new Set<string>();

  function settle(): void {
    isSettling = false;
    if (isWanted && !isTold && state !== 'refused') subscribe();
    else if (!isWanted && (isTold || state !== 'idle')) unsubscribe();
  }

  function subscribe(): void {
    state = 'subscribing';
    const it = ref();
    if (!send({ type: 'subscribe', channel, ref: it, ...(position && { since: position }) })) return;
    asked = it;
    isTold = true;
  }

  function unsubscribe(): void {
    if (isTold) send({ type: 'unsubscribe', channel, ref: ref() });
    leave();
    on.unsubscribed();
  }

  /** Whoever comes again after this begins anew. */
  function leave(): void {
    clearTimeout(timer);
    state = 'idle';
    isTold = false;
    asked = position = undefined;
    askedAbout = -1;
    heard.clear();
  }

  function subscribed(reply: Subscribed): void {
    // Without a `ref` it was the backend's doing.
    if (reply.ref !== asked) return;
    const before = position;
    asked = undefined;
    state = 'subscribed';
    isWanted = isTold = true;
    tries = 0;
    moveTo(reply);
    isConflated = reply.conflated === true;
    on.subscribed(reply);
    if (before && reply.recovered === false && !isConflated) on.gap({ ...position!, type: 'gap', channel, reason: 'history' });
  }

  function message(it: Message): void {
    const { seq, id } = it;
    if (!position || seq === undefined || seq <= position.seq) return;
    const before = it.prev ?? seq - 1;
    const isHole = before > position.seq && !isConflated;
    if (isHole && askedAbout !== position.seq) {
      // Perhaps the server still has it: go on from where we were.
      askedAbout = position.seq;
      return subscribe();
    }
    const { epoch } = position;
    moveTo({ epoch, seq, id });
    if (isHole) on.gap({ type: 'gap', channel, epoch, seq: before, reason: 'missing' });
    if (heard.has(id)) return;
    heard.add(id);
    if (heard.size > REMEMBERED) heard.delete(heard.values().next().value!);
    on.message(it);
  }

  function moveTo({ epoch, seq, id }: Position): void {
    position = { epoch, seq, ...(id !== undefined && { id }) };
  }

  function refused(reply: Failure): void {
    if (reply.ref !== asked) return;
    asked = undefined;
    isTold = false;
    if (reply.retryable) {
      timer = setTimeout(settle, backoff(++tries, ...RETRY));
      return;
    }
    state = 'refused';
    on.refused(failed(reply));
  }

  return {
    get state() { return state; },
    get position() { return position; },
    get isConflated() { return isConflated; },
    want(wanted) {
      isWanted = wanted;
      if (wanted && state === 'refused') state = 'idle';
      if (isSettling) return;
      isSettling = true;
      queueMicrotask(settle);
    },
    up() {
      if (state === 'refused') state = 'idle';
      isTold = false;
      asked = undefined;
      settle();
    },
    down() {
      clearTimeout(timer);
      isTold = false;
      asked = undefined;
      if (state === 'subscribed') state = 'subscribing';
    },
    hear(reply) {
      if (reply.type === 'subscribed') return subscribed(reply);
      if (reply.type === 'error') return refused(reply);
      // Until the latest question is answered, what comes belongs to an older one.
      if (state !== 'subscribed') return;
      switch (reply.type) {
        case 'message': return message(reply);
        case 'gap': {
          moveTo(reply);
          return on.gap(reply);
        }
        case 'skipped': {
          if (position && reply.seq > position.seq) moveTo({ epoch: position.epoch, seq: reply.seq });
          return;
        }
        case 'unsubscribed': {
          isWanted = false;
          leave();
          return on.unsubscribed(reply.reason);
        }
      }
    },
  };
}
