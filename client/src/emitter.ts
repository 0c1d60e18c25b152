/** What may be heard, by name: the arguments its handlers get. */
export type Events = Record<string, unknown[]>;
export type Handler<Arguments extends unknown[]> = (...args: Arguments) => void;

/** Something to listen to. A handler that throws stops no other, and is reported like any uncaught error. */
export class Emitter<All extends Events> {
  #handlers = new Map<keyof All, Set<Handler<never>>>();

  /** Calls `handler` at each `event`. */
  on<Name extends keyof All>(event: Name, handler: Handler<All[Name]>): this {
    const handlers = this.#handlers.get(event) ?? new Set();
    this.#handlers.set(event, handlers.add(handler));
    return this;
  }

  /** Calls `handler` no more. */
  off<Name extends keyof All>(event: Name, handler: Handler<All[Name]>): this {
    this.#handlers.get(event)?.delete(handler);
    return this;
  }

  /** Calls `handler` at the next `event` alone. */
  once<Name extends keyof All>(event: Name, handler: Handler<All[Name]>): this {
    const one: Handler<All[Name]> = (...args) => {
      this.off(event, one);
      handler(...args);
    };
    return this.on(event, one);
  }

  protected emit<Name extends keyof All>(event: Name, ...args: All[Name]): void {
    for (const handler of [...(this.#handlers.get(event) ?? [])] as Handler<All[Name]>[]) {
      try {
        handler(...args);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }

  protected has<Name extends keyof All>(event: Name, handler: Handler<All[Name]>): boolean {
    return this.#handlers.get(event)?.has(handler) ?? false;
  }

  protected hears(event: keyof All): boolean {
    return (this.#handlers.get(event)?.size ?? 0) > 0;
  }
}
