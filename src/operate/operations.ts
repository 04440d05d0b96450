/** Operations: what an engineer on call sees of an outbox and does to it, for all of its destinations or for one. */

import { expected, told } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxListed } from "../api/message.js";
import { type OutboxContext, untilWritable } from "../context.js";
import { scanOf } from "../storage/scan.js";
import { inHandler } from "../subscription/call.js";
import type { Delivery } from "../subscription/delivery.js";
import { waits } from "../subscription/reader.js";
import { cancellerOf } from "./cancel.js";
import { type DeadLetters, deadLettersOf } from "./dead-letters.js";
import { type DropOptions, drop } from "./drop.js";
import { listerOf, listOptions, type OutboxListOptions, within1000 } from "./list.js";
import { type OutboxRewindOptions, rewind } from "./rewind.js";
import { statsOf } from "./stats.js";

/** Which destination is meant. */
export interface DestinationOption {
  /** The name of one destination: `"default"` is `sendMessages`. Default: all of them. */
  destination?: string;
}

/** What can be done to one destination. */
interface Operations extends DeadLetters {
  list(options?: OutboxListOptions): Promise<OutboxListed[]>;
  cancel(id: string): Promise<boolean>;
  hasten(id: string): Promise<boolean>;
  discardTried(ids: ReadonlySet<string>): Promise<number>;
}

/** A list as it is at the call. */
function asGiven<T>(list: T): T {
  return Array.isArray(list) ? ([...list] as T) : list;
}

/** So many ends of pages are remembered. */
const MOST_ENDS = 1000;

/**
 * The operations of one object's manager. What may reject immediately is awaited where it is returned: at compatibility dates before 2026-03-10 a
 * rejection that is only passed on counts as unhandled.
 *
 * `wake` arms the next wake-up, and is called in the turn of the writes.
 */
