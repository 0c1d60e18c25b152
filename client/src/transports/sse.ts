import { closeOf, type Reply } from '../protocol.ts';
import { eventReader } from './events.ts';
import { bearer, posts, refusal } from './http.ts';
import type { Link, Open } from './link.ts';

/** The stream is read with fetch, not EventSource: that can show a token without putting it into the URL, sees a status
 * and a heartbeat, leaves coming back to us, and exists in Node. */
export const overEventStream: Open = (door, told): Link => {
  const ended = new AbortController();
  const commands = posts(door, told, ended.signal);
  let isGreeted = false;

  function hear(reply: Reply): void {
    if (reply.type === 'connected') {
      isGreeted = true;
      commands.greeted(reply);
    }
    if (reply.type === 'closed') return told.lost(reply.code, reply.reason);
    if (reply.type !== 'error' || isGreeted) return told.hear(reply);
    // The stream goes on to say when to come back.
    turnedAway = closeOf(reply);
  }
  let turnedAway = { code: 1006, reason: 'the stream ended' };

  async function read(): Promise<void> {
    const { fetch, credentials, token } = door;
    const headers = { accept: 'text/event-stream', ...bearer(token) };
    const response = await fetch(`${door.url}/sse`, { headers, credentials, cache: 'no-store', signal: ended.signal });
    if (!response.headers.get('content-type')?.startsWith('text/event-stream') || !response.body) {
      turnedAway = refusal(response, await response.text(), told);
      return;
    }
    const feed = eventReader({ event: ({ data }) => hear(JSON.parse(data)), retry: told.wait });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      told.alive();
      feed(decoder.decode(value, { stream: true }));
    }
  }

  read().then(
    () => told.lost(turnedAway.code, turnedAway.reason),
    (error: Error) => told.lost(1006, error.message),
  );
  return { send: commands.send, close: () => ended.abort() };
};
