/** The destination: what `sendMessages` talks to, with every way in which it fails, and the record of what it saw. */

import type { OutboxDelivery, OutboxMessage } from "../../src/index.ts";
import type { Handed, Happening } from "../invariants.ts";
import type { World } from "./world.ts";

/** A message as the stories put it. */
export interface Msg {
  readonly n: number;
  readonly pad?: string;
}

type Outcome = "ack" | "retry" | "reject";

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
  /** How long an answer takes, in milliseconds. */
  delayMs = 0;
  under = 0;
  /** A call that never ends has not been given up yet. */
  hung = false;
  /** What each id that was ever seen stands for. */
  readonly labels: Map<string, number> = new Map();
  jumped = false;

  constructor(
    readonly happenings: Happening[],
    /** The dead letters that are durable. */
    readonly dead: () => readonly number[],
    readonly wrong: string[],
  ) {}

  /** One call of `sendMessages` by the object with this state. It never ends when the object dies meanwhile. */
  async receive(world: World<object>, ctx: DurableObjectState, messages: OutboxMessage<Msg>[], delivery?: OutboxDelivery): Promise<void> {
    if (world.life?.ctx !== ctx) return never();
    // A clock that jumps ends the time of a call that has only begun, and the next one may begin beside it.
    if (++this.under > 1 && !this.jumped) this.wrong.push("two calls of sendMessages overlap");
    const throws = await this.#serve(world, messages, delivery);
    this.under--;
    if (throws) throw new Error("the destination refuses");
  }

  /** Whoever was under way has died with the object. */
  reset(): void {
    this.under = 0;
    this.hung = false;
  }

  /** Gives whether the call throws. */
  async #serve(world: World<object>, messages: OutboxMessage<Msg>[], delivery?: OutboxDelivery): Promise<boolean> {
    const answer = await world.outside(() => {
      if (!world.hook("send")) return null;
      const outcomes = new Map<string, Outcome>();
      for (const { id, msg } of messages) {
        this.labels.set(id, msg.n);
        const outcome = this.outcomes.get(msg.n)?.shift();
        if (outcome && delivery) outcomes.set(id, outcome);
      }
      const broken = this.down || messages.some(({ msg }) => this.poison.has(msg.n));
      const throws = broken || this.partial > 0;
      if (this.partial > 0) this.partial--;
      const handed = messages.map(({ id, msg, attempts }): Handed => {
        const outcome = outcomes.get(id);
        return { label: msg.n, attempts, accepted: !broken && (outcome ? outcome === "ack" : !throws) };
      });
      const { hangs } = this;
      this.happenings.push({ type: "send", messages: handed, dead: this.dead(), at: world.loop.clock, hangs });
      return world.hook("sent") ? { outcomes: broken ? new Map<string, Outcome>() : outcomes, throws, hangs } : null;
    }, this.delayMs);
    if (!answer) return never();
    if (answer.hangs) {
      // It is timed out, and nobody's any more.
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

function never<T>(): Promise<T> {
  return new Promise(() => {});
}
