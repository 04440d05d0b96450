/** One step of the object's own code, as data: what it asks of the outbox, and what that means for the story once it is known how it ended. */

import type { OutboxManager, OutboxPutOptions, OutboxReceipt } from "../../src/index.ts";
import type { Msg } from "./destination.ts";
import { INSERT, isSqlRow, sqlKey } from "./sql.ts";
import { msgOf, type Story, stateKey } from "./story.ts";

export type Step =
  | { readonly step: "put" | "send" | "remove" | "sql"; readonly options?: OutboxPutOptions }
  | { readonly step: "nested"; readonly steps: readonly Step[]; readonly end: End }
  | { readonly step: "cancel" | "discard waiting" | "retry now"; readonly back: number }
  | { readonly step: "own set"; readonly seconds: number }
  | { readonly step: "wait"; readonly ms: number }
  | {
      readonly step:
        | "own delete"
        | "redrive"
        | "redrive one"
        | "discard"
        | "pause"
        | "resume"
        | "flush"
        | "new epoch"
        | "deleteAll"
        | "look";
    };

/** How a transaction ends. */
export type End = "return" | "throw" | "rollback";

/** How the closure of a transaction ends that is to leave nothing. */
export class Unwanted extends Error {}

export function unwanted(error: unknown): void {
  if (!(error instanceof Unwanted)) throw error;
}

/** What a step comes to. */
export interface Effect {
  /** It is committed, and the caller knows. */
  kept(): void;
  /** It was rolled back. */
  undone(): void;
  /** The call has died, or nobody can say whether it was part of what was rolled back: what is durable tells. */
  unknown(): void;
}

/** With what a step is taken: in a transaction what it writes goes through `txn`. */
export interface Hands {
  readonly outbox: OutboxManager<Msg>;
  readonly storage: DurableObjectStorage;
  readonly txn?: TxnHands | undefined;
}

interface TxnHands {
  put(key: string, value: unknown): unknown;
  delete(key: string): unknown;
  send(msg: Msg, options?: OutboxPutOptions): OutboxReceipt | Promise<OutboxReceipt>;
}

const nothing = (): void => {};
const NO_EFFECT: Effect = { kept: nothing, undone: nothing, unknown: nothing };

/** Takes a step in this turn. `next` gives the label of each message. `effect` is there at once, so that it is known also when the call dies. */
export function take(story: Story, step: Step, hands: Hands, next: () => number = () => story.next()): Taken {
  const taken = begin(story, step, hands, next);
  // What waits for it may not wait yet when the object dies.
  taken.ended.catch(() => {});
  return taken;
}

interface Taken {
  readonly effect: Effect;
  readonly ended: Promise<void>;
}

function begin(story: Story, step: Step, hands: Hands, next: () => number): Taken {
  const { outbox, storage, txn } = hands;
  switch (step.step) {
    case "put":
    case "send":
    case "remove":
    case "sql":
      return message(story, step.step, step.options, hands, next());
    case "nested":
      return nested(story, step, hands, next);
    case "cancel":
      return withdraw(story, story.last - step.back, async (id) => (await outbox.cancel(id)) === true);
    case "discard waiting":
      return withdraw(story, story.last - step.back, async (id) => (await outbox.discard([id])) === 1);
    case "retry now": {
      const id = story.ids.get(story.last - step.back);
      return { effect: NO_EFFECT, ended: outbox.retry(id === undefined ? [] : [id]).then(nothing) };
    }
    case "discard":
      return withdraw(story, story.view().dead[0]?.label, async (id) => (await outbox.discard([id])) === 1);
    case "own set":
    case "own delete": {
      const time = step.step === "own set" ? story.world.loop.clock + step.seconds * 1000 : null;
      const change = story.own.change(time);
      const at = (txn ?? storage) as DurableObjectStorage;
      const ended = "setAlarm" in at ? at : storage;
      const effect = { kept: change.done, undone: change.undone, unknown: change.unknown };
      return { effect, ended: time === null ? ended.deleteAlarm() : ended.setAlarm(time) };
    }
    case "redrive":
    case "redrive one": {
      const one = step.step === "redrive" ? undefined : story.view().dead[0]?.label;
      const id = one === undefined ? undefined : story.ids.get(one);
      return { effect: NO_EFFECT, ended: outbox.redrive(id === undefined ? undefined : [id]).then(nothing) };
    }
    case "deleteAll": {
      const refused = storage.deleteAll().then(
        () => void story.wrong.push("deleteAll() in a transaction was not refused"),
        () => {},
      );
      return { effect: NO_EFFECT, ended: refused };
    }
    case "wait":
      return { effect: NO_EFFECT, ended: new Promise((resolve) => setTimeout(resolve, step.ms)) };
    case "look":
      return { effect: NO_EFFECT, ended: look(story, outbox) };
    case "pause":
    case "resume":
    case "flush":
      return { effect: NO_EFFECT, ended: outbox[step.step]() };
    case "new epoch":
      return { effect: NO_EFFECT, ended: outbox.newEpoch() };
  }
}

