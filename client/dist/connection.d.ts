import type { Credentials } from './credentials.ts';
import type { Line, LineEvents } from './line.ts';
import type { Door, Transport } from './transports/link.ts';
export interface ConnectionSettings {
    transports: Transport[];
    door: Omit<Door, 'token'>;
    credentials: Credentials;
}
/** Keeps one connection open: chooses the transport, comes back after a loss when the server wants it to, and climbs back
 * to a better transport when it can. Knows no channels. */
export declare function connection({ transports, door, credentials }: ConnectionSettings, on: LineEvents): Line;
