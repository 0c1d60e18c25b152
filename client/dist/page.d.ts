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
export declare const isOffline: () => boolean;
/** Listens until what it answers is called. Does nothing outside of a browser. */
export declare function watchPage(on: PageEvents): () => void;
