import { OutriggerError } from './error.ts';
import type { Ack, Close, Failure } from './protocol.ts';
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
/** `most` may wait at a time, each for at most `ms`. */
export declare function publishes({ ref, send }: Asks, { most, ms }: {
    most: number;
    ms: number;
}): Publishes;
/** Unique enough for a message of one user. Not `randomUUID`: that needs a secure context. */
export declare function uniqueId(): string;
