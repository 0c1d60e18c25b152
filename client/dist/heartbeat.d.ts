export interface Heartbeat {
    /** Something came. */
    alive(): void;
    /** There is reason to doubt: the network changed, or the page slept. */
    doubt(): void;
    stop(): void;
}
/** Notices a connection that is dead without having said so. Where `ping` is given a silence is asked about first;
 * elsewhere a long one is the end. */
export declare function heartbeat({ interval, timeout }: {
    interval: number;
    timeout: number;
}, ping: (() => void) | undefined, silent: () => void): Heartbeat;
