import { type OutriggerError } from './error.ts';
import type { Command, Gap, Message, Position, Reply, Subscribed } from './protocol.ts';
/** What a subscription tells. */
export interface SubscriptionEvents {
    subscribed(reply: Subscribed): void;
    unsubscribed(reason?: string): void;
    message(message: Message): void;
    gap(gap: Gap): void;
    refused(error: OutriggerError): void;
}
/** What a subscription needs. */
export interface Asks {
    /** A fresh `ref`. */
    ref(): number;
    /** Sends, while there is a connection; answers whether there is. */
    send(command: Command): boolean;
}
export type SubscriptionState = 'idle' | 'subscribing' | 'subscribed' | 'refused';
/** One channel as this client follows it, over all connections. It knows where it stands, so that nothing is lost or heard
 * twice; and of several questions that cross on the way, only the answer to the latest counts. */
export interface Subscription {
    readonly state: SubscriptionState;
    readonly position: Position | undefined;
    readonly isConflated: boolean;
    /** Wishes may change as they like; what is left of them is said once the current code has run. */
    want(isWanted: boolean): void;
    up(): void;
    down(): void;
    hear(reply: Reply): void;
}
export declare function subscription(channel: string, { ref, send }: Asks, on: SubscriptionEvents): Subscription;
