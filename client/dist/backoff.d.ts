/** How long to wait before attempt `n` (from 0), in ms: anything up to a bound that doubles. Full jitter, because clients
 * that were cut off together would otherwise come back together. */
export declare function backoff(n: number, first?: number, longest?: number): number;