function message(
  story: Story,
  given: "put" | "send" | "remove" | "sql",
  options: OutboxPutOptions | undefined,
  { outbox, storage, txn }: Hands,
  label: number,
) {
  // KV-backed objects have no SQL.
  const way = given === "sql" && story.world.choice.backend === "kv" ? "put" : given;
  const key = way === "sql" ? sqlKey(label) : stateKey(label);
  const doomed = way === "remove" ? doomedKey(story) : undefined;
  story.promise(options, (_, rows) => (doomed === undefined ? rows.has(key) : !rows.has(doomed)), label);
  const msg = msgOf(label);
  const { clears } = story;
  let receipt: OutboxReceipt | undefined;
  const write = (): unknown => {
    const at = txn ?? storage;
    if (way === "remove" && doomed !== undefined)
      return txn ? [txn.delete(doomed), txn.send(msg, options)] : [outbox.delete(doomed, msg, options)];
    // On a KV-backed object, what has an id is written later than the state beside it, and what a transaction has open does not reach storage.
    if (way === "sql") return [storage.sql.exec(INSERT, label) && null, txn ? txn.send(msg, options) : outbox.send(msg, options)];
    const apart = story.world.choice.backend === "kv" && !txn;
    if (txn || (way === "send" && !apart))
      return [at.put(stateKey(label), label), txn ? txn.send(msg, options) : outbox.send(msg, options)];
    return [null, outbox.put(stateKey(label), label, msg, options)];
  };
  const effect: Effect = {
    kept: () => {
      if (receipt?.id === undefined) return;
      const confirmed = way !== "remove" && story.clears === clears ? key : null;
      // The caller did not want to wait: what became of it, only the disk tells.
      if (options?.allowUnconfirmed) story.heard(label, receipt);
      else story.known(label, receipt, confirmed);
    },
    undone: () => story.hopeless(label, true),
    unknown: () => {
      if (receipt?.id !== undefined && !receipt.deduplicated && story.promised.get(label)?.committed) story.ids.set(label, receipt.id);
      // The caller did not wait: it may be durable later, in this life.
      if (!options?.allowUnconfirmed) story.hopeless(label);
    },
  };
  // Written in this turn. What throws at once because the object has died rejects as well, so that the effect is known.
  const ended = (async () => {
    const last = (await Promise.all(write() as unknown[])).at(-1);
    if (typeof last === "object") receipt = last as OutboxReceipt;
  })();
  return { effect, ended };
}

