import type { Close, Command, Connected, Reply } from './protocol.ts';
import type { Transport } from './transports/link.ts';

/** `idle` until there is something to do; `closed` for good. */
export type State = 'idle' | 'connecting' | 'connected' | 'reconnecting' | 'closed';

/** How the connection is. */
export interface Status {
  state: State;
  /** While connected. */
  transport?: Transport;
  connectionId?: string;
  userId?: string | null;
  /** While reconnecting: which attempt is next, and in how many ms; not said while the network is away. */
  attempt?: number;
  delay?: number;
  /** What ended the connection before. */
  close?: Close;
}

/** What a line tells. Between an `up` and its `down` stands one session: what was asked of it is void after. */
export interface LineEvents {
  up(connected: Connected): void;
  down(close: Close): void;
  hear(reply: Reply): void;
  status(status: Status): void;
  error(error: Error): void;
}

/** A connection that keeps coming back: one of our own, or another tab's. */
export interface Line {
  open(): void;
  /** Sends now, while it is up. What it is asked for otherwise is asked again after the next `up`. */
  send(command: Command): void;
  close(): void;
}
