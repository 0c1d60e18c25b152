import type { Message } from './protocol.ts';

/** A message that was waited for. */
export type Read<Data> = Message<Data> & {
  /** So many before it were dropped, because the reader did not keep up. */
  dropped?: number;
};

/** Messages that wait for a `for await`. */
export interface Reader<Data> extends AsyncIterableIterator<Read<Data>> {
  put(message: Message<Data>): void;
  end(error?: Error): void;
}

/** The most that wait; beyond it the oldest give way, and the next to be read says how many. */
const MOST = 1000;

export function reader<Data>(onReturn: () => void, most = MOST): Reader<Data> {
  const waiting: Read<Data>[] = [];
  let dropped = 0;
  let isOver = false;
  let failure: Error | undefined;
  let wake = () => {};

  const it: Reader<Data> = {
    put(message) {
      if (isOver) return;
      waiting.push(message);
      if (waiting.length > most) {
        waiting.shift();
        dropped += 1;
      }
      wake();
    },
    end(error) {
      isOver = true;
      failure = error;
      wake();
    },
    async next() {
      while (waiting.length === 0 && !isOver) await new Promise<void>((resolve) => { wake = resolve; });
      const next = waiting.shift();
      if (!next && failure) throw failure;
      if (!next) return { done: true, value: undefined };
      const value = dropped > 0 ? { ...next, dropped } : next;
      dropped = 0;
      return { done: false, value };
    },
    async return() {
      it.end();
      waiting.length = 0;
      onReturn();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]: () => it,
  };
  return it;
}
