import { Outrigger, type Options } from '../src/outrigger.ts';
import type { Gap } from '../src/protocol.ts';
import { pass, type ModelServer } from './model.ts';

/** A client of the model, and everything it says, in order. */
export function clientOf(server: ModelServer, options: Options = {}) {
  const live = new Outrigger('http://app.test/realtime', { WebSocket: server.WebSocket, fetch: server.fetch, ...options });
  const said: string[] = [];
  const errors: Error[] = [];
  live.on('status', ({ state }) => said.push(state)).on('error', (error) => errors.push(error));
  return { live, said, errors };
}

/** Follows a channel, and keeps what it hears. */
export function listenTo(live: Outrigger, name: string) {
  const heard: unknown[] = [];
  const channel = live.channel(name).on('message', (data) => heard.push(data));
  return { channel, heard };
}

/** A client that is connected and follows a channel. */
export async function following(server: ModelServer, options: Options = {}, name = 'room.5') {
  const client = clientOf(server, options);
  const room = listenTo(client.live, name);
  const gaps: Gap[] = [];
  room.channel.on('gap', (gap) => gaps.push(gap));
  await pass(1000);
  return { ...client, ...room, gaps };
}
