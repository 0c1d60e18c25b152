import type { Open, Transport } from './link.ts';
export declare const TRANSPORTS: Record<Transport, Open>;
