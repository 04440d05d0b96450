/** What a story does: each step of the outbox's API, with what it promises, as the crash enumeration and the random stories use it. */

import type { OutboxPutOptions, OutboxReceipt } from "../../src/index.ts";
import { msgOf, type Story, stateKey } from "./story.ts";

type End = "return" | "throw" | "rollback";

/** How the closure of a transaction ends that is to leave nothing. */
class Unwanted extends Error {}

/** A message alone, beside a state that is written in the same turn. */
export async function send(story: Story, options: OutboxPutOptions = {}): Promise<void> {
  const label = story.promise(options);
  const [receipt] =
    (await story.act((outbox, storage) => Promise.all([outbox.send(msgOf(label), options), storage.put(stateKey(label), label)]))) ?? [];
  if (receipt) story.known(label, receipt);
}

/** So many puts in one turn. */
export async function burst(story: Story, count: number, options: OutboxPutOptions = {}): Promise<void> {
  const labels = Array.from({ length: count }, () => story.promise(options));
  const receipts = await story.act((outbox) => Promise.all(labels.map((n) => outbox.put(stateKey(n), n, msgOf(n), options))));
  for (const [i, receipt] of receipts?.entries() ?? []) story.known(labels[i] as number, receipt);
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
  const label = story.promise(options, (_, rows) => !rows.has(key));
  const existed = await story.act((outbox) => outbox.delete(key, msgOf(label), options));
  if (existed === false) story.wrong.push(`${key} did not exist`);
}

/** State and message through a transaction. */
export async function transaction(
  story: Story,
  end: End,
  options: OutboxPutOptions = {},
  through: "txn" | "manager" = "txn",
): Promise<void> {
  const label = story.promise(options);
  const receipt = await story
    .act((outbox) =>
      outbox.transaction(async (txn): Promise<OutboxReceipt | undefined> => {
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
  if (receipt) story.known(label, receipt);
}

/** The same in a closure that does not wait: for SQLite-backed objects. */
export async function transactionSync(story: Story, end: "return" | "throw", options: OutboxPutOptions = {}): Promise<void> {
  const label = story.promise(options);
  const receipt = await story
    .act(async (outbox) =>
      outbox.transactionSync(({ kv, send }) => {
        kv.put(stateKey(label), label);
        const receipt = send(msgOf(label), options);
        if (end === "throw") throw new Unwanted();
        return receipt;
      }),
    )
    .catch(expectUnwanted);
  if (receipt) story.known(label, receipt);
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
  const own = story.own.change(null);
  if (!withMessage) {
    await story.act((_, storage) => storage.deleteAll());
    return own.done();
  }
  const label = story.promise({}, (_, rows) => !rows.has(key));
  const receipt = await story.act((outbox) => outbox.deleteAll(msgOf(label)));
  if (receipt) story.ids.set(label, receipt.id);
  own.done();
}

/** The object's own alarm, in so many seconds, or none. */
export async function ownAlarm(story: Story, seconds: number | null): Promise<void> {
  const time = seconds === null ? null : story.world.loop.clock + seconds * 1000;
  const change = story.own.change(time);
  const done = await story.act(async (_, storage) => {
    await (time === null ? storage.deleteAlarm() : storage.setAlarm(time));
    return true;
  });
  if (done) change.done();
}

/** All dead letters, or the first. */
export async function redrive(story: Story, all = true): Promise<void> {
  const [first] = story.durable.dead;
  const id = first && story.ids.get(first.label);
  await story.act((outbox) => {
    story.redriving();
    return outbox.redrive(all || id === undefined ? undefined : [id]);
  });
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

export async function cancel(story: Story, named: number): Promise<void> {
  const id = story.ids.get(named);
  if (id === undefined) return;
  // An id that was used again names the message that waits now.
  const label = story.durable.pending.find((message) => story.ids.get(message.label) === id)?.label ?? named;
  const stood = story.durable.pending.some((message) => message.label === label);
  const done = await story.act((outbox) => outbox.cancel(id));
  const stands = [...story.durable.pending, ...story.durable.dead].some((message) => message.label === label);
  // The call died: what is gone without having been delivered was withdrawn, also where a death has hidden that it was handed over.
  if (done || (done === undefined && stood && !stands)) story.withdrawn(label);
}
