import { type Close } from './protocol.ts';
import type { Transport } from './transports/link.ts';
/** Which transport comes next. Down a rung where one does not get through, from the last back to the first. */
export interface Ladder {
    readonly transport: Transport;
    readonly best: Transport;
    /** It carried a greeting. */
    worked(transport: Transport): void;
    /** It held for a while. */
    held(): void;
    /** Answers whether another transport is to be tried, at once. */
    failed(close: Close): boolean;
}
export declare function ladder(transports: Transport[]): Ladder;
