import type { Line } from './line.ts';
import type { Command, Member, Position, Reply } from './protocol.ts';

/** Several tabs on one line: each asks as if the line were its own, and gets the answers to its own questions and every
 * publication. What it does not follow, or has heard already, it leaves aside by itself. */
export interface Relay {
  /** A tab says something. */
  say(tab: string, command: Command): void;
  /** The server says something. */
  hear(reply: Reply): void;
  /** A tab is gone: nobody follows for it any more. */
  gone(tab: string): void;
  /** Another session: nothing asked before is answered. */
  reset(): void;
}

interface Followed {
  tabs: Set<string>;
  position?: Position;
  isConflated?: boolean;
  /** Where the channel has presence: who is there, or how many where they are too many to be named. */
  members?: Map<string, Member> | number;
}

/** `tell` reaches one tab, or all where none is named. */
export function relay(line: Pick<Line, 'send'>, tell: (reply: Reply, tab?: string) => void): Relay {
  const channels = new Map<string, Followed>();
  const questions = new Map<number, { tab: string; command: Command }>();
  let lastRef = 0;

  function forward(tab: string, command: Command): void {
    lastRef += 1;
    questions.set(lastRef, { tab, command });
    line.send({ ...command, ref: lastRef });
  }

  function subscribe(tab: string, command: Extract<Command, { type: 'subscribe' }>): void {
    const { channel, since, ref } = command;
    const followed = channels.get(channel) ?? { tabs: new Set() };
    channels.set(channel, followed);
    followed.tabs.add(tab);
    const { position, members, isConflated } = followed;
    // Whoever missed something is for the server to answer; it joins anew, and all the others hear some of it again.
    const isHere = position && (!since || (since.epoch === position.epoch && since.seq === position.seq));
    if (!isHere) return forward(tab, command);
    tell({
      type: 'subscribed', channel, ...position, ref,
      ...(since && { recovered: true }),
      ...(isConflated && { conflated: true }),
      ...(members instanceof Map && { members: [...members.values()] }),
      ...(typeof members === 'number' && { membersTotal: members }),
    }, tab);
  }

  function leave(tab: string, channel: string): boolean {
    const followed = channels.get(channel);
    if (!followed?.tabs.delete(tab) || followed.tabs.size > 0) return false;
    return channels.delete(channel);
  }

  /** Follows along, to be able to answer for the server. */
  function note(reply: Reply): void {
    const followed = 'channel' in reply ? channels.get(reply.channel!) : undefined;
    if (!followed) return;
    switch (reply.type) {
      case 'subscribed':
        followed.isConflated = reply.conflated === true;
        followed.position = place(reply);
        if (reply.members || reply.membersTotal !== undefined) followed.members = roll(reply.members, reply.membersTotal);
        return;
      case 'members':
        followed.members = roll(reply.members, reply.total);
        return;
      case 'gap':
        followed.position = place(reply);
        return;
      case 'message':
      case 'skipped': {
        const { seq } = reply;
        const id = reply.type === 'message' ? { id: reply.id } : {};
        if (followed.position && seq !== undefined) followed.position = { epoch: followed.position.epoch, seq, ...id };
        return;
      }
      case 'joined':
        if (followed.members instanceof Map) followed.members.set(reply.userId, reply);
        return;
      case 'left':
        if (followed.members instanceof Map) followed.members.delete(reply.userId);
        return;
      case 'unsubscribed':
        if (reply.ref === undefined) channels.delete(reply.channel);
    }
  }

  return {
    say(tab, command) {
      if (command.type === 'subscribe') return subscribe(tab, command);
      if (command.type !== 'unsubscribe' || leave(tab, command.channel)) forward(tab, command);
    },
    hear(reply) {
      note(reply);
      const ref = 'ref' in reply ? reply.ref : undefined;
      if (ref === undefined) return tell(reply);
      const question = questions.get(ref);
      questions.delete(ref);
      if (!question) return;
      const { tab, command } = question;
      if (reply.type === 'error' && command.type === 'subscribe') leave(tab, command.channel);
      tell({ ...reply, ref: command.ref } as Reply, tab);
    },
    gone(tab) {
      for (const channel of [...channels.keys()]) {
        if (leave(tab, channel)) forward(tab, { type: 'unsubscribe', channel, ref: 0 });
      }
    },
    reset() {
      channels.clear();
      questions.clear();
    },
  };
}

function place({ epoch, seq, id }: Position): Position {
  return { epoch, seq, ...(id !== undefined && { id }) };
}

function roll(members: Member[] | undefined, total = 0): Map<string, Member> | number {
  return members ? new Map(members.map((it) => [it.userId, it])) : total;
}
