/** What happens to the page a client runs in. */
export interface PageEvents {
  /** The network is back, or the user looks again. */
  awake(): void;
  /** The network is gone, or may have changed. */
  doubt(): void;
  /** The browser keeps the page aside; it must not hold a connection there. */
  aside(): void;
  back(): void;
}

/** Whether trying makes no sense. Browsers are sure only of being offline. */
export const isOffline = () => globalThis.navigator?.onLine === false;

/** Listens until what it answers is called. Does nothing outside of a browser. */
export function watchPage(on: PageEvents): () => void {
  if (typeof document === 'undefined') return () => {};
  const ended = new AbortController();
  const listen = (target: EventTarget, name: string, then: (event: any) => void) =>
    target.addEventListener(name, then, { signal: ended.signal });
  listen(globalThis, 'online', on.awake);
  listen(globalThis, 'offline', on.doubt);
  listen(document, 'visibilitychange', () => document.visibilityState === 'visible' && on.awake());
  listen(globalThis, 'pagehide', ({ persisted }: PageTransitionEvent) => persisted && on.aside());
  listen(globalThis, 'pageshow', ({ persisted }: PageTransitionEvent) => persisted && on.back());
  return () => ended.abort();
}
