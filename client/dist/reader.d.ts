import type { Message } from './protocol.ts';
/** A message that was waited for. */
export type Read<Data> = Message<Data> & {
    /** So many before it were dropped, because the reader did not keep up. */
    dropped?: number;
};
/** Messages that wait for a `for await`. */
export interface Reader<Data> extends AsyncIterableIterator<Read<Data>> {
    put(message: Message<Data>): void;
    end(error?: Error): void;
}
export declare function reader<Data>(onReturn: () => void, most?: number): Reader<Data>;
