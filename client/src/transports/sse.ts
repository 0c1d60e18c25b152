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
  /** Why the stream ends, if it says so; the last thing it says is when to come back. */
  let end = { code: 1006, reason: 'the stream ended' };
  let retry = 0;

  function hear(reply: Reply): void {
    if (reply.type === 'connected') {
      isGreeted = true;
      commands.greeted(reply);
    }
    if (reply.type === 'closed') end = reply;
    else if (reply.type === 'error' && !isGreeted) end = closeOf(reply);
    else told.hear(reply);
  }

  async function read(): Promise<void> {
    const { fetch, credentials, token } = door;
    const headers = { accept: 'text/event-stream', ...bearer(token) };
    const response = await fetch(`${door.url}/sse`, { headers, credentials, cache: 'no-store', signal: ended.signal });
    if (!response.headers.get('content-type')?.startsWith('text/event-stream') || !response.body) {
      end = refusal(response, await response.text(), told);
      return;
    }
    const feed = eventReader({ event: ({ data }) => hear(JSON.parse(data)), retry: (ms) => { retry = ms; } });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      told.alive();
      feed(decoder.decode(value, { stream: true }));
    }
  }

  read()
    .catch((error: Error) => {
      // What it said before it broke counts.
      if (end.code === 1006) end = { code: 1006, reason: error.message };
    })
    .then(() => {
      if (retry > 0) told.wait(retry);
      told.lost(end.code, end.reason);
    });
  return { send: commands.send, close: () => ended.abort() };
};
