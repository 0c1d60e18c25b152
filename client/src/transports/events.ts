/** One event of an event stream. */
export interface StreamEvent {
  event: string;
  data: string;
}

/** Reads an event stream (WHATWG HTML, 9.2.6), in whatever pieces it comes. `id` is not looked at: positions are kept by
 * channel, and hold on every transport. */
export function eventReader(on: { event(event: StreamEvent): void; retry(ms: number): void }): (text: string) => void {
  let buffer = '';
  let event = '';
  let data: string[] = [];

  function line(text: string): void {
    if (text === '') {
      if (data.length > 0) on.event({ event: event || 'message', data: data.join('\n') });
      event = '';
      data = [];
      return;
    }
    const colon = text.indexOf(':');
    const name = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? '' : text.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') data.push(value);
    else if (name === 'event') event = value;
    else if (name === 'retry' && /^\d+$/.test(value)) on.retry(Number(value));
  }

  return (text) => {
    buffer += text;
    for (;;) {
      const end = /\r\n|\n|\r(?!$)/.exec(buffer);
      if (!end) return;
      const whole = buffer.slice(0, end.index);
      buffer = buffer.slice(end.index + end[0].length);
      line(whole);
    }
  };
}
