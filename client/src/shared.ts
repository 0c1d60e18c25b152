import { connection, type ConnectionSettings } from './connection.ts';
import type { Line, LineEvents, State, Status } from './line.ts';
import type { Close, Command, Connected, Reply } from './protocol.ts';
import { uniqueId } from './id.ts';
import { relay, type Relay } from './relay.ts';

/** Whether the platform has what tabs need to agree. */
export function canShare(): boolean {
  return globalThis.navigator?.locks !== undefined && typeof BroadcastChannel !== 'undefined';
}

/** What tabs tell each other. A tab that leads speaks to all, or to the one it names. */
type Said =
  | { from: string; hello: true }
  | { from: string; bye: true }
  | { from: string; command: Command }
  | { lead: string; to?: string; status?: Status; up?: Connected; down?: Close }
  | { lead: string; to?: string; reply: Reply };

/** The line of all tabs of one `name`. The one that holds the lock has the connection; when it goes, the next takes over,
 * and every tab goes on from where it stood. */
export function shared(name: string, settings: ConnectionSettings, on: LineEvents): Line {
  let me = '';
  let bus: BroadcastChannel | undefined;
  let ended: AbortController | undefined;
  /** Only in the tab that leads. */
  let own: { line: Line; relay: Relay; up?: Connected; status: Status } | undefined;
  let leader = '';
  let isUp = false;
  let shown: State = 'idle';

  const say = (said: Said) => bus?.postMessage(said);

  function open(): void {
    if (ended) return;
    ended = new AbortController();
    const { signal } = ended;
    me = uniqueId();
    bus = new BroadcastChannel(name);
    bus.onmessage = ({ data }: MessageEvent<Said>) => ('lead' in data ? hear(data) : own && serve(data));
    show({ state: 'connecting' });
    // Held for as long as this tab lives: whoever gets it afterwards knows that it is gone.
    hold(`${name}:${me}`, signal, () => say({ from: me, hello: true }));
    hold(name, signal, lead);
  }

  function hold(lock: string, signal: AbortSignal, then: () => void): void {
    take(lock, signal, () => {
      then();
      return new Promise<void>((release) => signal.addEventListener('abort', () => release()));
    });
  }

  function take(lock: string, signal: AbortSignal, then: () => void | Promise<void>): void {
    navigator.locks.request(lock, { signal }, async () => then()).catch(() => {}); // Closed before it was this tab's turn.
  }

  function lead(): void {
    down({ code: 1001, reason: 'another tab took over' });
    leader = me;
    const line = connection(settings, {
      up(connected) {
        it.relay.reset();
        it.up = connected;
        tell({ lead: me, up: connected });
      },
      down(close) {
        delete it.up;
        tell({ lead: me, down: close });
      },
      hear: (reply) => it.relay.hear(reply),
      status(status) {
        it.status = status;
        tell({ lead: me, status });
      },
      error: on.error,
    });
    const tabs = relay(line, (reply, to) => {
      // One tab renews the token for all.
      if (reply.type === 'expiring') hear({ lead: me, reply });
      else tell({ lead: me, reply, ...(to !== undefined && { to }) });
    });
    const it: NonNullable<typeof own> = { line, relay: tabs, status: { state: 'connecting' } };
    own = it;
    line.open();
  }

  /** Tells the others, and this tab too. */
  function tell(said: Extract<Said, { lead: string }>): void {
    // What ends with this tab's own leaving is its own matter.
    if (!own) return;
    if (said.to !== me) say(said);
    if (said.to === undefined || said.to === me) hear(said);
  }

  function serve(said: Exclude<Said, { lead: string }>): void {
    const { relay, status, up } = own!;
    if ('command' in said) return relay.say(said.from, said.command);
    if ('bye' in said) return relay.gone(said.from);
    say({ lead: me, to: said.from, status, ...(up && { up }) });
    take(`${name}:${said.from}`, ended!.signal, () => relay.gone(said.from));
  }

  function hear(said: Extract<Said, { lead: string }>): void {
    if (said.to !== undefined && said.to !== me) return;
    if (leader !== '' && said.lead !== leader) {
      down({ code: 1001, reason: 'another tab took over' });
      // It does not know this tab yet.
      say({ from: me, hello: true });
    }
    leader = said.lead;
    if ('reply' in said) return isUp ? on.hear(said.reply) : undefined;
    if (said.down) down(said.down);
    if (said.status?.state === 'closed') return end(said.status);
    if (said.status) show(said.status);
    if (said.up && !isUp) {
      isUp = true;
      on.up(said.up);
    }
  }

  function down(close: Close): void {
    if (isUp) on.down(close);
    isUp = false;
  }

  function show(status: Status): void {
    if (status.state === 'connecting' && shown === 'connecting') return;
    shown = status.state;
    on.status(status);
  }

  function end(status: Status): void {
    const line = own?.line;
    own = undefined;
    line?.close();
    down(status.close!);
    ended?.abort();
    ended = undefined;
    bus?.close();
    leader = '';
    show(status);
  }

  return {
    open,
    send: (command) => (own ? own.relay.say(me, command) : say({ from: me, command })),
    close() {
      if (!ended) return;
      say({ from: me, bye: true });
      end({ state: 'closed', close: { code: 1000, reason: '' } });
    },
  };
}
