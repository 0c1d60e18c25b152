import type { Close, Failure } from './protocol.ts';
/** Something was not done. `code` is one of the server's (docs/protocol.md), or one of the client's own: `closed`,
 * `offline`, `timeout`, `queue_full`, `token`, `transport`. */
export declare class OutriggerError extends Error {
    readonly code: string;
    /** Whether the same may succeed later. */
    readonly retryable: boolean;
    /** The channel it was about. */
    readonly channel?: string | undefined;
    readonly name = "OutriggerError";
    constructor(code: string, message: string, 
    /** Whether the same may succeed later. */
    retryable?: boolean, 
    /** The channel it was about. */
    channel?: string | undefined);
}
export declare function failed(it: Failure): OutriggerError;
export declare function ended({ code, reason }: Close): OutriggerError;
