import { type Close, type Command, type Connected } from '../protocol.ts';
import type { Door, Told } from './link.ts';
/** A request that has an end, its body read. Throws if it did not get through, or `signal` ended it. */
export declare function ask({ fetch, credentials }: Door, url: string, { headers, ...init }: RequestInit, token: string | undefined, signal: AbortSignal): Promise<{
    response: Response;
    text: string;
}>;
export declare function bearer(token: string | undefined): Record<string, string>;
/** How an answer that lets nobody in ends the connection: in the server's words, or as what something in between said. */
export declare function refusal(response: Response, text: string, told: Told): Close;
/** Commands beside an event stream or a poll: one POST each, one after the other, because their order matters. */
export declare function posts(door: Door, told: Told, signal: AbortSignal): {
    greeted: (connected: Connected) => void;
    send(command: Command): void;
};