export function operations(parts: OutboxContext, wake: () => Promise<void> | undefined): object {
  const { store, delivery, timers } = parts;
  const made = new Map<Delivery, Operations>();
  /** In which destination pages ended, by state and id. Oldest first. */
  const ends = new Map<string, Delivery>();
  let warned = false;

  function operationsOf(each: Delivery): Operations {
    const scan = scanOf(store, each.reader);
    const all = made.get(each) ?? {
      list: listerOf(parts, each, scan),
      ...cancellerOf(parts, each, scan, wake),
      ...deadLettersOf(parts, each, scan, wake),
    };
    made.set(each, all);
    return all;
  }

  /** Those that are meant, once it is known which there are. @throws TypeError when there is none of that name. */
  async function meant(options: DestinationOption | undefined): Promise<readonly Delivery[]> {
    const { destination } = known("options", options ?? {}, ["destination"]);
    await untilWritable(parts);
    if (destination === undefined) return delivery.all;
    const one = typeof destination === "string" ? delivery.of(destination) : undefined;
    const names = delivery.all.map(({ reader }) => JSON.stringify(reader.name)).join(", ");
    if (!one) throw expected("options.destination", `one of ${names || "no destinations"}`, destination);
    return [one];
  }

  /** Changes memory and writes the header in the turn in which the outbox may be written: a microtask later a transaction may be about to commit. */
  async function change(options: DestinationOption | undefined, one: (each: Delivery) => void): Promise<unknown> {
    const chosen = await meant(options);
    for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
    for (const each of chosen) one(each);
    // The header says whose alarm is set from now on.
    const woken = wake();
    return await Promise.all([store.saveHeader(), woken]);
  }

  async function total(chosen: readonly Delivery[], one: (operations: Operations) => Promise<number>): Promise<number> {
    let count = 0;
    for (const each of chosen) count += await one(operationsOf(each));
    return count;
  }

  return {
    stats: statsOf(parts),

    async list(options?: OutboxListOptions) {
      const { destination, ...rest } = listOptions(options);
      const all = await meant(destination === undefined ? undefined : { destination });
      if (all.length === 1) return await operationsOf(all[0] as Delivery).list(rest);
      const { state = "pending", after } = rest;
      const most = within1000(rest.limit);
      const begun = after === undefined ? undefined : await endOf(all, state, after);
      const listed: OutboxListed[] = [];
      for (const each of begun ? all.slice(all.indexOf(begun)) : all) {
        if (listed.length >= most) break;
        const { after: _, ...fresh } = rest;
        const page = await operationsOf(each).list({ ...(each === begun ? rest : fresh), limit: most - listed.length });
        listed.push(...page);
        const last = page.at(-1);
        if (last) remember(`${state} ${last.id}`, each);
      }
      return listed;
    },

    async redrive(ids?: string[], options?: DestinationOption) {
      const given = asGiven(ids);
      return await total(await meant(options), (each) => each.redrive(given));
    },

    async discard(ids: string[], options?: DestinationOption) {
      const given = asGiven(ids);
      const wanted = new Set(Array.isArray(given) ? given : []);
      return await total(await meant(options), async (each) => {
        const count = await each.discard(given);
        // Those that are no dead letters may have failed, and wait.
        return count < wanted.size ? count + (await each.discardTried(wanted)) : count;
      });
    },

    async cancel(id: string, options?: DestinationOption) {
      let isCancelled = false;
      for (const each of await meant(options)) isCancelled = (await operationsOf(each).cancel(id)) || isCancelled;
      return isCancelled;
    },

    async retry(ids: string[], options?: DestinationOption) {
      const given = asGiven(ids);
      if (!Array.isArray(given)) throw expected("ids", "a list of ids", given);
      let count = 0;
      for (const each of await meant(options)) {
        for (const id of given) if (await operationsOf(each).hasten(id)) count++;
      }
      if (count > 0) delivery.kick();
      return count;
    },

    async pause(options?: DestinationOption) {
      await change(options, ({ reader }) => {
        reader.paused = true;
      });
    },

    async resume(options?: DestinationOption) {
      await change(options, ({ reader }) => {
        reader.paused = false;
        if (reader.queuedCount) reader.queueDueAt = 0;
        if (reader.delayedCount + reader.blockedCount) reader.delayedDueAt = 0;
      });
      delivery.kick();
    },

    async flush(options?: DestinationOption) {
      if (inHandler()) {
        // It would wait for the end of a run that waits for the handler.
        if (!warned) console.warn(told("flush() in sendMessages() does nothing: messages that are due are delivered after the call."));
        warned = true;
        return;
      }
      const chosen = await meant(options);
      for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
      const waiting = chosen.filter(({ reader }) => waits(reader));
      // A transaction would wait for itself: delivery waits for its end.
      if (waiting.length === 0 || store.open) return;
      // In blockConcurrencyWhile() it would wait for the answer that a run outside waits for, and that can't come in.
      if (timers.areHeld && delivery.isRunning) return;
      const leased = waiting.filter(({ reader }) => reader.breaker.lease);
      await delivery.flush(waiting);
      // The first run after a death takes one batch.
      const again = leased.filter((each) => each.isDue());
      if (again.length > 0) await delivery.flush(again);
    },

    async dropDestination(name: string, options?: DropOptions) {
      const { deadLetters = false } = known("options", options ?? {}, ["deadLetters"]);
      if (typeof deadLetters !== "boolean") throw expected("options.deadLetters", "a boolean", deadLetters);
      if (typeof name !== "string") throw expected("name", "the name of a destination", name);
      const [one] = await meant({ destination: name });
      return await drop(parts, one as Delivery, deadLetters);
    },

    async rewind(name: string, options: OutboxRewindOptions) {
      if (typeof name !== "string") throw expected("name", "the name of a destination", name);
      const [one] = await meant({ destination: name });
      const count = await rewind(parts, one as Delivery, options, wake);
      delivery.kick();
      return count;
    },

    async newEpoch() {
      for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
      return await store.newEpoch();
    },
  };

  function remember(name: string, each: Delivery): void {
    ends.delete(name);
    ends.set(name, each);
    const [oldest = ""] = ends.keys();
    if (ends.size > MOST_ENDS) ends.delete(oldest);
  }

  /** The destination in which a page ended. */
  async function endOf(all: readonly Delivery[], state: string, after: string): Promise<Delivery | undefined> {
    const ended = ends.get(`${state} ${after}`);
    if (ended && all.includes(ended)) return ended;
    for (const each of all) {
      // Where it is not, `list` throws.
      const isThere = await operationsOf(each)
        .list({ state: state as "pending", after, limit: 1 })
        .then(
          () => true,
          () => false,
        );
      if (isThere) return each;
    }
    return undefined;
  }
}
