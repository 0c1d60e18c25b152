import { Outrigger } from './outrigger.ts';

/** What a script tag may say (docs/client.md). */
export interface TagData {
  /** What to follow; several are separated by commas. */
  channel?: string;
  /** A CSS selector: where messages are shown. */
  target?: string;
  /** Which field of the data is shown: `total`, or `order.total`. */
  field?: string;
  /** Shows messages of this `event` alone. */
  event?: string;
  token?: string;
}

/** Real-time without code: messages are shown as text in the target, and are DOM events there, `outrigger:message`, that
 * whatever else is on the page may listen for. Text alone: what others publish is never taken for markup. */
export function actOn(tag: HTMLElement, { channel, target, field, event, token }: TagData): Outrigger {
  const live = new Outrigger(token ? { token } : {});
  const tell = (name: string, detail: object, place: EventTarget = document.body ?? document) =>
    place.dispatchEvent(new CustomEvent(`outrigger:${name}`, { detail, bubbles: true }));

  for (const name of channel!.split(',')) {
    live.channel(name.trim()).on(event ? `message:${event}` : 'message', (data, message) => {
      // Looked for each time: the page may have changed.
      const places = target ? [...document.querySelectorAll(target)] : [];
      for (const place of places) place.textContent = textOf(data, field);
      for (const place of places.length > 0 ? places : [undefined]) tell('message', { data, message }, place);
    });
  }
  live.on('gap', (gap) => tell('gap', gap));
  live.on('status', (status) => tell(status.state, status));
  tag.dataset.state = live.state;
  live.on('status', ({ state }) => { tag.dataset.state = state; });
  return live;
}

function textOf(data: unknown, field = ''): string {
  const value = field.split('.').filter(Boolean).reduce<any>((it, name) => it?.[name], data);
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value ?? '');
}
