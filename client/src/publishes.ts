import { backoff } from './backoff.ts';
import { failed, OutriggerError } from './error.ts';
import { uniqueId } from './id.ts';
import type { Ack, Close, Command, Failure } from './protocol.ts';
import type { Asks } from './subscription.ts';

export interface Draft {
  channel: string;
  data: unknown;
  /** Names it: said twice, it is published once. One is made up if it is left out. */
  id?: string;
  event?: string;
}

/** What this client wants published, until the server has answered for it. */
export interface Publishes {
  add(draft: Draft): Promise<Ack>;
  /** Sends what waits, in order; after a loss of connection everything that is not answered waits. */
  up(): void;
  down(close: Close): void;
  /** Whether the answer was to one of these. */
  hear(reply: Ack | Failure): boolean;
  /** Gives up all of them. */
  end(error: OutriggerError): void;
}

interface Waiting {
  command: Extract<Command, { type: 'publish' }>;
  isSent: boolean;
  expiry: ReturnType<typeof setTimeout>;
  resolve(ack: Ack): void;
  reject(error: OutriggerError): void;
}

const RETRY = [500, 10_000] as const;

/** `most` may wait at a time, each for at most `ms`. */
export function publishes({ ref, send }: Asks, { most, ms }: { most: number; ms: number }): Publishes {
  /** By `ref`, oldest first. */
  const waiting = new Map<number, Waiting>();
  let tries = 0;
  let retry: ReturnType<typeof setTimeout> | undefined;

  function flush(): void {
    clearTimeout(retry);
    retry = undefined;
    for (const it of waiting.values()) if (!it.isSent) it.isSent = send(it.command);
  }

  function settle(it: Waiting, outcome: Ack | OutriggerError): void {
    clearTimeout(it.expiry);
    waiting.delete(it.command.ref);
    if (outcome instanceof OutriggerError) it.reject(outcome);
    else it.resolve(outcome);
  }

  return {
    add: ({ channel, data, id = uniqueId(), event }) => new Promise((resolve, reject) => {
      if (waiting.size >= most) {
        return reject(new OutriggerError('queue_full', `${most} publications wait already`, true, channel));
      }
      const command = { type: 'publish' as const, channel, data, id, ref: ref(), ...(event !== undefined && { event }) };
      const late = () => settle(it, new OutriggerError('timeout', `no answer within ${ms} ms`, true, channel));
      const it: Waiting = { command, isSent: false, expiry: setTimeout(late, ms), resolve, reject };
      waiting.set(command.ref, it);
      // What waits for its turn again goes first.
      if (!retry) it.isSent = send(command);
    }),
    up: flush,
    down({ code }) {
      if (code === 1009) {
        const sent = [...waiting.values()].filter((it) => it.isSent);
        const size = ({ command }: Waiting) => JSON.stringify(command).length;
        const [largest] = sent.sort((a, b) => size(b) - size(a));
        // Sent again, it would end the next connection too.
        if (largest) settle(largest, new OutriggerError('too_large', 'too large for the server', false, largest.command.channel));
      }
      for (const it of waiting.values()) it.isSent = false;
    },
    hear(reply) {
      const it = waiting.get(reply.ref ?? -1);
      if (!it) return false;
      if (reply.type === 'ack') {
        tries = 0;
        settle(it, reply);
      } else if (reply.retryable) {
        it.isSent = false;
        retry ??= setTimeout(flush, backoff(tries++, ...RETRY));
      } else {
        settle(it, failed(reply));
      }
      return true;
    },
    end(error) {
      clearTimeout(retry);
      for (const it of [...waiting.values()]) settle(it, error);
    },
  };
}
