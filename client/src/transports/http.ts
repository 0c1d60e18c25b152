import { closeOf, type Close, type Command, type Connected, type Failure } from '../protocol.ts';
import type { Door, Told } from './link.ts';

/** A command waits for the backend, which may take its time. */
const ANSWER_WITHIN = 40_000;
/** A request that did not get through is repeated: everything a client says may be said twice. */
const TRIES = 3;
const PAUSE = 1000;

const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A request that has an end, its body read. Throws if it did not get through, or `signal` ended it. */
export async function ask(
  { fetch, credentials }: Door,
  url: string,
  { headers, ...init }: RequestInit,
  token: string | undefined,
  signal: AbortSignal,
): Promise<{ response: Response; text: string }> {
  for (let n = 1; ; n += 1) {
    const own = new AbortController();
    const stop = () => own.abort();
    const timer = setTimeout(stop, ANSWER_WITHIN);
    signal.addEventListener('abort', stop);
    try {
      const all = { ...(headers as Record<string, string>), ...bearer(token) };
      const response = await fetch(url, { ...init, headers: all, credentials, cache: 'no-store', signal: own.signal });
      return { response, text: await response.text() };
    } catch (error) {
      if (n >= TRIES || signal.aborted) throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
    await rest(PAUSE * (0.5 + Math.random()));
    if (signal.aborted) throw new Error('closed');
  }
}

export function bearer(token: string | undefined): Record<string, string> {
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** How an answer that lets nobody in ends the connection: in the server's words, or as what something in between said. */
export function refusal(response: Response, text: string, told: Told): Close {
  let failure: Failure & { retry?: number } | undefined;
  try {
    failure = JSON.parse(text);
  } catch {
    // Not the server's words.
  }
  // A page of another origin does not see the header.
  const after = failure?.retry ?? Number(response.headers.get('retry-after')) * 1000;
  if (after > 0) told.wait(after);
  if (failure?.type === 'error') return closeOf(failure);
  return { code: 1006, reason: `the answer was ${response.status}` };
}

/** Commands beside an event stream or a poll: one POST each, one after the other, because their order matters. */
export function posts(door: Door, told: Told, signal: AbortSignal) {
  let session: Connected | undefined;
  let last: Promise<void> = Promise.resolve();

  async function post({ type, ...fields }: Command): Promise<void> {
    const url = `${door.url}/connections/${session!.connectionId}/${type}`;
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(fields) };
    const { text } = await ask(door, url, init, session!.secret, signal);
    const reply = JSON.parse(text);
    if (reply.code === 'not_authenticated') return told.lost(1012, 'the session is gone');
    // Everything else is said on the stream, in its place among the messages.
    if (['ack', 'error', 'history', 'presence'].includes(reply.type)) told.hear({ ref: fields.ref, ...reply });
  }

  return {
    greeted: (connected: Connected) => { session = connected; },
    send(command: Command) {
      last = last.then(() => post(command)).catch(() => told.lost(1006, 'a command did not get through'));
    },
  };
}
