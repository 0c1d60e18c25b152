/** Where the client came from: `https://app.example.com/realtime/client.js` answers under `/realtime`. */
export declare function baseOf(script: string | undefined): string | undefined;
/** An absolute http(s) URL without a slash at its end, from whatever names the place of the server. */
export declare function resolve(url: string): string;
