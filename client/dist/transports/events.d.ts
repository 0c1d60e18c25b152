/** One event of an event stream. */
export interface StreamEvent {
    event: string;
    data: string;
}
/** Reads an event stream (WHATWG HTML, 9.2.6), in whatever pieces it comes. `id` is not looked at: positions are kept by
 * channel, and hold on every transport. */
export declare function eventReader(on: {
    event(event: StreamEvent): void;
    retry(ms: number): void;
}): (text: string) => void;
