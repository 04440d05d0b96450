/** The fleet as the inspector's page sees it: the shards of the registry as one. */

import { expected, told } from "../api/errors.js";
import { known } from "../api/known.js";
import { within } from "../api/within.js";
import type { Fleet, FleetAction, FleetBatch, FleetEntry, FleetFilter, FleetPage, FleetTrouble } from "../inspector/fleet-api.js";
import type { ShardBatch, ShardBatchRequest } from "./batch.js";
import { MOST_SHARDS, SHARDS, shardName } from "./report.js";
import { bitOf, scoreOf } from "./trouble.js";
import type { Place, ShardPage } from "./troubled.js";

/** Options of `fleet()`. */
export interface FleetOptions {
  /** How many shards the registry has: the same number as in `withFleetReports`. Default 16. */
  shards?: number;
  /** The rate of a batch that names none, in objects a second. Default 20, from 0.1 to 1,000. */
  objectsPerSecond?: number;
}

/** The namespace of a registry, as far as it is asked. */
export interface FleetRegistry {
  idFromName(name: string): DurableObjectId;
  get(id: DurableObjectId): object;
}

/** A shard as it is called. */
interface Shard {
  list(filter: FleetFilter, after: Place | undefined, limit: number): Promise<ShardPage>;
  start(request: ShardBatchRequest): Promise<ShardBatch>;
  batches(): Promise<ShardBatch[]>;
  set(id: string, state: "running" | "stopped"): Promise<ShardBatch | null>;
}

const ACTIONS = ["redrive", "flush", "pause", "resume"] as const satisfies readonly FleetAction[];
const FILTER = ["search", "namespace", "destination", "trouble"];
const TEXT_LENGTH = 256;
const MOST_DESTINATIONS = 100;
/** Batches that are listed. */
const MOST_BATCHES = 20;

/**
 * The fleet whose registry is this namespace of `OutboxFleet`: for `inspector({ fleet })`, and for code of your own.
 *
 * @throws TypeError when an option is wrong
 *
 * @example
 * const worst = await fleet(env.OUTBOX_FLEET).list({ trouble: "dead", limit: 10 });
 */
export function fleet(registry: FleetRegistry, options: FleetOptions = {}): Fleet {
  if (typeof registry?.idFromName !== "function") throw expected("registry", "a namespace of OutboxFleet", registry);
  const { shards, objectsPerSecond } = known("options", options, ["shards", "objectsPerSecond"]);
  const count = within("options.shards", shards, [SHARDS, 1, MOST_SHARDS, 1]);
  const rate = within("options.objectsPerSecond", objectsPerSecond, [20, 0.1, 1000]);
  const all = Array.from({ length: count }, (_, shard) => registry.idFromName(shardName(shard)));

  /** Asks shards side by side. */
  const ask = <T>(ids: readonly DurableObjectId[], call: (shard: Shard, at: number) => Promise<T>): Promise<T[]> =>
    Promise.all(ids.map((id, at) => call(registry.get(id) as Shard, at)));

  async function change(id: string, state: "running" | "stopped"): Promise<FleetBatch | null> {
    if (typeof id !== "string") throw expected("id", "the id of a batch", id);
    const parts = await ask(all, (shard) => shard.set(id, state));
    return summed(parts.filter((part) => part !== null));
  }

  return {
    async list(query) {
      const { after, limit: given, ...filter } = known("query", query, [...FILTER, "after", "limit"]);
      const limit = within("query.limit", given, [50, 1, 200, 1]);
      const place = after === undefined ? undefined : placeIn(after);
      const checked = checkedFilter("query", filter);
      const pages = await ask(all, (shard) => shard.list(checked, place, limit + 1));
      return merged(pages, limit);
    },

    async start(request) {
      const { action, filter, objectsPerSecond } = known("request", request, ["action", "filter", "objectsPerSecond"]);
      if (!ACTIONS.includes(action)) throw expected("request.action", `one of ${ACTIONS.join(", ")}`, action);
      const checked = checkedFilter("request.filter", known("request.filter", filter, FILTER));
      const total = within("request.objectsPerSecond", objectsPerSecond, [rate, 0.1, 1000]);
      const pages = await ask(all, (shard) => shard.list(checked, undefined, 0));
      const busy = all.filter((_, shard) => (pages[shard]?.total ?? 0) > 0);
      // One shard keeps it even if nothing matches, so that it is seen to have ended.
      const chosen = busy.length > 0 ? busy : all.slice(0, 1);
      const each = { id: crypto.randomUUID(), action, filter: checked, objectsPerSecond: total / chosen.length, startedAt: Date.now() };
      try {
        return summed(await ask(chosen, (shard) => shard.start(each))) as FleetBatch;
      } catch (cause) {
        // All of it, or nothing that goes on.
        await change(each.id, "stopped").catch(() => {});
        throw new Error(told(`The batch could not be started on every shard, and is stopped: ${String(cause)}`), { cause });
      }
    },

    async batches() {
      const parts = (await ask(all, (shard) => shard.batches())).flat();
      const ids = [...new Set(parts.map(({ id }) => id))];
      const batches = ids.map((id) => summed(parts.filter((part) => part.id === id)) as FleetBatch);
      return batches.sort((a, b) => b.startedAt - a.startedAt).slice(0, MOST_BATCHES);
    },

    stop: (id) => change(id, "stopped"),

    resume: (id) => change(id, "running"),
  };
}

