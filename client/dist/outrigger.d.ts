import { Channel } from './channel.ts';
import { type TokenOptions } from './credentials.ts';
import { Emitter } from './emitter.ts';
import type { State, Status } from './line.ts';
import type { Close, Gap, Message } from './protocol.ts';
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
    /** One connection for all tabs of this page's origin and user. By default false. */
    shared?: boolean;
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
/** A client of one server. It connects when there is something to do, and comes back by itself. */
export declare class Outrigger extends Emitter<OutriggerEvents> {
    #private;
    constructor(options?: Options);
    constructor(url: string, options?: Options);
    /** Where the script came from, which is where its server is. */
    static url: string | undefined;
    get state(): State;
    get status(): Status;
    /** Connects, if nothing else did yet; also after `close()`. */
    connect(): this;
    /** The channel of this name, always the same. */
    channel<Data = unknown>(name: string): Channel<Data>;
    /** Ends the connection for good. What waits is rejected. */
    close(): void;
}
