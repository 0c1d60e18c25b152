import type { Open } from './link.ts';
/** The token travels as a subprotocol: a browser cannot set headers, and URLs end up in logs. One that does not fit
 * there goes into the URL. */
export declare const overWebSocket: Open;
