// A server in a few lines, for tests with a fake clock: channels with numbered publications, sessions over each transport,
// and a network that is slow, may be cut, and may not let a transport through.

import { vi } from 'vitest';
import type { Message, Position, Reply } from '../src/protocol.ts';
import type { Transport, WebSocketLike } from '../src/transports/link.ts';

/** From one end to the other, in ms. */
export const LATENCY = 20;

interface ModelChannel {
  epoch: string;
  head: number;
  log: Message[];
  members: Map<string, { userId: string }>;
}

interface Refusal {
  code: number;
  reason: string;
  /** When to come back. */
  afterMs?: number;
}

interface Session {
  id: string;
  transport: Transport;
  follows: Set<string>;
  tell(reply: any): void;
  end(code: number, reason: string): void;
}

export class ModelServer {
  channels = new Map<string, ModelChannel>();
  sessions = new Set<Session>();
  /** Every attempt to connect, by transport, and with what token. */
  attempts: { transport: Transport; token: string | undefined; at: number }[] = [];
  /** Every command, as it came. */
  commands: any[] = [];
  /** What the network does not let through. */
  blocked = new Set<Transport>();
  /** What connections are answered with instead of a greeting. */
  refuse: ((token: string | undefined) => Refusal | undefined) | undefined;
  /** What a command is answered with instead. */
  answer: ((command: any) => object | undefined) | undefined;
  /** Transports whose connections are taken, and then nothing comes. */
  mute = new Set<Transport>();
  /** What an event stream says of coming back, in ms. */
  retry: number | undefined;
  /** So many of the next messages are lost between a session and its client. */
  toLose = 0;
  history = Infinity;
  heartbeat = { interval: 30_000, timeout: 60_000 };
  expiresAt: number | undefined;
  presence = false;
  #epochs = 0;
  #cuts: (() => void)[] = [];

  get transports(): Transport[] {
    return this.attempts.map((it) => it.transport);
  }

  channel(name: string): ModelChannel {
    let channel = this.channels.get(name);
    if (!channel) {
      this.#epochs += 1;
      channel = { epoch: `e${this.#epochs}`, head: 0, log: [], members: new Map() };
      this.channels.set(name, channel);
    }
    return channel;
  }

  /** Publishes as the backend would. */
  push(name: string, data: unknown, more: Partial<Message> = {}): Message {
    const channel = this.channel(name);
    const known = channel.log.find((it) => it.id === more.id);
    if (known) return known;
    channel.head += 1;
    const message: Message = {
      type: 'message', channel: name, data, id: `${channel.epoch}.${channel.head}`, seq: channel.head, timestamp: Date.now(), ...more,
    };
    channel.log.push(message);
    for (const it of this.sessions) if (it.follows.has(name)) it.tell(message);
    return message;
  }

  /** Everything it knew is gone. */
  restart(): void {
    this.channels.clear();
    this.cut();
  }

  /** Every connection breaks, with all that is on its way. */
  cut(): void {
    for (const it of this.#cuts.splice(0)) it();
    this.sessions.clear();
  }

  /** Ends every session in words. */
  close(code: number, reason = ''): void {
    for (const it of [...this.sessions]) it.end(code, reason);
  }

  tellAll(reply: object): void {
    for (const it of this.sessions) it.tell(reply);
  }

  #open(transport: Transport, tell: Session['tell'], end: Session['end']): Session {
    const id = `c${this.attempts.length}`;
    const session: Session = {
      id, transport, follows: new Set(),
      tell: (reply) => (reply.type === 'message' && this.toLose > 0 ? (this.toLose -= 1) : tell(reply)),
      end: (code, reason) => {
        this.sessions.delete(session);
        end(code, reason);
      },
    };
    this.sessions.add(session);
    const { heartbeat, expiresAt } = this;
    tell({ type: 'connected', connectionId: id, userId: 'u', secret: `s${id}`, timestamp: Date.now(), heartbeat, ...(expiresAt && { expiresAt }) });
    return session;
  }

