/** Batches of a registry's shard: an action over all entries that match, at a rate, object by object, so that it goes on where it was after a restart. */

import { cut, textOf } from "../api/errors.js";
import type { InspectedObject, InspectorAnswer } from "../inspector/calls.js";
import type { FleetAction, FleetBatch, FleetEntry, FleetFilter } from "../inspector/fleet-api.js";
import type { InspectorCommand } from "../inspector/wire.js";
import { ERROR_LENGTH } from "./report.js";
import type { Troubled } from "./troubled.js";

/** A batch as a shard keeps it. */
export interface ShardBatch extends FleetBatch {
  readonly objectsPerSecond: number;
  /** When it goes on, in milliseconds since the Unix epoch. */
  readonly nextAt: number;
  /** The last entry that it has come to. */
  readonly after?: readonly [id: string, destination: string];
}

/** What starts one. */
export interface ShardBatchRequest {
  readonly id: string;
  readonly action: FleetAction;
  readonly filter: FleetFilter;
  readonly objectsPerSecond: number;
  readonly startedAt: number;
}

/** Batches that a shard keeps. Those that have not ended count first. */
export const MOST_BATCHES = 20;
/** The most objects that are acted on at a time. */
const MOST_AT_ONCE = 6;
/** An object that has not answered after this, in milliseconds, counts as failed. */
const CALL_MS = 30_000;

export interface Batches {
  all(): ShardBatch[];
  /** Starts one, or returns the one of its id. @throws Error when too many are under way. */
  start(request: ShardBatchRequest): ShardBatch;
  /** Changes the state of one that has not ended. */
  set(id: string, state: "running" | "stopped", now: number): ShardBatch | null;
  /** When the one that runs goes on, in milliseconds since the Unix epoch; `null` when none runs. */
  nextAt(): number | null;
  /** Acts on the next objects of the oldest that runs. Resolves to when to go on, in milliseconds since the Unix epoch; `null` when none runs. */
  step(now: () => number): Promise<number | null>;
}

/** @param namespaceOf finds the namespace of an object by its name. @throws when there is none */
export function batchesOf(
  sql: SqlStorage,
  troubled: Troubled,
  namespaceOf: (name: string) => { idFromString(id: string): DurableObjectId; get(id: DurableObjectId): object },
): Batches {
  sql.exec("CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID");
  const batches = new Map(
    sql
      .exec<{ data: string }>("SELECT data FROM batches")
      .toArray()
      .map(({ data }) => JSON.parse(data) as ShardBatch)
      .sort((a, b) => a.startedAt - b.startedAt)
      .map((batch) => [batch.id, batch]),
  );

  function keep<B extends ShardBatch>(batch: B): B {
    batches.set(batch.id, batch);
    sql.exec("INSERT OR REPLACE INTO batches VALUES (?, ?)", batch.id, JSON.stringify(batch));
    return batch;
  }

  const running = (): ShardBatch | undefined => [...batches.values()].find(({ state }) => state === "running");

  async function act({ action }: ShardBatch, { namespace, id, destination }: FleetEntry): Promise<number> {
    const objects = namespaceOf(namespace);
    const object = objects.get(objects.idFromString(id)) as InspectedObject;
    const command: InspectorCommand = { action, destination };
    const answer = (await within(CALL_MS, object.inspectOutbox(command))) as InspectorAnswer;
    if (!answer.ok) throw new Error(answer.error);
    return "outcome" in answer ? answer.outcome.count : 0;
  }

  return {
    all: () => [...batches.values()],

    start(request) {
      const known = batches.get(request.id);
      if (known) return known;
      for (const { id, state } of batches.values()) {
        if (batches.size < MOST_BATCHES || state !== "done") continue;
        batches.delete(id);
        sql.exec("DELETE FROM batches WHERE id = ?", id);
      }
      if (batches.size >= MOST_BATCHES) throw new Error(`${MOST_BATCHES} batches are under way or stopped: end some of them first.`);
      const { total } = troubled.list(request.filter, undefined, 0);
      const ended = total === 0 ? { state: "done" as const, endedAt: request.startedAt } : { state: "running" as const };
      return keep({ ...request, ...ended, nextAt: request.startedAt, total, done: 0, failed: 0, messages: 0 });
    },

    set(id, state) {
      const batch = batches.get(id);
      if (!batch || batch.state === "done" || batch.state === state) return batch ?? null;
      return keep({ ...batch, state });
    },

    nextAt: () => running()?.nextAt ?? null,

    async step(now) {
      const batch = running();
      if (!batch) return null;
      const begun = now();
      if (batch.nextAt > begun) return batch.nextAt;
      const count = Math.max(1, Math.min(MOST_AT_ONCE, Math.floor(batch.objectsPerSecond)));
      const entries = troubled.walk(batch.filter, batch.startedAt, batch.after, count);
      const results = await Promise.allSettled(entries.map((entry) => act(batch, entry)));
      // It may have been stopped meanwhile.
      const current = batches.get(batch.id) ?? batch;
      const last = entries.at(-1);
      const failures = results.filter((result) => result.status === "rejected");
      const failure = failures.at(-1);
      const done = current.done + entries.length;
      const progress = {
        ...current,
        ...(last && { after: [last.id, last.destination] as const }),
        nextAt: begun + (Math.max(1, entries.length) * 1000) / batch.objectsPerSecond,
        done,
        failed: current.failed + failures.length,
        messages: results.reduce((sum, result) => sum + (result.status === "fulfilled" ? result.value : 0), current.messages),
        ...(failure && { error: cut(textOf(failure.reason), ERROR_LENGTH) }),
      };
      // Those that were well again before their turn count as come to.
      if (entries.length < count) keep({ ...progress, state: "done", done: Math.max(done, current.total), endedAt: now() });
      else keep(progress);
      return running()?.nextAt ?? null;
    },
  };
}

async function within<T>(ms: number, call: Promise<T>): Promise<T> {
  let timer: number | null = null;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`The object has not answered within ${ms / 1000} s.`)), ms);
  });
  try {
    return await Promise.race([call, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
