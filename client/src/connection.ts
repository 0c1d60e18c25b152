import { backoff } from './backoff.ts';
import { call, type Call, type CallEvents } from './call.ts';
import type { Credentials } from './credentials.ts';
import { ladder } from './ladder.ts';
import type { Line, LineEvents, State, Status } from './line.ts';
import { isOffline, watchPage } from './page.ts';
import { answerTo, type Close, type Connected, type Reply } from './protocol.ts';
import type { Door, Transport } from './transports/link.ts';

export interface ConnectionSettings {
  transports: Transport[];
  door: Omit<Door, 'token'>;
  credentials: Credentials;
}

/** A connection that lasted so long was a good one: the next attempt is a first one again. */
const STEADY = 5_000;
/** The better transport is tried again after about so long, and ever more seldom. */
const BETTER_AFTER = [60_000, 600_000] as const;
/** Between two tokens that are refused. Their time counts in seconds: one made in the second in which others of the user were
 * revoked is refused as well. */
const ANOTHER_TOKEN = 1_000;
/** After the network came back, to spread a whole office. */
const SPREAD = 500;

const GONE: Close = { code: 1000, reason: '' };

/** Keeps one connection open: chooses the transport, comes back after a loss when the server wants it to, and climbs back
 * to a better transport when it can. Knows no channels. */
export function connection({ transports, door, credentials }: ConnectionSettings, on: LineEvents): Line {
  const rungs = ladder(transports);
  let state: State = 'idle';
  let current: Call | undefined;
  let better: Call | undefined;
  let upSince = 0;
  let attempt = 0;
  /** Not before this moment: the server's wish. */
  let notBefore = 0;
  /** Numbers the attempts, so that what an older one still brings is known as such. */
  let turn = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let betterTimer: ReturnType<typeof setTimeout> | undefined;
  let betterTries = 0;
  /** When the better transport is tried again, whatever happens to the other until then. */
  let betterAt = 0;
  let unwatch = () => {};

  function to(next: State, more: Omit<Status, 'state'> = {}): void {
    state = next;
    on.status({ state, ...more });
  }

  async function dial(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    notBefore = 0;
    const mine = ++turn;
    if (state === 'idle' || state === 'closed') to('connecting');
    try {
      const token = await credentials.token();
      if (mine === turn) current = call(rungs.transport, { ...door, token }, { ...events(), lost });
    } catch (error) {
      if (mine !== turn) return;
      on.error(error as Error);
      comeBack({ code: 1008, reason: 'no token' });
    }
  }

  function events(): Omit<CallEvents, 'lost'> {
    return { up: (connected) => up(current!, connected), hear, wait };
  }

  function up(it: Call, connected: Connected): void {
    // Another session in place of one that was up: of a better transport, or of polls that another node took on.
    if (upSince > 0) on.down(GONE);
    upSince = Date.now();
    notBefore = 0;
    credentials.accepted();
    rungs.worked(it.transport);
    to('connected', { transport: it.transport, connectionId: connected.connectionId, userId: connected.userId });
    on.up(connected);
    if (it.transport === rungs.best) betterTries = 0;
    else lookForBetter();
  }

  function hear(reply: Reply): void {
    if (reply.type !== 'reconnect') return on.hear(reply);
    // The server closes in its own time, and new messages come until then; our slot begins when it says.
    wait(reply.afterMs);
    clearTimeout(timer);
    timer = setTimeout(() => lost({ code: 4003, reason: reply.reason }), reply.afterMs);
  }

  function wait(ms: number): void {
    notBefore = Date.now() + ms;
  }

  function lost(close: Close): void {
    turn += 1;
    const lasted = upSince > 0 && Date.now() - upSince >= STEADY;
    const was = hangUp();
    if (was) on.down(close);
    if (lasted) {
      attempt = 0;
      rungs.held();
    }
    const answer = answerTo(close);
    const isHopeless = answer === 'renew' && !credentials.refused() && close.code === 1008;
    if (answer === 'stay away' || isHopeless) return end(close);
    if (close.code === 1008) wait(ANOTHER_TOKEN);
    if (rungs.failed(close) && !isOffline()) return void dial();
    comeBack(close);
  }

  /** Ends whatever there is. Answers whether it was up. */
  function hangUp(): boolean {
    const was = upSince > 0;
    upSince = 0;
    clearTimeout(timer);
    timer = undefined;
    clearTimeout(betterTimer);
    better?.hangUp();
    current?.hangUp();
    better = current = undefined;
    return was;
  }

  function comeBack(close: Close): void {
    const delay = Math.round(Math.max(backoff(attempt++), notBefore - Date.now()));
    if (isOffline()) return to('reconnecting', { attempt, close });
    to('reconnecting', { attempt, delay, close });
    timer = setTimeout(dial, delay);
  }

  function end(close: Close): void {
    turn += 1;
    unwatch();
    if (hangUp()) on.down(close);
    to('closed', { close });
  }

  /** The network is back, or somebody looks: no reason to wait longer, unless the server asked for it. */
  function awake(): void {
    if (upSince > 0) return current?.doubt();
    if (state !== 'reconnecting' || current || isOffline()) return;
    clearTimeout(timer);
    timer = setTimeout(dial, Math.max(Math.random() * SPREAD, notBefore - Date.now()));
  }

  function lookForBetter(): void {
    const [first, longest] = BETTER_AFTER;
    if (betterAt <= Date.now()) betterAt = Date.now() + Math.min(longest, first * 2 ** betterTries++) * (0.75 + Math.random() / 2);
    clearTimeout(betterTimer);
    betterTimer = setTimeout(async () => {
      const mine = turn;
      const token = await credentials.token().catch(() => undefined);
      if (mine !== turn || !current) return;
      const tried = call(rungs.best, { ...door, token }, {
        up: (connected) => moveTo(tried, connected),
        // What it hears before it takes over is not about the connection that is open.
        hear: (reply) => current === tried && hear(reply),
        wait: (ms) => current === tried && wait(ms),
        lost: (close) => {
          if (current === tried) return lost(close);
          better = undefined;
          lookForBetter();
        },
      });
      better = tried;
    }, betterAt - Date.now());
  }

  /** The better way works: what was open there takes over, from where the other stood. */
  function moveTo(tried: Call, connected: Connected): void {
    const old = current;
    current = tried;
    better = undefined;
    old?.hangUp();
    up(tried, connected);
  }

  return {
    open() {
      if (state !== 'idle' && state !== 'closed') return;
      attempt = 0;
      unwatch = watchPage({
        awake,
        doubt: () => current?.doubt(),
        aside() {
          turn += 1;
          if (hangUp()) on.down(GONE);
        },
        back: () => state === 'closed' || void dial(),
      });
      void dial();
    },
    send: (command) => current?.send(command),
    close: () => state === 'idle' || state === 'closed' || end(GONE),
  };
}
