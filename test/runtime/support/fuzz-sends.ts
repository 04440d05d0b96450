/** The destination fuzzer: a `sendMessages` that does whatever a program can do to its caller, and what must be true all the same. */
import type { OutboxDelivery, OutboxManager, OutboxMessage } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { Draw } from "./fuzz-draw.ts";
import { ABORTED, type Outcome, RETURNS, THROWS, TRICKS, type Trick } from "./fuzz-tricks.ts";
import { again, type Backend, declared, inside, type Stub } from "./harness.ts";
import { waiting } from "./standing.ts";
import { Box } from "./worker.ts";

/** Calls of `sendMessages` that misbehave, on one object. */
export const CALLS_PER_STORY = 100;
/** A call that does not settle costs so much, in milliseconds. */
const TIMEOUT_MS = 60;
/** So many steps are enough for the calls of a story. */
const STEPS = 3000;

/** What happened in all stories. */
export interface Told {
  calls: number;
  delivered: number;
  dead: number;
  duplicates: number;
  timeouts: number;
  /** Of objects: one more for each time that one was reset. */
  lives: number;
  aborted: number;
}

/** One message: the last call that the destination took it from, and whether it was taken back. */
interface Fate {
  taken: number;
  withdrawn: boolean;
}

/** What is known of one object. */
class Known {
  readonly draw: Draw;
  readonly told: Told;
  readonly fates = new Map<string, Fate>();
  /** Messages of which it is certain that they are durable. */
  readonly promised = new Set<string>();
  readonly wrong: string[] = [];
  readonly late: { delivery: OutboxDelivery; ids: readonly string[] }[] = [];
  /** What was stored and taken back since the last step ended: durable only when this one has. */
  stored: string[] = [];
  withdrawn: string[] = [];
  calls = 0;
  /**
   * Now and then a call resets the object, and plays no tricks: the local runtime finds its database locked, or crashes, when an object
   * is reset that has something else in hand.
   */
  readonly aborts: boolean;
  /** The last call after which a repetition is nobody's fault. */
  excused = 0;
  rough = true;

  constructor(seed: number, told: Told) {
    this.draw = new Draw(seed);
    this.told = told;
    this.aborts = this.draw.chance(0.15);
  }

  fate(id: string): Fate {
    const fate = this.fates.get(id) ?? { taken: 0, withdrawn: false };
    this.fates.set(id, fate);
    return fate;
  }

  /** The step has ended, so all of it is durable. */
  stepped(): void {
    for (const id of this.stored) this.promised.add(id);
    for (const id of this.withdrawn) this.fate(id).withdrawn = true;
    this.stored = [];
    this.withdrawn = [];
  }

  /** The object has begun anew: what was under way may have been lost with its last life, and may come again. */
  began(): void {
    this.told.lives++;
    this.excused = this.calls;
    this.stored = [];
    this.withdrawn = [];
  }

  /** The local runtime sometimes finds its own database locked when an object is reset: a crash like any other. */
  died(error: unknown): void {
    if (!String(error).includes(ABORTED) && !String(error).includes("internal error")) this.wrong.push(`the object died: ${error}`);
  }
}

/** Tells a story; gives what went wrong, and nothing when all is well. */
export async function sendStory(backend: Backend, seed: number, told: Told): Promise<string[]> {
  const known = new Known(seed, told);
  const { draw } = known;
  const stub = declared(backend, misbehaving(known));
  for (let step = 0; known.calls < CALLS_PER_STORY && step < STEPS && known.wrong.length === 0; step++) {
    await inside(again(stub), (_, outbox) => putSome(known, outbox)).then(
      () => known.stepped(),
      (error) => known.died(error),
    );
  }
  if (known.calls < CALLS_PER_STORY) known.wrong.push(`only ${known.calls} calls came`);
  known.rough = false;
  return known.wrong.length > 0 ? [...known.wrong, draw.drawn.slice(-20).join(" ")] : ending(stub, known);
}

/** A class whose every call of `sendMessages` is of the fuzzer's choice. */
function misbehaving(known: Known): new (ctx: DurableObjectState, env: never) => object {
  const { draw } = known;
  class Misbehaving extends Box {
    constructor(...args: ConstructorParameters<typeof Box>) {
      super(...args);
      known.began();
    }
    override sendMessages(messages: OutboxMessage[], delivery: OutboxDelivery): Promise<void> {
      return call(known, this.outbox, this.ctx, messages, delivery) as Promise<void>;
    }
  }
  return withTransactionalOutbox(Misbehaving, {
    batchSize: draw.pick([1, 3, 10, 100]),
    timeoutSeconds: TIMEOUT_MS / 1000,
    retry: { minDelaySeconds: 0.001, maxDelaySeconds: 0.004, jitter: 0, maxAttempts: draw.pick([3, 1000]) },
    dispatch: draw.pick(["alarm", "immediate"]),
  });
}

