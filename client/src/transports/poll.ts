import type { Reply } from '../protocol.ts';
import { ask, posts, refusal } from './http.ts';
import type { Link, Open } from './link.ts';

/** Shorter than anything on the way gives up after, in seconds. */
const WAIT = 25;

/** One request after another. The cursor of the last answer confirms it: what was lost on the way is answered again. */
export const overPolls: Open = (door, told): Link => {
  const ended = new AbortController();
  const commands = posts(door, told, ended.signal);

  /** Whether the session goes on. */
  function hear(reply: Reply): boolean {
    // It may come again: a node that did not know us made a session of its own.
    if (reply.type === 'connected') commands.greeted(reply);
    if (reply.type === 'closed') return told.lost(reply.code, reply.reason), false;
    told.hear(reply);
    return !ended.signal.aborted;
  }

  async function poll(): Promise<void> {
    for (let cursor = ''; ;) {
      const query = `wait=${WAIT}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`;
      const { response, text } = await ask(door, `${door.url}/poll?${query}`, {}, door.token, ended.signal);
      if (!response.ok) {
        const { code, reason } = refusal(response, text, told);
        return told.lost(code, reason);
      }
      told.alive();
      const answer = JSON.parse(text) as { messages: Reply[]; cursor: string; retry: number };
      if (!answer.messages.every(hear)) return;
      cursor = answer.cursor;
      if (answer.retry > 0) await new Promise((resolve) => setTimeout(resolve, answer.retry));
    }
  }

  poll().catch((error: Error) => told.lost(1006, error.message));
  return { send: commands.send, close: () => ended.abort() };
};
