/** What a story does: each step of the outbox's API, with what it promises, as the crash enumeration and the random stories use it. */

import type { OutboxPutOptions, OutboxReceipt } from "../../src/index.ts";
import { ownKeys } from "./durable.ts";
import { type Effect, type End, type Step, take, Unwanted } from "./steps.ts";
import { msgOf, type Story, stateKey } from "./story.ts";

/** A message alone, beside a state that is written in the same turn. */
export async function send(story: Story, options: OutboxPutOptions = {}): Promise<void> {
  const label = story.promising(() => story.promise(options));
  const [receipt] =
    (await story.act((outbox, storage) => Promise.all([outbox.send(msgOf(label()), options), storage.put(stateKey(label()), label())]))) ??
    [];
  if (receipt) story.known(label(), receipt);
}

/** So many puts in one turn. */
export async function burst(story: Story, count: number, options: OutboxPutOptions = {}): Promise<void> {
  const labels = story.promising(() => Array.from({ length: count }, () => story.promise(options)));
  const receipts = await story.act((outbox) => Promise.all(labels().map((n) => outbox.put(stateKey(n), n, msgOf(n), options))));
  for (const [i, receipt] of receipts?.entries() ?? []) story.known(labels()[i] as number, receipt);
}

/** Steps one after the other in a call of their own, or while the object blocks its own concurrency. */
export async function ask(story: Story, steps: readonly Step[], blocks = false): Promise<void> {
  const effects: Effect[] = [];
  const done = await story.act((outbox, storage, ctx) => {
    const run = async (): Promise<true> => {
      for (const step of steps) {
        const { effect, ended } = take(story, step, { outbox, storage });
        effects.push(effect);
        await ended;
      }
      return true;
    };
    return blocks ? ctx.blockConcurrencyWhile(run) : run();
  });
  for (const effect of effects) {
    if (done) effect.kept();
    else effect.unknown();
  }
}

/** One step in the midst of the next call of the handler. */
export function askInHandler(story: Story, step: Step): void {
  story.visits.push(async (outbox, storage) => {
    const { effect, ended } = take(story, step, { outbox, storage });
    story.deaths.add(effect.unknown);
    await ended;
    // It is known when it is durable.
    await story.world.outside(() => {
      story.deaths.delete(effect.unknown);
      effect.kept();
    });
  });
}

/** More entries than one storage call takes. */
export async function putMany(story: Story, count: number): Promise<void> {
  const label = story.promise({}, (n, rows) => {
    const written = [...rows.keys()].filter((key) => key.startsWith(`own:${n}:`)).length;
    if (written > 0 && written < count) story.wrong.push(`${written} of ${count} entries are durable`);
    return rows.has(stateKey(n));
  });
  const entries = Object.fromEntries([[stateKey(label), label], ...Array.from({ length: count }, (_, n) => [`own:${label}:${n}`, n])]);
  const receipt = await story.act((outbox) => outbox.put(entries, msgOf(label)));
  if (receipt) story.known(label, receipt);
}

/** A key that is deleted with a message. */
export async function remove(story: Story, options: OutboxPutOptions = {}): Promise<void> {
  const key = `own:doomed:${story.world.steps}`;
  const stands = await story.act(async (_, storage) => {
    await storage.put(key, 1);
    return true;
  });
  if (!stands) return;
  const label = story.promising(() => story.promise(options, (_, rows) => !rows.has(key)));
  const existed = await story.act((outbox) => outbox.delete(key, msgOf(label()), options));
  if (existed === false) story.wrong.push(`${key} did not exist`);
}

/** State and message through a transaction. */
export async function transaction(
  story: Story,
  end: End,
  options: OutboxPutOptions = {},
  through: "txn" | "manager" = "txn",
): Promise<void> {
  const promised = story.promising(() => story.promise(options));
  const receipt = await story
    .act((outbox) =>
      outbox.transaction(async (txn): Promise<OutboxReceipt | undefined> => {
        const label = promised();
        let receipt: OutboxReceipt;
        if (through === "txn") {
          await txn.put(stateKey(label), label);
          receipt = await txn.send(msgOf(label), options);
        } else receipt = await outbox.put(stateKey(label), label, msgOf(label), options);
        if (end === "throw") throw new Unwanted();
        if (end === "return") return receipt;
        txn.rollback();
        return undefined;
      }),
    )
    .catch(expectUnwanted);
  if (receipt) story.known(promised(), receipt);
}