  #handle(session: Session, command: any): object[] {
    this.commands.push(command);
    const { type, channel: name, ref } = command;
    const other = this.answer?.(command);
    if (other) return [{ ref, ...(name && { channel: name }), ...other }];
    const channel = name === undefined ? undefined : this.channel(name);
    switch (type) {
      case 'subscribe': return this.#subscribe(session, name, command.since, ref);
      case 'unsubscribe':
        session.follows.delete(name);
        return [{ type: 'unsubscribed', channel: name, ref }];
      case 'publish': {
        const message = this.push(name, command.data, { id: `own-${command.id}`, userId: 'u', ...(command.event && { event: command.event }) });
        return [{ type: 'ack', id: command.id, ref, seq: message.seq, timestamp: Date.now() }];
      }
      case 'history':
        return [{ type: 'history', channel: name, epoch: channel!.epoch, seq: channel!.head, messages: channel!.log, complete: true, ref }];
      case 'presence':
        return [{ type: 'presence', channel: name, members: [...channel!.members.values()], total: channel!.members.size, ref }];
      case 'refresh':
        return [{ type: 'refreshed', ref }];
      case 'ping':
        return [{ type: 'pong', timestamp: Date.now() }];
    }
    return [{ type: 'error', code: 'unknown_type', message: '', ref, retryable: false }];
  }

  #subscribe(session: Session, name: string, since: Position | undefined, ref: number): object[] {
    const channel = this.channel(name);
    session.follows.add(name);
    const { epoch, head, log } = channel;
    const isKept = since?.epoch === epoch && since.seq <= head && head - since.seq <= this.history;
    const seq = isKept ? since.seq : head;
    const missed = isKept ? log.filter((it) => it.seq! > since.seq) : [];
    const members = this.presence ? { members: [...channel.members.values()] } : {};
    return [{ type: 'subscribed', channel: name, epoch, seq, ref, ...(since && { recovered: isKept }), ...members }, ...missed];
  }

  /** A class to give to the client. */
  get WebSocket(): WebSocketLike {
    const server = this;
    return class {
      readyState = 0;
      onmessage: any = null;
      onclose: any = null;
      onerror: any = null;
      #session: Session | undefined;

      constructor(_url: string, protocols: string[]) {
        const token = protocols.find((it) => it.startsWith('outrigger.token.'))?.slice(16);
        server.attempts.push({ transport: 'websocket', token, at: Date.now() });
        server.#cuts.push(() => this.#lost(1006, ''));
        this.#later(() => {
          if (server.mute.has('websocket')) return;
          if (server.blocked.has('websocket')) return this.#lost(1006, '');
          this.readyState = 1;
          const refused = server.refuse?.(token);
          if (refused) {
            if (refused.afterMs) this.#tell({ type: 'reconnect', afterMs: refused.afterMs, reason: 'busy' });
            return this.#later(() => this.#lost(refused.code, refused.reason));
          }
          this.#session = server.#open('websocket', (reply) => this.#tell(reply), (code, reason) => this.#later(() => this.#lost(code, reason)));
        });
      }

      send(text: string): void {
        if (this.readyState !== 1) throw new Error('not open');
        this.#later(() => {
          const session = this.#session!;
          if (server.sessions.has(session)) for (const it of server.#handle(session, JSON.parse(text))) session.tell(it);
        });
      }

      close(): void {
        this.readyState = 3;
        server.sessions.delete(this.#session!);
      }

      #tell(reply: Reply): void {
        const data = JSON.stringify(reply);
        this.#later(() => this.readyState === 1 && this.onmessage?.({ data }));
      }

      #lost(code: number, reason: string): void {
        if (this.readyState === 3) return;
        this.close();
        this.onclose?.({ code, reason });
      }

      #later(then: () => void): void {
        setTimeout(() => this.readyState !== 3 && then(), LATENCY);
      }
    } as unknown as WebSocketLike;
  }

  /** What to give to the client as `fetch`. */
  get fetch(): typeof fetch {
    const polls = new Map<string, Poll>();
    return (async (address: string, init: RequestInit = {}) => {
      const url = new URL(address);
      const { signal } = init;
      const token = (init.headers as any)?.authorization?.slice(7);
      await this.#travel(signal);
      const route = url.pathname.split('/').slice(2);
      if (route[0] === 'sse') return this.#stream(token, signal);
      if (route[0] === 'poll') return this.#poll(polls, url.searchParams.get('cursor'), token, signal);
      return this.#post(route[1]!, route[2]!, init, token);
    }) as typeof fetch;
  }

  /** Until it is there, or cut off. */
  #travel(signal: AbortSignal | null | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const broken = () => reject(new TypeError('network error'));
      signal?.addEventListener('abort', broken);
      this.#cuts.push(broken);
      setTimeout(resolve, LATENCY);
    });
  }

  #stream(token: string | undefined, signal: AbortSignal | null | undefined): Response {
    this.attempts.push({ transport: 'sse', token, at: Date.now() });
    if (this.blocked.has('sse')) return new Response('blocked', { status: 403 });
    const body = new ReadableStream<Uint8Array>({
      start: (control) => {
        const write = (text: string) => setTimeout(() => {
          try { control.enqueue(new TextEncoder().encode(text)); } catch { /* It is over. */ }
        }, LATENCY);
        const over = () => { try { control.error(new TypeError('network error')); } catch { /* It is over already. */ } };
        const finish = () => setTimeout(() => { try { control.close(); } catch { /* It is over already. */ } }, LATENCY);
        const tell = (reply: any) => write(`event: ${reply.type === 'error' ? 'failure' : reply.type}\ndata: ${JSON.stringify(reply)}\n\n`);
        signal?.addEventListener('abort', over);
        this.#cuts.push(over);
        if (this.mute.has('sse')) return;
        const beat = setInterval(() => this.mute.has('sse') || write(':\n\n'), 15_000);
        signal?.addEventListener('abort', () => clearInterval(beat));
        if (this.retry !== undefined) write(`retry: ${this.retry}\n\n`);
        const refused = this.refuse?.(token);
        if (refused) {
          tell(failureOf(refused));
          if (refused.afterMs) write(`retry: ${refused.afterMs}\n\n`);
          return finish();
        }
        const session = this.#open('sse', tell, (code, reason) => {
          tell({ type: 'closed', code, reason });
          finish();
        });
        signal?.addEventListener('abort', () => this.sessions.delete(session));
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  }

  async #poll(polls: Map<string, Poll>, cursor: string | null, token: string | undefined, signal: AbortSignal | null | undefined): Promise<Response> {
    let poll = polls.get(cursor?.split('.')[0] ?? '');
    if (poll && this.sessions.has(poll.session)) {
      poll.waiting.splice(0, Number(cursor!.split('.')[1]));
    } else {
      this.attempts.push({ transport: 'poll', token, at: Date.now() });
      if (this.blocked.has('poll')) return new Response('blocked', { status: 403 });
      const refused = this.refuse?.(token);
      if (refused) return Response.json({ ...failureOf(refused), messages: [], retry: refused.afterMs }, { status: refused.afterMs ? 429 : 401 });
      const mine: Poll = { waiting: [], wake: () => {}, session: undefined as never };
      const tell = (reply: any) => { mine.waiting.push(reply); mine.wake(); };
      mine.session = this.#open('poll', tell, (code, reason) => tell({ type: 'closed', code, reason }));
      poll = mine;
      polls.set(poll.session.id, poll);
    }
    if (poll.waiting.length === 0) {
      await new Promise<void>((resolve, reject) => {
        poll.wake = resolve;
        setTimeout(resolve, 25_000);
        signal?.addEventListener('abort', () => reject(new TypeError('network error')));
        this.#cuts.push(() => reject(new TypeError('network error')));
      });
    }
    const messages = [...poll.waiting];
    await this.#travel(signal);
    return Response.json({ messages, cursor: `${poll.session.id}.${messages.length}`, retry: 0 });
  }

  async #post(id: string, type: string, init: RequestInit, secret: string): Promise<Response> {
    const session = [...this.sessions].find((it) => it.id === id);
    if (!session || secret !== `s${id}`) return Response.json({ type: 'error', code: 'not_authenticated', message: '', retryable: false }, { status: 401 });
    const replies = this.#handle(session, { type, ...JSON.parse(init.body as string) });
    for (const it of replies as any[]) if (!['ack', 'error', 'history', 'presence'].includes(it.type)) session.tell(it);
    await this.#travel(init.signal);
    return Response.json(replies[0]);
  }
}

interface Poll {
  waiting: any[];
  wake(): void;
  session: Session;
}

function failureOf({ code, reason, afterMs }: Refusal) {
  return { type: 'error', code: code === 1008 ? 'invalid_token' : 'busy', message: reason, retryable: afterMs !== undefined };
}

/** Lets so many ms pass, and everything happen that happens meanwhile. */
export const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
