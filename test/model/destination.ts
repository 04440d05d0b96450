/** The destination: what `sendMessages` talks to, with every way in which it fails, and the record of what it saw. */

import type { OutboxDelivery, OutboxMessage } from "../../src/index.ts";
import type { Handed, Happening, Send } from "../support/invariants.ts";
import type { Durable } from "./durable.ts";
import type { World } from "./world.ts";

/** A message as the stories put it. */
export interface Msg {
  readonly n: number;
  readonly pad?: string;
}

type Outcome = "ack" | "retry" | "reject";

/** What a handler does to its messages in place. */
export const MEDDLES = ["bigint", "set", "delete", "rename", "push", "reverse", "headers", "freeze"] as const;
export type Meddle = (typeof MEDDLES)[number];

/** In how many calls a message was, and in how many of those it has been settled by what is not yet durable. */
interface InHand {
  calls: number;
  settled: number;
  /** Its put is durable. */
  stored: boolean;
  /** When the call ended that has delivered it, by the clock that never jumps. */
  deliveredAt?: number;
}

/**
 * A delivery may go unrecorded for so much longer than the option says, in milliseconds: until transactions have ended, and calls of `deadMessage`, of
 * which those of one batch may take a minute.
 */
const SLACK_MS = 80_000;

/** What a handler says whose invocation has no subrequests left: why is in the cause. */
export const SPENT = "nothing more can be sent";

type Draft<T> = { -readonly [K in keyof T]: T[K] };

export class Destination {
  /** Refuses everything. */
  down = false;
  /** Takes what it gets, and never answers. */
  hangs = false;
  /** Breaks every call in which it stands. */
  readonly poison: Set<number> = new Set();
  /** What the next calls say of single messages, in order; then nothing is said. */
  readonly outcomes: Map<number, Outcome[]> = new Map();
  /** The next calls throw after the outcomes that they have given. */
  partial = 0;
  /** The next calls throw, after the outcomes that they have given, an error that asks to pause. */
  pauses = 0;
  /** How long an answer takes, in milliseconds. */
  delayMs = 0;
  /** The platform lets each invocation make so many subrequests, of which each message needs one: a call with no word for single ones needs one in all. */
  subrequests = Number.POSITIVE_INFINITY;
  readonly #used = { invocation: -1, count: 0 };
  /** What the handler does to its messages, each time. */
  meddles: Meddle | null = null;
  under = 0;
  /** A call that never ends has not been given up yet. */
  hung = false;
  /** What each id that was ever seen stands for. */
  readonly labels: Map<string, number> = new Map();
  jumped = false;
  /** Messages that are being handed over, or of which it is not yet durable what became of them. */
  readonly #inHand: Map<number, InHand> = new Map();
  /** The last call has failed as a whole. */
  #failed = false;
  /** The calls that have not returned. */
  readonly #open: Set<Send> = new Set();

  /** What is known of each message since it was first seen: it must stay. */
  readonly #first: Map<number, string> = new Map();

  constructor(
    readonly happenings: Happening[],
    /** What the object has written, durable or not. */
    readonly view: () => Durable,
    /** Whether a message waits by what is durable. */
    readonly isStored: (label: number) => boolean,
    readonly wrong: string[],
    /** What the object's own code asks of the outbox in the midst of its handler. */
    readonly visit: () => Promise<void>,
    /** How long a delivery may go unrecorded, in milliseconds. */
    readonly recordWithinMs: () => number,
  ) {}

  /** One call of `sendMessages` by the object with this state. It never ends when the object dies meanwhile. */
  async receive(world: World<object>, ctx: DurableObjectState, messages: OutboxMessage<Msg>[], delivery?: OutboxDelivery): Promise<void> {
    if (world.life?.ctx !== ctx) return never();
    // A clock that jumps ends the time of a call that has only begun, and the next one may begin beside it.
    if (++this.under > 1 && !this.jumped) this.wrong.push("two calls of sendMessages overlap");
    const send = this.#called(world, messages);
    await this.visit();
    const throws = await this.#serve(world, send, messages, delivery);
    this.#open.delete(send);
    this.under--;
    // Also where it throws after it has acknowledged all.
    if (!throws || send.messages.every(({ accepted }) => accepted)) this.#delivered(world, send);
    if (throws === "spent") throw new Error(SPENT, { cause: new Error("Too many subrequests by single Worker invocation.") });
    if (throws) throw Object.assign(new Error("the destination refuses"), throws === "pause" && { pause: true });
  }