/** Stores some messages and lets them be delivered. */
async function putSome({ draw, stored }: Known, outbox: OutboxManager): Promise<void> {
  if (draw.chance(0.2)) await outbox.resume();
  const puts = Array.from({ length: 1 + draw.below(4) }, () => {
    const key = draw.chance(0.3) ? draw.pick(["a", "b"]) : undefined;
    return outbox.put(`key:${draw.below(5)}`, 1, { n: draw.below(100) }, key === undefined ? {} : { key });
  });
  for (const { id } of await Promise.all(puts)) stored.push(id);
  await outbox.flush();
}

/** One call of `sendMessages`: either a promise, or whatever it returns. */
function call(
  known: Known,
  outbox: OutboxManager,
  state: DurableObjectState,
  messages: OutboxMessage[],
  delivery: OutboxDelivery,
): unknown {
  const number = ++known.calls;
  const ids = messages.map(({ id }) => id);
  if (ids.length === 0) known.wrong.push("sendMessages was called with nothing");
  for (const id of ids) {
    const { taken, withdrawn } = known.fate(id);
    if (withdrawn) known.wrong.push(`${id} was withdrawn, and came`);
    if (taken > 0) known.told.duplicates++;
    // Unless the object has died since, or a call was cut off that may have taken it.
    if (taken > known.excused) known.wrong.push(`${id} was taken by call ${taken}, and came again with ${number}`);
  }
  const outcomes = new Map<string, Outcome>();
  /** What the destination has taken: what was acked, and where the call succeeds what was not settled. */
  const settle = (succeeds: boolean): void => {
    for (const id of ids) {
      const outcome = outcomes.get(id);
      if (outcome === "ack" || (succeeds && outcome === undefined)) known.fate(id).taken = number;
    }
  };
  if (!known.rough) return settle(true);
  known.told.calls++;
  // It has run out of time, if only because the machine stood still: what it took may come again.
  delivery.signal.addEventListener("abort", () => {
    known.told.timeouts++;
    known.excused = Math.max(known.excused, number);
  });
  const { draw } = known;
  draw.drawn.push("|");
  const end = (): unknown => {
    known.late.push({ delivery, ids });
    if (draw.chance(0.35)) {
      settle(false);
      throw draw.named(THROWS);
    }
    const [value, succeeds] = draw.named(RETURNS);
    settle(succeeds);
    return value;
  };
  if (known.aborts && draw.chance(0.03)) {
    known.told.aborted++;
    state.abort(ABORTED);
  }
  const trick: Trick = {
    ...{ draw, outbox, state, messages, ids, delivery, outcomes, late: known.late },
    took: (id) => {
      known.fate(id).taken = number;
    },
    stored: (id) => void known.stored.push(id),
    withdrawn: (id) => void known.withdrawn.push(id),
  };
  const tricks = known.aborts ? 0 : draw.below(4);
  return tricks === 0 ? end() : played(trick, tricks).then(end);
}

async function played(trick: Trick, count: number): Promise<void> {
  const tricks = Object.fromEntries(Object.entries(TRICKS).map(([name, play]) => [name, () => play(trick)]));
  for (let left = count; left > 0; left--) await trick.draw.named(tricks);
}

/** The destination is well from now on: whatever was stored has been taken, is dead, or was taken back. */
async function ending(stub: Stub, known: Known): Promise<string[]> {
  const { fates, told, promised } = known;
  let left = -1;
  let dead: string[] = [];
  for (let looks = 0; left !== 0 && looks < 500; looks++) {
    await scheduler.wait(10);
    await inside(again(stub), async (_, outbox) => {
      await outbox.resume();
      await outbox.flush();
      left = waiting(await outbox.stats());
      dead = (await outbox.list({ state: "dead", limit: 1000 })).map(({ id }) => id);
    }).then(
      () => known.stepped(),
      (error) => known.died(error),
    );
  }
  const wrong = [...known.wrong];
  if (left !== 0) wrong.push(`${left} messages still wait`);
  for (const id of promised) {
    const { taken, withdrawn } = known.fate(id);
    if (taken === 0 && !withdrawn && !dead.includes(id)) wrong.push(`${id} is lost`);
  }
  told.dead += dead.length;
  told.delivered += [...fates.values()].filter(({ taken }) => taken > 0).length;
  return wrong;
}
