/** The first attempt waits up to so long, each further one up to twice as long as the one before. */
const FIRST = 500;
const LONGEST = 30_000;

/** How long to wait before attempt `n` (from 0), in ms: anything up to a bound that doubles. Full jitter, because clients
 * that were cut off together would otherwise come back together. */
export function backoff(n: number, first = FIRST, longest = LONGEST): number {
  return Math.random() * Math.min(longest, first * 2 ** Math.min(n, 16));
}
