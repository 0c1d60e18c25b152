import { type ConnectionSettings } from './connection.ts';
import type { Line, LineEvents } from './line.ts';
/** Whether the platform has what tabs need to agree. */
export declare function canShare(): boolean;
export declare function shared(settings: ConnectionSettings, on: LineEvents): Line;
