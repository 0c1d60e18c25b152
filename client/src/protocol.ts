// What is said on the wire: docs/protocol.md as types. Times are milliseconds, since the Unix epoch where they are points.

/** Where a channel stands, or where a client stands in it. `seq` only grows while `epoch` is the same. */
export interface Position {
  epoch: string;
  seq: number;
  id?: string;
}

/** A publication. Without `channel` and `seq` it was for this user or connection alone. */
export interface Message<Data = unknown> {
  type: 'message';
  channel?: string;
  data: Data;
  /** Bytes, where the publisher sent bytes; `data` is null then. */
  data_base64?: string;
  event?: string;
  /** Who published it; absent if the backend did. */
  userId?: string;
  id: string;
  seq?: number;
  prev?: number;
  timestamp: number;
  /** Its content was erased; it kept its number. */
  erased?: boolean;
}

/** Somebody on a channel with presence. */
export interface Member {
  userId: string;
  info?: unknown;
}

export interface Connected {
  type: 'connected';
  connectionId: string;
  userId: string | null;
  timestamp: number;
  expiresAt?: number;
  heartbeat: { interval: number; timeout: number };
  /** Authorises commands beside an event stream or a poll. */
  secret?: string;
}

export interface Subscribed extends Position {
  type: 'subscribed';
  channel: string;
  /** Whether everything since the position that was named follows. Absent if none was named. */
  recovered?: boolean;
  /** Publications are left out on purpose: only the latest counts. */
  conflated?: boolean;
  /** Who is there, where the rule has presence; only how many, where they are more than the rule lists. */
  members?: Member[];
  membersTotal?: number;
  ref?: number;
}

/** Publications of a channel were lost to this client; it goes on from here. */
export interface Gap extends Position {
  type: 'gap';
  channel: string;
  reason: string;
}

/** The publication was taken. */
export interface Ack {
  type: 'ack';
  id?: string;
  seq?: number;
  /** What the backend answered. */
  reply?: unknown;
  ref?: number;
  timestamp: number;
}

export interface History {
  type: 'history';
  channel: string;
  epoch: string;
  seq: number;
  messages: Message[];
  /** Whether it is everything since the position that was named. */
  complete: boolean;
  ref?: number;
}

/** Who is on a channel: perhaps not all of the `total`. */
export interface Attendance {
  type: 'presence';
  channel: string;
  members: Member[];
  total: number;
  ref?: number;
}

export interface Failure {
  type: 'error';
  code: string;
  message: string;
  channel?: string;
  ref?: number;
  retryable: boolean;
}

/** What a client hears. */
export type Reply =
  | Connected
  | Subscribed
  | Message
  | Gap
  | Ack
  | History
  | Failure
  | { type: 'unsubscribed'; channel: string; reason?: string; ref?: number }
  | { type: 'skipped'; channel: string; seq: number }
  | ({ type: 'joined' | 'left'; channel: string } & Member)
  | { type: 'members'; channel: string; total: number; members?: Member[] }
  | Attendance
  | { type: 'degraded' | 'restored'; timestamp: number }
  | { type: 'expiring'; expiresAt: number }
  | { type: 'refreshed'; expiresAt?: number; ref?: number }
  | { type: 'reconnect'; afterMs: number; reason: string }
  | { type: 'closed'; code: number; reason: string }
  | { type: 'pong'; timestamp: number };

/** What a client says. Each is answered with its `ref`. */
export type Command = { ref: number } & (
  | { type: 'subscribe'; channel: string; since?: Position }
  | { type: 'unsubscribe'; channel: string }
  | { type: 'publish'; channel: string; data: unknown; id: string; event?: string }
  | { type: 'history'; channel: string; since?: Position; limit?: number }
  | { type: 'presence'; channel: string; limit?: number }
  | { type: 'refresh'; token: string }
);

/** The end of a connection. */
export interface Close {
  code: number;
  reason: string;
}

/** What a close asks of the client: come back, come back with another token, or stay away. */
export function answerTo({ code }: Close): 'return' | 'renew' | 'stay away' {
  if ([1008, 4004, 4008].includes(code)) return 'renew';
  return code >= 4500 && code <= 4999 ? 'stay away' : 'return';
}

/** Whether the way itself gave up, not the server: something in between may not let this transport through. */
export function isBroken({ code }: Close): boolean {
  return [1002, 1003, 1005, 1006, 1007, 1015, 4002].includes(code);
}

/** An event stream or a poll that was not let in hears an error where a WebSocket would see a close. */
export function closeOf({ code, message: reason, retryable }: Failure): Close {
  if (['not_authenticated', 'invalid_token'].includes(code)) return { code: 1008, reason };
  if (code === 'token_expired') return { code: 4004, reason };
  return { code: retryable ? 4006 : 4500, reason };
}
