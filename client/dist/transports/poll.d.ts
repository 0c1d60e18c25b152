import type { Open } from './link.ts';
/** One request after another. The cursor of the last answer confirms it: what was lost on the way is answered again. */
export declare const overPolls: Open;
