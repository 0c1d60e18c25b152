import { heartbeat, type Heartbeat } from './heartbeat.ts';
import type { Close, Command, Connected, Reply } from './protocol.ts';
import { TRANSPORTS } from './transports/index.ts';
import type { Door, Link, Transport } from './transports/link.ts';

/** From the first byte to `connected`, in ms: the backend may be asked in between. */
const CONNECTED_WITHIN = 10_000;

/** What happens to a call. `lost` is the last thing, and comes once. */
export interface CallEvents {
  up(connected: Connected): void;
  hear(reply: Reply): void;
  wait(ms: number): void;
  lost(close: Close): void;
}

/** One attempt at one transport, and what becomes of it: it is up within a time or lost, and watched while it is up. */
export interface Call {
  transport: Transport;
  send(command: Command): void;
  /** There is reason to doubt that it still works. */
  doubt(): void;
  /** Ends it. Nothing is told of it any more. */
  hangUp(): void;
}

export function call(transport: Transport, door: Door, on: CallEvents): Call {
  let link: Link | undefined;
  let pulse: Heartbeat | undefined;
  let isOver = false;
  const deadline = setTimeout(() => lose(1006, 'no answer in time'), CONNECTED_WITHIN);

  function hangUp(): void {
    isOver = true;
    clearTimeout(deadline);
    pulse?.stop();
    link?.close();
  }

  function lose(code: number, reason: string): void {
    if (isOver) return;
    hangUp();
    on.lost({ code, reason });
  }

  function hear(reply: Reply): void {
    if (isOver) return;
    if (reply.type === 'connected') {
      clearTimeout(deadline);
      // Polls watch themselves: each has its own end.
      if (transport !== 'poll') pulse = heartbeat(reply.heartbeat, link?.ping, () => lose(4002, 'the server fell silent'));
      return on.up(reply);
    }
    on.hear(reply);
  }

  const told = { hear, alive: () => pulse?.alive(), wait: (ms: number) => !isOver && on.wait(ms), lost: lose };
  try {
    link = TRANSPORTS[transport](door, told);
  } catch (error) {
    // A page's policy may forbid it. Later, so that whoever calls knows its call first.
    queueMicrotask(() => lose(1006, String(error)));
  }
  return { transport, send: (command) => link?.send(command), doubt: () => pulse?.doubt(), hangUp };
}
