import type { Open, Transport } from './link.ts';
import { overPolls } from './poll.ts';
import { overEventStream } from './sse.ts';
import { overWebSocket } from './websocket.ts';

export const TRANSPORTS: Record<Transport, Open> = { websocket: overWebSocket, sse: overEventStream, poll: overPolls };
