import type { Close, Failure } from './protocol.ts';

/** Something was not done. `code` is one of the server's (docs/protocol.md), or one of the client's own: `closed`,
 * `offline`, `timeout`, `queue_full`, `token`, `transport`. */
export class OutriggerError extends Error {
  override readonly name = 'OutriggerError';

  constructor(
    readonly code: string,
    message: string,
    /** Whether the same may succeed later. */
    readonly retryable = false,
    /** The channel it was about. */
    readonly channel?: string,
  ) {
    super(message);
  }
}

export function failed(it: Failure): OutriggerError {
  return new OutriggerError(it.code, it.message, it.retryable, it.channel);
}

export function ended({ code, reason }: Close): OutriggerError {
  return new OutriggerError('closed', `${reason || 'closed'} (${code})`);
}