/** The parts of a batch, which its shards have, as one. */
function summed(parts: readonly ShardBatch[]): FleetBatch | null {
  const [first] = parts;
  if (!first) return null;
  const sum = (name: "total" | "done" | "failed" | "messages"): number => parts.reduce((all, part) => all + part[name], 0);
  const has = (state: FleetBatch["state"]): boolean => parts.some((part) => part.state === state);
  const state = has("running") ? "running" : has("stopped") ? "stopped" : "done";
  const error = parts.find((part) => part.error !== undefined)?.error;
  return {
    ...{ id: first.id, action: first.action, filter: first.filter, state, startedAt: first.startedAt },
    ...(state === "done" && { endedAt: Math.max(...parts.map(({ endedAt = 0 }) => endedAt)) }),
    ...{ total: sum("total"), done: sum("done"), failed: sum("failed"), messages: sum("messages") },
    ...(error !== undefined && { error }),
  };
}

/** The pages of shards as one, of which each shard has sent one entry more than fit. */
function merged(pages: readonly ShardPage[], limit: number): FleetPage {
  const placed = pages.flatMap((page) => page.placed).sort((a, b) => order(a.place, b.place));
  const shown = placed.slice(0, limit);
  const last = shown.at(-1);
  const troubles: Partial<Record<FleetTrouble, number>> = {};
  for (const page of pages) {
    for (const [trouble, count] of Object.entries(page.troubles) as [FleetTrouble, number][]) {
      troubles[trouble] = (troubles[trouble] ?? 0) + count;
    }
  }
  const omitted = pages.reduce((sum, page) => sum + page.omitted, 0);
  return {
    entries: shown.map(({ entry }): FleetEntry => entry),
    ...(placed.length > limit && last && { next: JSON.stringify(last.place) }),
    total: pages.reduce((sum, { total }) => sum + total, 0),
    troubles,
    ...(omitted > 0 && { omitted }),
    destinations: [...new Set(pages.flatMap(({ destinations }) => destinations))].sort().slice(0, MOST_DESTINATIONS),
  };
}

function order([score, id, destination]: Place, [otherScore, otherId, other]: Place): number {
  if (score !== otherScore) return otherScore - score;
  return id < otherId ? -1 : id > otherId ? 1 : destination < other ? -1 : destination > other ? 1 : 0;
}

function placeIn(after: unknown): Place {
  try {
    const [score, id, destination] = JSON.parse(after as string) as unknown[];
    if (Number.isSafeInteger(score) && typeof id === "string" && typeof destination === "string") return [score as number, id, destination];
  } catch {
    // It is none.
  }
  throw expected("query.after", "the `next` of an earlier page", after);
}

function checkedFilter(name: string, filter: FleetFilter): FleetFilter {
  for (const [key, value] of Object.entries(filter)) {
    if (value !== undefined && (typeof value !== "string" || value.length > TEXT_LENGTH)) {
      throw expected(`${name}.${key}`, `a string of at most ${TEXT_LENGTH} characters`, value);
    }
  }
  const { trouble } = filter;
  if (trouble !== undefined && !(scoreOf(bitOf(trouble) ?? 0, 0) > 0))
    throw expected(`${name}.trouble`, "dead, stuck, breaker or paused", trouble);
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined && value !== ""));
}
