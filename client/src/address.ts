/** Where the client came from: `https://app.example.com/realtime/client.js` answers under `/realtime`. */
export function baseOf(script: string | undefined): string | undefined {
  return /^(.*)\/client(\.[0-9a-f]{16})?\.js([?#].*)?$/.exec(script ?? '')?.[1];
}

/** An absolute http(s) URL without a slash at its end, from whatever names the place of the server. */
export function resolve(url: string): string {
  try {
    const whole = new URL(url, globalThis.location?.href);
    if (/^(ws|http)s?:$/.test(whole.protocol)) return whole.href.replace(/^ws/, 'http').replace(/\/$/, '');
  } catch {
    // Said below.
  }
  throw new TypeError(`${url} is no address of an Outrigger: outside of a page it begins with http:// or https://`);
}
