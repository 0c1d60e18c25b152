import { connection, type ConnectionSettings } from './connection.ts';
import type { Line, LineEvents } from './line.ts';

/** Whether the platform has what tabs need to agree. */
export function canShare(): boolean {
  return globalThis.navigator?.locks !== undefined && typeof BroadcastChannel !== 'undefined';
}

export function shared(settings: ConnectionSettings, on: LineEvents): Line {
  return connection(settings, on);
}
