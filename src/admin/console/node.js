// The node this console was loaded from: calls with the operator's key, and streams.

const KEPT = 'outrigger.key';

/** Set by the page: asks the person for a key, and answers whether there is one now. */
let ask = async () => false;

export const onKeyWanted = (asks) => (ask = asks);

export const key = () => sessionStorage.getItem(KEPT) ?? localStorage.getItem(KEPT) ?? '';

export function useKey(value, isKept) {
  forgetKey();
  (isKept ? localStorage : sessionStorage).setItem(KEPT, value);
}

export function forgetKey() {
  sessionStorage.removeItem(KEPT);
  localStorage.removeItem(KEPT);
}

/** What the node said no with; `status` is 0 where it said nothing. */
export class Refused extends Error {
  constructor(message, status = 0, body = null) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** Calls the API and answers what it says. A missing key is asked for once. */
export async function call(method, path, body) {
  const response = await request(method, path, { body });
  return response.status === 204 ? null : await response.json();
}

export const get = (path) => call('GET', path);

async function request(method, path, { body, accept = 'application/json', signal } = {}) {
  const send = () =>
    fetch(path, {
      method,
      signal,
      cache: 'no-store',
      headers: {
        Accept: accept,
        ...(key() && { Authorization: `Bearer ${key()}` }),
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    }).catch((error) => {
      if (error.name === 'AbortError') throw error;
      throw new Refused('The node does not answer.');
    });
  let response = await send();
  if (response.status === 401 && (await ask(key() ? 'The node does not know this key.' : ''))) response = await send();
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  const reasons = (said?.errors ?? []).map((it) => (typeof it === 'string' ? it : `${it.field ?? ''} ${it.detail ?? it.message ?? ''}`));
  const message = [said?.title, said?.detail, ...reasons].filter(Boolean).join(': ');
  throw new Refused(message || `The node answered ${response.status}.`, response.status, said);
}

/** Reads an event stream until `signal` aborts, coming back by itself. `heard(data, event)` for each event,
 *  `state(true or false)` when it is there or lost. A refusal ends it. */
export async function listen(path, { heard, state = () => {}, signal }) {
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 10_000)) {
    try {
      const response = await request('GET', path, { accept: 'text/event-stream', signal });
      state(true);
      for await (const { event, data } of events(response.body)) {
        pause = 500;
        heard(data, event);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500) throw error;
    }
    if (signal.aborted) return;
    state(false);
    await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
  }
}

async function* events(body) {
  let event = 'message';
  let data = [];
  for await (const line of lines(body)) {
    if (line === '') {
      if (data.length > 0) yield { event, data: data.join('\n') };
      [event, data] = ['message', []];
    } else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
    else if (line.startsWith('event:')) event = line.slice(6).trim();
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n');
    rest = parts.pop();
    for (const line of parts) yield line.replace(/\r$/, '');
  }
}
