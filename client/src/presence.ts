import { Emitter, type Handler } from './emitter.ts';
import type { Attendance, Member, Reply } from './protocol.ts';

export type PresenceEvents = {
  /** Who is there changed, or how many. */
  change: [members: ReadonlyMap<string, Member>];
  joined: [member: Member];
  left: [member: Member];
};

/** Who is on a channel, kept current while it is followed. Needs `presence: true` in the channel's rule. */
export class Presence extends Emitter<PresenceEvents> {
  #members = new Map<string, Member>();
  #total = 0;
  #listens: (by: 1 | -1) => void;
  #ask: (limit?: number) => Promise<Attendance>;

  /** @internal */
  constructor(listens: (by: 1 | -1) => void, ask: (limit?: number) => Promise<Attendance>) {
    super();
    this.#listens = listens;
    this.#ask = ask;
  }

  /** By user id. Empty while there are more than the rule lists: then only `total` is known. */
  get members(): ReadonlyMap<string, Member> {
    return this.#members;
  }

  /** How many users are there. */
  get total(): number {
    return this.#total;
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

  /** Asks the server, which names up to `limit` (1000) of those who are there. The channel must be followed. */
  get(limit?: number): Promise<Attendance> {
    return this.#ask(limit);
  }

  /** @internal */
  hear(reply: Reply): void {
    switch (reply.type) {
      case 'subscribed':
        if (reply.members) this.#replace(reply.members);
        else if (reply.membersTotal !== undefined) this.#count(reply.membersTotal);
        return;
      case 'members':
        return reply.members ? this.#replace(reply.members) : this.#count(reply.total);
      case 'joined': {
        const { userId, info } = reply;
        const member = { userId, ...(info !== undefined && { info }) };
        const isNew = !this.#members.has(userId);
        this.#members.set(userId, member);
        if (isNew) this.emit('joined', member);
        return this.#changed();
      }
      case 'left': {
        const member = this.#members.get(reply.userId);
        if (!this.#members.delete(reply.userId)) return;
        this.emit('left', member!);
        this.#changed();
      }
    }
  }

  #replace(members: Member[]): void {
    const before = this.#members;
    this.#members = new Map(members.map((it) => [it.userId, it]));
    for (const [id, it] of before) if (!this.#members.has(id)) this.emit('left', it);
    for (const [id, it] of this.#members) if (!before.has(id)) this.emit('joined', it);
    this.#changed();
  }

  /** They are too many to be named. */
  #count(total: number): void {
    this.#members = new Map();
    this.#total = total;
    this.emit('change', this.members);
  }

  #changed(): void {
    this.#total = this.#members.size;
    this.emit('change', this.members);
  }
}