/** A transaction within what the hands belong to: the outer one keeps what it keeps, or nothing. */
function nested(story: Story, { steps, end }: Step & { step: "nested" }, { outbox, storage, txn }: Hands, next: () => number): Taken {
  const effects: Effect[] = [];
  const undone = (): void => {
    for (const effect of effects.toReversed()) effect.undone();
  };
  const effect: Effect = {
    kept: () => {
      if (end !== "return") undone();
      else for (const effect of effects) effect.kept();
    },
    undone,
    unknown: () => {
      for (const effect of effects) effect.unknown();
    },
  };
  const ended = outbox.transaction(async (within) => {
    for (const step of steps) {
      const taken = take(story, step, { outbox, storage, ...(txn && { txn: within }) }, next);
      effects.push(taken.effect);
      await taken.ended;
    }
    if (end === "throw") throw new Unwanted();
    if (end === "rollback") within.rollback();
  });
  return { effect, ended: ended.catch(unwanted) };
}

/** A key that is durable, to be deleted with a message: none where there is none. */
function doomedKey(story: Story): string | undefined {
  return [...story.confirmed].find((key) => !isSqlRow(key) && story.world.disk.rows.has(key) && story.doom(key));
}

/** A message is taken back, or a dead letter is deleted. */
function withdraw(story: Story, named: number | undefined, call: (id: string) => Promise<boolean>) {
  const id = named === undefined ? undefined : story.ids.get(named);
  if (named === undefined || id === undefined) return { effect: NO_EFFECT, ended: Promise.resolve() };
  const { pending, dead } = story.view();
  const found = [...pending, ...dead].find(({ label }) => story.idOf(label) === id);
  let done = false;
  const effect: Effect = {
    // What is put between the call and its search, under the same id, is found as well.
    kept: () => {
      if (done) story.withdrawn(found?.label ?? story.lastOf(id) ?? named);
    },
    undone: nothing,
    // What was there and is gone without having been delivered was withdrawn, also where a death has hidden that it was handed over.
    unknown: () => {
      const left = [...story.durable.pending, ...story.durable.dead];
      const label = found?.label ?? (done ? story.lastOf(id) : undefined);
      if (label !== undefined && !left.some((message) => message.label === label)) story.withdrawn(label);
    },
  };
  const ended = call(id).then((result) => {
    done = result;
  });
  return { effect, ended };
}

/** What the outbox says of itself must be what it has written. */
async function look(story: Story, outbox: OutboxManager<Msg>): Promise<void> {
  const before = shown(story);
  const unrecorded = story.unrecorded();
  const { trace } = story.world;
  const since = trace.length;
  const stats = await outbox.stats();
  const lists = [];
  for (const state of ["pending", "delayed", "dead"] as const)
    lists.push((await outbox.list({ state, limit: 1000 })).map(({ msg }) => msg.n));
  const [pending = [], delayed = [], dead = []] = lists;
  const after = story.view();
  // While something else is at work, nobody knows which of the two was seen.
  if (shown(story) !== before || trace.slice(since).some((passed) => /put|delete|transaction/.test(passed))) return;
  const listed = [...pending, ...delayed].sort((a, b) => a - b);
  // What was delivered and is not recorded yet may be known as delivered.
  const isSure = ({ label }: { readonly label: number }): boolean => listed.includes(label) || !unrecorded.has(label);
  const there = after.pending
    .filter(isSure)
    .map(({ label }) => label)
    .sort((a, b) => a - b);
  if (String(listed) !== String(there)) story.wrong.push(`${there} wait, and ${listed} are listed`);
  const letters = after.dead.map(({ label }) => label);
  if (String(dead) !== String(letters)) story.wrong.push(`${letters} are dead letters, and ${dead} are listed`);
  const waiting = stats.pending + stats.delayed + stats.blocked;
  // What became known as delivered after stats() and before list().
  const isKnown = waiting >= there.length && waiting <= after.pending.length;
  if (!isKnown || stats.dead !== letters.length) {
    story.wrong.push(`${there.length} wait and ${letters.length} are dead letters, and stats() says ${JSON.stringify(stats)}`);
  }
}

function shown(story: Story): string {
  const { header, pending, dead } = story.view();
  return JSON.stringify([story.world.loop.clock, header, pending, dead]);
}
