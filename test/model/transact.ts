/** Transactions of a story: every operation of the outbox in one that returns, throws or rolls back, and what is asked beside it. */

import { type Effect, type End, type Hands, type Step, take, Unwanted, unwanted } from "./steps.ts";
import type { Story } from "./story.ts";
import { Died } from "./world.ts";

export interface Transact {
  readonly steps: readonly Step[];
  readonly end: End;
  /** Whether messages go through `txn`, or through the manager. */
  readonly through: "txn" | "manager";
  /** What is asked in the closure after `rollback()`: it is outside. */
  readonly late?: Step | undefined;
}

/** What becomes of the steps of a transaction, once its call has ended. */
function conclude(inside: readonly Effect[], outside: readonly Effect[], end: End): { well: () => void; failed: (error: unknown) => void } {
  return {
    well() {
      if (end === "return") for (const effect of inside) effect.kept();
      else for (const effect of inside.toReversed()) effect.undone();
      for (const effect of outside) effect.kept();
    },
    failed(error) {
      if (!(error instanceof Died)) throw error;
      for (const effect of [...inside, ...outside]) effect.unknown();
    },
  };
}

/** A transaction in one call of the object. `open` leaves it open while the story goes on. */
export async function transact(story: Story, { steps, end, through, late }: Transact, open: boolean): Promise<void> {
  const inside: Effect[] = [];
  const outside: Effect[] = [];
  let begun = false;
  const call = story.begin((outbox, storage) => {
    const closure = async (txn: DurableObjectTransaction & Hands["txn"]): Promise<void> => {
      begun = true;
      const hands: Hands = { outbox, storage, txn };
      // While it is open nothing else is put: what comes later in the story has later labels.
      const labels = steps.flatMap((step) => (step.step === "nested" ? step.steps : [step])).map(() => story.next());
      const next = (): number => labels.shift() ?? story.next();
      for (const step of steps) {
        // On a KV-backed object only `txn` writes in the transaction.
        const direct = through === "manager" && step.step !== "send";
        const { effect, ended } = take(story, step, direct ? { outbox, storage } : hands, next);
        inside.push(effect);
        await ended;
      }
      if (end === "throw") throw new Unwanted();
      if (end === "return") return;
      txn.rollback();
      if (!late) return;
      const { effect, ended } = take(story, late, { outbox, storage });
      outside.push(effect);
      await ended;
    };
    return outbox.transaction(closure as never).catch(unwanted);
  });
  const { well, failed } = conclude(inside, outside, end);
  const concluded = call.result.then(well, failed).catch((error) => story.world.loop.fail(error));
  if (open) {
    story.calls.push(call);
    await story.world.loop.run(() => begun || call.ended);
    return;
  }
  await story.world.ending(call);
  await concluded;
}

/** The same in a closure that does not wait: what reads before it writes is only begun there, and comes after the transaction. */
export async function transactSync(story: Story, { steps, end, through }: Transact): Promise<void> {
  const inside: Effect[] = [];
  const outside: Effect[] = [];
  const call = story.begin(async (outbox, storage) => {
    const begun: Promise<void>[] = [];
    try {
      outbox.transactionSync(({ kv, send }) => {
        for (const step of steps) {
          const { step: what } = step;
          if (what === "deleteAll" || what === "wait" || what === "nested") continue;
          const direct = /^(put|send|remove|sql|own set|own delete)$/.test(what);
          const txn = { put: kv.put.bind(kv), delete: kv.delete.bind(kv), send };
          const { effect, ended } = take(story, step, { outbox, storage, txn: through === "txn" ? txn : undefined });
          (direct ? inside : outside).push(effect);
          begun.push(ended);
        }
        if (end !== "return") throw new Unwanted();
      });
    } catch (error) {
      unwanted(error);
    }
    await Promise.all(begun);
  });
  await story.world.ending(call);
  const { well, failed } = conclude(inside, outside, end);
  await call.result.then(well, failed);
}

/** Something is asked so many microtasks after the closure of a transaction has begun: it is in it, or after it, and whole in either case. */
export async function beside(story: Story, end: End, ticks: number, within: Step | undefined, step: Step): Promise<void> {
  const inside: Effect[] = [];
  const besides: Effect[] = [];
  const call = story.begin(async (outbox, storage) => {
    let begin = (): void => {};
    const began = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const done = outbox.transaction(async (txn) => {
      begin();
      if (within) {
        const { effect, ended } = take(story, within, { outbox, storage, txn });
        inside.push(effect);
        await ended;
      }
      if (end === "throw") throw new Unwanted();
      if (end === "rollback") txn.rollback();
    });
    const other = (async () => {
      await began;
      for (let tick = 0; tick < ticks; tick++) await null;
      const { effect, ended } = take(story, step, { outbox, storage });
      besides.push(effect);
      // What comes too late for a transaction that has been rolled back is refused.
      await ended.catch(() => {});
    })();
    await Promise.all([done.catch(unwanted), other]);
  });
  await story.world.ending(call);
  const { well, failed } = conclude(inside, [], end);
  await call.result.then(well, failed);
  for (const effect of besides) effect.unknown();
}
