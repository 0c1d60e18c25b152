/** What may be heard, by name: the arguments its handlers get. */
export type Events = Record<string, unknown[]>;
export type Handler<Arguments extends unknown[]> = (...args: Arguments) => void;
/** Something to listen to. A handler that throws stops no other, and is reported like any uncaught error. */
export declare class Emitter<All extends Events> {
    #private;
    /** Calls `handler` at each `event`. */
    on<Name extends keyof All>(event: Name, handler: Handler<All[Name]>): this;
    /** Calls `handler` no more. */
    off<Name extends keyof All>(event: Name, handler: Handler<All[Name]>): this;
    /** Calls `handler` at the next `event` alone. */
    once<Name extends keyof All>(event: Name, handler: Handler<All[Name]>): this;
    protected emit<Name extends keyof All>(event: Name, ...args: All[Name]): void;
    protected has<Name extends keyof All>(event: Name, handler: Handler<All[Name]>): boolean;
    protected hears(event: keyof All): boolean;
}
