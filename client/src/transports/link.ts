import type { Command, Reply } from '../protocol.ts';

/** What a transport needs to know. */
export interface Door {
  /** `https://app.example.com/realtime` */
  url: string;
  token: string | undefined;
  fetch: typeof fetch;
  WebSocket: WebSocketLike | undefined;
  /** Whether cookies go along to another origin. */
  credentials: RequestCredentials;
}

/** The browser's WebSocket, Node's, or that of the `ws` package. */
export type WebSocketLike = new (url: string, protocols: string[]) => Pick<WebSocket, 'send' | 'close' | 'readyState'> & {
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
};

/** What a transport tells. After `lost` it says nothing more. */
export interface Told {
  hear(reply: Reply): void;
  /** Something came, be it only a heartbeat. */
  alive(): void;
  /** The server wants so many ms to pass before this client comes back. */
  wait(ms: number): void;
  lost(code: number, reason: string): void;
}

/** One connection over one transport. All transports say the same; what differs stays behind this. */
export interface Link {
  send(command: Command): void;
  close(): void;
  /** Asks for a sign of life, where silence alone says nothing. */
  ping?(): void;
}

export type Open = (door: Door, told: Told) => Link;

/** The ways in, best first. */
export type Transport = 'websocket' | 'sse' | 'poll';
