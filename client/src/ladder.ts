import { isBroken, type Close } from './protocol.ts';
import type { Transport } from './transports/link.ts';

/** A transport that has worked before is tried so often before the next: the server may be what is away. */
const TRIES_IF_PROVEN = 3;

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

export function ladder(transports: Transport[]): Ladder {
  const proven = new Set<Transport>();
  let at = 0;
  let failures = 0;

  return {
    get transport() { return transports[at]!; },
    best: transports[0]!,
    worked(transport) {
      proven.add(transport);
      at = transports.indexOf(transport);
    },
    held() {
      failures = 0;
    },
    failed(close) {
      if (!isBroken(close)) return false;
      failures += 1;
      if (failures < (proven.has(transports[at]!) ? TRIES_IF_PROVEN : 1)) return false;
      failures = 0;
      at = (at + 1) % transports.length;
      return at > 0;
    },
  };
}
