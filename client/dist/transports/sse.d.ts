import type { Open } from './link.ts';
/** The stream is read with fetch, not EventSource: that can show a token without putting it into the URL, sees a status
 * and a heartbeat, leaves coming back to us, and exists in Node. */
export declare const overEventStream: Open;
