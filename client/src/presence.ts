import { Emitter, type Handler } from './emitter.ts';
import type { Member, Reply } from './protocol.ts';

export type PresenceEvents = {
  /** Who is there changed: by `joined`, by `left`, or by both after a reconnect. */
  change: [members: ReadonlyMap<string, Member>];
  joined: [member: Member];
  left: [member: Member];
};

/** Who is on a channel, kept current while it is followed. Needs `presence: true` in the channel's rule. */
export class Presence extends Emitter<PresenceEvents> {
  #members = new Map<string, Member>();
  #listens: (by: 1 | -1) => void;
  #ask: () => Promise<Member[]>;

  /** @internal */
  constructor(listens: (by: 1 | -1) => void, ask: () => Promise<Member[]>) {
    super();
    this.#listens = listens;
    this.#ask = ask;
  }

  /** By user id. */
  get members(): ReadonlyMap<string, Member> {
    return this.#members;
  }

  /** Listens. That follows the channel, as listening for its messages does. */
  override on<Name extends keyof PresenceEvents>(event: Name, handler: Handler<PresenceEvents[Name]>): this {
    if (!this.has(event, handler)) this.#listens(1);
    return super.on(event, handler);
  }

  /** Listens no more. */
  override off<Name extends keyof PresenceEvents>(event: Name, handler: Handler<PresenceEvents[Name]>): this {
    if (this.has(event, handler)) this.#listens(-1);
    return super.off(event, handler);
  }

  /** Asks the server anew. */
  async get(): Promise<ReadonlyMap<string, Member>> {
    this.#replace(await this.#ask());
    return this.members;
  }

  /** @internal */
  hear(reply: Reply): void {
    if (reply.type === 'subscribed' && reply.members) this.#replace(reply.members);
    if (reply.type === 'joined' || reply.type === 'left') {
      const { type, userId, info } = reply;
      const member = { userId, ...(info !== undefined && { info }) };
      if (type === 'joined') this.#members.set(userId, member);
      else this.#members.delete(userId);
      this.emit(type, member);
      this.emit('change', this.members);
    }
  }

  #replace(members: Member[]): void {
    const before = this.#members;
    this.#members = new Map(members.map((it) => [it.userId, it]));
    const joined = members.filter((it) => !before.has(it.userId));
    const left = [...before.values()].filter((it) => !this.#members.has(it.userId));
    for (const it of left) this.emit('left', it);
    for (const it of joined) this.emit('joined', it);
    if (joined.length + left.length > 0) this.emit('change', this.members);
  }
}
