// The script a page includes: `Outrigger` becomes global, and the attributes of the tag are acted on.

import { baseOf } from './address.ts';
import { OutriggerError } from './error.ts';
import { Outrigger } from './outrigger.ts';
import { actOn } from './tag.ts';

const tag = document.currentScript as HTMLScriptElement | null;
Outrigger.url = baseOf(tag?.src);
Object.assign(globalThis, { Outrigger: Object.assign(Outrigger, { Error: OutriggerError }) });
if (tag?.dataset.channel) actOn(tag, tag.dataset);
