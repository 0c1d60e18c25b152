import { vi } from 'vitest';

/** Locks and channels as the tabs of one browser have them. */
export function browser() {
  const queues = new Map<string, (() => void)[]>();
  const locks = {
    request(name: string, { signal }: { signal: AbortSignal }, held: () => Promise<void>) {
      return new Promise<void>((resolve, reject) => {
        const queue = queues.get(name) ?? [];
        queues.set(name, queue);
        const turn = () => held().then(() => {
          queue.shift();
          resolve();
          queue[0]?.();
        });
        queue.push(turn);
        signal.addEventListener('abort', () => {
          const at = queue.indexOf(turn);
          if (at <= 0) return;
          queue.splice(at, 1);
          reject(new Error('aborted'));
        });
        if (queue.length === 1) queueMicrotask(turn);
      });
    },
  };
  const buses = new Set<FakeBus>();
  class FakeBus {
    onmessage: ((event: { data: unknown }) => void) | null = null;
    constructor(public name: string) { buses.add(this); }
    postMessage(data: unknown) {
      const copy = structuredClone(data);
      for (const it of buses) if (it !== this && it.name === this.name) setTimeout(() => buses.has(it) && it.onmessage?.({ data: copy }), 1);
    }
    close() { buses.delete(this); }
  }
  vi.stubGlobal('navigator', { locks, onLine: true });
  vi.stubGlobal('BroadcastChannel', FakeBus);
}
