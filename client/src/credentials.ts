import { OutriggerError } from './error.ts';

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

/** So many tokens in a row may be refused before the client gives up. */
const PATIENCE = 3;
const ANSWER_WITHIN = 15_000;

export function credentials({ getToken, token: fixed }: TokenOptions): Credentials {
  let known: string | undefined;
  let refusals = 0;

  async function renewed(): Promise<string | undefined> {
    if (!getToken) return undefined;
    let timer;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new OutriggerError('token', 'getToken gave no answer in time', true)), ANSWER_WITHIN);
    });
    try {
      known = (await Promise.race([getToken(), late])) || undefined;
      return known;
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    token: async () => known ?? (getToken ? renewed() : fixed),
    renewed,
    refused() {
      known = undefined;
      return getToken !== undefined && ++refusals < PATIENCE;
    },
    accepted() {
      refusals = 0;
    },
  };
}
