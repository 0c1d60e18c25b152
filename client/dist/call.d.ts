import type { Close, Command, Connected, Reply } from './protocol.ts';
import type { Door, Transport } from './transports/link.ts';
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
export declare function call(transport: Transport, door: Door, on: CallEvents): Call;
