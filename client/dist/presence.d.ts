import { Emitter } from './emitter.ts';
import type { Member } from './protocol.ts';
export type PresenceEvents = {
    /** Who is there changed: by `joined`, by `left`, or by both after a reconnect. */
    change: [members: ReadonlyMap<string, Member>];
    joined: [member: Member];
    left: [member: Member];
};
/** Who is on a channel, kept current while it is followed. Needs `presence: true` in the channel's rule. */
export declare class Presence extends Emitter<PresenceEvents> {
    #private;
    /** By user id. */
    get members(): ReadonlyMap<string, Member>;
    /** Listening is a reason to follow the channel. */
    on<Name extends keyof PresenceEvents>(event: Name, handler: (...args: PresenceEvents[Name]) => void): this;
    /** Asks the server anew. */
    get(): Promise<ReadonlyMap<string, Member>>;
}
