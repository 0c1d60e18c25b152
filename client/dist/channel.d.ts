import { Emitter, type Handler } from './emitter.ts';
import type { OutriggerError } from './error.ts';
import { Presence } from './presence.ts';
import type { Ack, Gap, History, Message, Position, Subscribed } from './protocol.ts';
import type { Draft } from './publishes.ts';
import { type Read } from './reader.ts';
import { type Asks, type SubscriptionState } from './subscription.ts';
export type ChannelEvents<Data> = {
    /** A publication. `message:NAME` hears those whose `event` is NAME alone. */
    message: [data: Data, message: Message<Data>];
    [named: `message:${string}`]: [data: Data, message: Message<Data>];
    /** It is followed, from now on or again. */
    subscribed: [reply: Subscribed];
    /** It is no longer followed; `reason` is given unless it was this page's wish. */
    unsubscribed: [reason?: string];
    /** Publications were lost for good: fetch the page's data anew. */
    gap: [gap: Gap];
    /** It may not be followed. */
    error: [error: OutriggerError];
};
/** What a channel needs of its client. */
export interface Host extends Asks {
    publish(draft: Draft): Promise<Ack>;
    ask<Answer>(question: {
        type: 'history' | 'presence';
        channel: string;
        since?: Position;
        limit?: number;
    }): Promise<Answer>;
    /** Told of what nobody listens for on the channel. */
    error(error: OutriggerError): void;
    message(message: Message): void;
}
/** One channel. It is followed while somebody listens for its messages, or since `subscribe()`. */
export declare class Channel<Data = unknown> extends Emitter<ChannelEvents<Data>> {
    #private;
    readonly name: string;
    readonly presence: Presence;
    get state(): SubscriptionState;
    /** The last publication that was heard, or the one before the first. */
    get position(): Position | undefined;
    /** Whether publications are left out on purpose, because only the latest counts. */
    get isConflated(): boolean;
    /** Resolves when the channel is followed, and rejects if it may not be. Asking for it subscribes. */
    get ready(): Promise<void>;
    /** Follows the channel, whether or not somebody listens. */
    subscribe(): this;
    /** Leaves the channel. Who listens stays, and hears again after the next `subscribe()`. */
    unsubscribe(): this;
    /** Listens. Listening for messages follows the channel. */
    on<Name extends keyof ChannelEvents<Data>>(event: Name, handler: Handler<ChannelEvents<Data>[Name]>): this;
    /** Listens no more. The channel is left with its last listener, unless `subscribe()` was called. */
    off<Name extends keyof ChannelEvents<Data>>(event: Name, handler: Handler<ChannelEvents<Data>[Name]>): this;
    /** Publishes to everybody on the channel, or to the backend, as its rule says. Said again after a loss of connection, it
     * is published once. */
    publish(data: unknown, { event, id }?: {
        event?: string;
        id?: string;
    }): Promise<Ack>;
    /** What the server keeps of the past. The channel must be followed. */
    history({ since, limit }?: {
        since?: Position;
        limit?: number;
    }): Promise<History>;
    /** `for await (const message of channel)`: follows the channel until the loop is left. */
    [Symbol.asyncIterator](): AsyncIterableIterator<Read<Data>>;
}