/** The same in a closure that does not wait: for SQLite-backed objects. */
export async function transactionSync(story: Story, end: "return" | "throw", options: OutboxPutOptions = {}): Promise<void> {
  const promised = story.promising(() => story.promise(options));
  const receipt = await story
    .act(async (outbox) =>
      outbox.transactionSync(({ kv, send }) => {
        const label = promised();
        kv.put(stateKey(label), label);
        const receipt = send(msgOf(label), options);
        if (end === "throw") throw new Unwanted();
        return receipt;
      }),
    )
    .catch(expectUnwanted);
  if (receipt) story.known(promised(), receipt);
}

function expectUnwanted(error: unknown): undefined {
  if (!(error instanceof Unwanted)) throw error;
}

/** Everything of the object's own is deleted, with a message or without. */
export async function deleteAll(story: Story, withMessage: boolean): Promise<void> {
  const key = `own:last:${story.world.steps}`;
  const stands = await story.act(async (_, storage) => {
    await storage.put(key, 1);
    return true;
  });
  if (!stands) return;
  story.cleared();
  const before = ownKeys(story.world.disk);
  const check = (): void => {
    const left = before.filter((key) => story.world.disk.rows.has(key));
    if (left.length > 0) story.wrong.push(`deleteAll() has left ${left}`);
  };
  const own = story.own.change(null);
  if (!withMessage) {
    const done = await story.act(async (_, storage) => {
      await storage.deleteAll();
      return true;
    });
    if (done) check();
    story.cleared();
    return own.done();
  }
  const label = story.promising(() => story.promise({}, (_, rows) => !rows.has(key)));
  const receipt = await story.act((outbox) => outbox.deleteAll(msgOf(label())));
  story.cleared();
  if (receipt) {
    check();
    story.ids.set(label(), receipt.id);
  }
  own.done();
}

/** The object's own alarm, in so many seconds, or none. */
export async function ownAlarm(story: Story, seconds: number | null): Promise<void> {
  const change = story.promising(() => {
    const time = seconds === null ? null : story.world.loop.clock + seconds * 1000;
    return { time, ...story.own.change(time) };
  });
  const done = await story.act(async (_, storage) => {
    const { time } = change();
    await (time === null ? storage.deleteAlarm() : storage.setAlarm(time));
    return true;
  });
  if (done) change().done();
}

/** Lets a message be due at once that waits for a time. */
export async function retryNow(story: Story, named: number): Promise<void> {
  const id = story.ids.get(named);
  if (id !== undefined) await story.act((outbox) => outbox.retry([id]));
}

/** All dead letters, or the first. */
export async function redrive(story: Story, all = true): Promise<void> {
  const [first] = story.durable.dead;
  const id = first && story.ids.get(first.label);
  await story.act((outbox) => outbox.redrive(all || id === undefined ? undefined : [id]));
}

export async function discard(story: Story): Promise<void> {
  const [first] = story.durable.dead;
  const id = first && story.ids.get(first.label);
  if (!first || id === undefined) return;
  const count = await story.act((outbox) => outbox.discard([id]));
  if (count === 1) story.withdrawn(first.label);
  // The call died: by what is durable, and by nothing else, it is known whether it was discarded.
  else if (count === undefined && !story.durable.dead.some(({ label }) => label === first.label)) story.withdrawn(first.label);
}

/** Takes a message back that waits: in whatever state, or only if it has been tried. */
export async function cancel(story: Story, named: number, how: "cancel" | "discard" = "cancel"): Promise<void> {
  const id = story.ids.get(named);
  if (id === undefined) return;
  // As it is written: with slow commits it is durable later.
  const { pending, dead } = story.view();
  const standing = how === "cancel" ? pending : [...pending, ...dead];
  // An id that was used again names the message that waits now.
  const label = standing.find((message) => story.idOf(message.label) === id)?.label ?? named;
  const stood = standing.some((message) => message.label === label);
  const done = await story.act(async (outbox) => (how === "cancel" ? outbox.cancel(id) : (await outbox.discard([id])) === 1));
  const stands = [...story.durable.pending, ...story.durable.dead].some((message) => message.label === label);
  // The call died: what is gone without having been delivered was withdrawn, also where a death has hidden that it was handed over.
  if (done) story.withdrawn(stood ? label : (story.lastOf(id) ?? label));
  else if (done === undefined && stood && !stands) story.withdrawn(label);
}
