/** Where tokens come from. */
export interface TokenOptions {
    /** Asked for a token before the first connection, before the token expires, and after it was refused. */
    getToken?: () => string | null | undefined | Promise<string | null | undefined>;
    /** A fixed token, for connections that do not outlive it. */
    token?: string;
}
export interface Credentials {
    /** What to show at the next connection; nothing for a cookie or for nobody. */
    token(): Promise<string | undefined>;
    /** A newer one. None if there is nobody to ask. */
    renewed(): Promise<string | undefined>;
    /** The server wants another. Answers whether there is hope for one. */
    refused(): boolean;
    accepted(): void;
}
export declare function credentials({ getToken, token: fixed }: TokenOptions): Credentials;
