/** A sign of life that was asked for comes within this, in ms. */
const ANSWER_WITHIN = 8_000;
/** An event stream says something at least so often, whatever its `heartbeat` is. */
const LEAST_SILENCE = 40_000;

export interface Heartbeat {
  /** Something came. */
  alive(): void;
  /** There is reason to doubt: the network changed, or the page slept. */
  doubt(): void;
  stop(): void;
}

/** Notices a connection that is dead without having said so. Where `ping` is given a silence is asked about first;
 * elsewhere a long one is the end. */
export function heartbeat(
  { interval, timeout }: { interval: number; timeout: number },
  ping: (() => void) | undefined,
  silent: () => void,
): Heartbeat {
  let heardAt = Date.now();
  let askedAt = 0;
  let timer: ReturnType<typeof setTimeout>;

  function due(): number {
    if (askedAt > 0) return askedAt + ANSWER_WITHIN;
    return heardAt + (ping ? interval : Math.max(timeout, LEAST_SILENCE));
  }

  function look(): void {
    if (Date.now() < due()) return sleep();
    if (!ping || askedAt > 0) return silent();
    question();
  }

  function question(): void {
    askedAt = Date.now();
    ping!();
    sleep();
  }

  function sleep(): void {
    clearTimeout(timer);
    timer = setTimeout(look, due() - Date.now());
  }

  sleep();
  return {
    alive() {
      heardAt = Date.now();
      askedAt = 0;
    },
    doubt() {
      if (ping && askedAt === 0) question();
      else look();
    },
    stop: () => clearTimeout(timer),
  };
}