  #delivered({ loop }: World<object>, { messages }: Send): void {
    for (const { label, accepted } of messages) {
      const known = this.#inHand.get(label);
      if (known && accepted) known.deliveredAt = loop.now;
    }
  }

  /** What calls have that have not returned: a clock that is set ahead ends their time, also where one tries a message alone, of which no event says so. */
  underWay(): number[] {
    return [...this.#open].flatMap(({ messages }) => messages.map(({ label }) => label));
  }

  /** What was delivered, and waits by what is durable. */
  unrecorded(): ReadonlySet<number> {
    const found = [...this.#inHand].filter(([label, { deliveredAt }]) => deliveredAt !== undefined && this.isStored(label));
    return new Set(found.map(([label]) => label));
  }

  /** A delivery is recorded in time, or was not when the object died: `now` is by the clock that never jumps. */
  #checkTime(label: number, { deliveredAt = Number.POSITIVE_INFINITY }: InHand, now: number): void {
    const late = now - deliveredAt - this.recordWithinMs();
    if (late > SLACK_MS) this.wrong.push(`${label} was delivered, and ${late} ms after it should have been recorded it was not`);
  }

  /** The call that was under way has died with the object. Returns what was in hand, each message once for each call. */
  died(now: number): number[] {
    for (const [label, known] of this.#inHand) this.#checkTime(label, known, now);
    const inHand = [...this.#inHand].flatMap(([label, { calls }]) => Array<number>(calls).fill(label));
    this.under = 0;
    this.hung = false;
    this.#open.clear();
    this.#inHand.clear();
    return inHand;
  }

  /** Something has become durable, and of all messages only these wait. */
  keep(pending: Durable["pending"], now: number): void {
    if (this.#inHand.size === 0) return;
    const labels = new Set(pending.map(({ label }) => label));
    for (const [label, known] of this.#inHand) {
      if (labels.has(label)) known.stored = true;
      else if (known.stored) {
        this.#checkTime(label, known, now);
        this.#inHand.delete(label);
      }
    }
  }

  /** Records the call at the moment at which it is made: what it sends leaves later, when all that was written before is durable. */
  #called(world: World<object>, messages: OutboxMessage<Msg>[]): Draft<Send> {
    const { pending, dead } = this.view();
    const aside = new Set(pending.filter(({ kind }) => kind === "t").map(({ label }) => label));
    const handed = messages.map(
      ({ msg: { n }, attempts }): Draft<Handed> => ({ label: n, attempts, accepted: false, aside: aside.has(n) }),
    );
    for (const message of messages) {
      this.labels.set(message.id, message.msg.n);
      this.#compare(message);
    }
    // A call begins when the last one has been settled. Only the tries of one message, and of another beside it, are settled together.
    const probes = handed.length === 1 && (this.#failed || this.#inHand.has(handed[0]?.label ?? 0));
    if (!probes && this.under === 1) for (const { label } of pending) this.#settled(world, label);
    for (const { label } of handed) {
      const known = this.#inHand.get(label);
      if (known) {
        known.calls++;
        delete known.deliveredAt;
      } else this.#inHand.set(label, { calls: 1, settled: 0, stored: this.isStored(label) });
    }
    this.#failed = true;
    const labels = dead.map(({ label }) => label);
    const at = Math.max(world.loop.clock, world.alarms.time);
    const send: Draft<Send> = { type: "send", messages: handed, dead: labels, at, hangs: false, unseen: true };
    this.happenings.push(send);
    this.#open.add(send);
    return send;
  }

  /** Of the calls that a message was in, the object has written what became of them: with that being durable they are over. */
  #settled(world: World<object>, label: number): void {
    const known = this.#inHand.get(label);
    // That it was delivered is not written yet.
    if (known?.deliveredAt !== undefined && this.recordWithinMs() > 0) return;
    const over = known ? known.calls - known.settled : 0;
    if (!known || over === 0) return;
    known.settled += over;
    world.durable(() => {
      known.calls -= over;
      known.settled -= over;
      if (known.calls === 0 && this.#inHand.get(label) === known) this.#inHand.delete(label);
    });
  }

  /** What names a message, and what it says, is the same each time. */
  #compare({ attempts: _, ...message }: OutboxMessage<Msg>): void {
    const { n, pad } = message.msg;
    const shown = JSON.stringify({ ...message, msg: { ...message.msg, ...(pad !== undefined && { pad: pad.length }) } });
    const first = this.#first.get(n) ?? shown;
    this.#first.set(n, first);
    if (shown !== first) this.wrong.push(`${n} was first ${first}, and is now ${shown}`);
  }

  /** Makes so many subrequests, or as many as this invocation has left; gives how many those were. */
  #spend({ invocations }: World<object>, wanted: number): number {
    if (this.#used.invocation !== invocations) Object.assign(this.#used, { invocation: invocations, count: 0 });
    const made = Math.min(wanted, this.subrequests - this.#used.count);
    this.#used.count += made;
    return made;
  }

  /** Gives whether the call throws, and how. */
  async #serve(
    world: World<object>,
    send: Draft<Send>,
    messages: OutboxMessage<Msg>[],
    delivery?: OutboxDelivery,
  ): Promise<boolean | "pause" | "spent"> {
    const answer = await world.outside(() => {
      if (!world.hook("send")) return null;
      send.unseen = false;
      const outcomes = new Map<string, Outcome>();
      const broken = this.down || messages.some(({ msg }) => this.poison.has(msg.n));
      const served = broken ? messages.length : this.#spend(world, delivery ? messages.length : 1);
      const isSpent = served < (delivery ? messages.length : 1);
      for (const [place, { id, msg }] of messages.entries()) {
        if (!this.isStored(msg.n)) this.wrong.push(`${msg.n} was sent before it was durable`);
        if (isSpent && place >= served) continue;
        const outcome = this.outcomes.get(msg.n)?.shift() ?? (isSpent ? "ack" : undefined);
        if (outcome && delivery) outcomes.set(id, outcome);
      }
      const throws = this.pauses > 0 ? ("pause" as const) : isSpent ? ("spent" as const) : broken || this.partial > 0;
      if (this.pauses > 0) this.pauses--;
      else if (this.partial > 0) this.partial--;
      for (const [place, { id }] of messages.entries()) {
        const outcome = outcomes.get(id);
        (send.messages[place] as Draft<Handed>).accepted = !broken && (outcome ? outcome === "ack" : !throws);
      }
      const { hangs } = this;
      send.hangs = hangs;
      send.spent = throws === "spent";
      this.#failed = hangs || (throws !== false && throws !== "spent");
      return world.hook("sent") ? { outcomes: broken ? new Map<string, Outcome>() : outcomes, throws, hangs } : null;
    }, this.delayMs);
    if (!answer) return never();
    if (this.meddles) meddle(this.meddles, messages);
    if (answer.hangs) {
      // It is timed out, and nobody's any more.
      this.#open.delete(send);
      this.under--;
      this.hung = true;
      return never();
    }
    for (const [id, outcome] of answer.outcomes) {
      if (!world.hook(outcome)) return never();
      if (outcome === "reject") delivery?.reject(id, "as the story says");
      else delivery?.[outcome](id);
    }
    return world.hook(answer.throws ? "throw" : "return") ? answer.throws : never();
  }
}

function meddle(how: Meddle, messages: OutboxMessage<Msg>[]): void {
  const [first] = messages;
  if (how === "push" && first) messages.push({ ...first, id: "another" });
  if (how === "reverse") messages.reverse();
  if (how === "headers" && first) Object.assign(first, { headers: { ...first.headers, changed: "yes" }, key: "changed", id: "changed" });
  for (const { msg } of messages as unknown as { msg: Record<string, unknown> }[]) {
    if (Object.isFrozen(msg)) continue;
    if (how === "bigint") msg.n = BigInt(msg.n as number);
    if (how === "set") msg.n = new Set([msg.n]);
    if (how === "delete") delete msg.n;
    if (how === "rename") msg.n = 0;
    if (how === "freeze") Object.freeze(msg);
  }
  if (how === "freeze") Object.freeze(messages);
}

function never<T>(): Promise<T> {
  return new Promise(() => {});
}
