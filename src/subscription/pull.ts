/** Pull: a reader whose consumers ask for messages, get them under a lease, and say later what has become of each. */

import { expected, OutboxError } from "../api/errors.js";
import type { OutboxMessage } from "../api/message.js";
import { payloadOf, present } from "../storage/message.js";
import type { Store } from "../storage/store.js";
import { type Batch, type Entry, handedOver, isAside } from "./batch.js";
import type { Outcomes } from "./outcome.js";
import { lookAgain, type Reader, releaseBatch } from "./reader.js";
import { idOf } from "./reporting.js";
import type { Settling } from "./settling.js";
import type { Versions } from "./versions.js";

/** So many waiting messages are looked through for some that can be handed out: what is leased, or behind a leased message of its key, is passed over. */
const MOST_LOOKED = 1000;
/** So many messages may be leased at a time. */
const MOST_LEASED = 500;

/** What a consumer gets. */
export interface Received {
  readonly messages: OutboxMessage[];
  /** Names these messages in `settle` and `extend`. */
  readonly lease: string;
  /** When they are handed out again unless they are settled, in milliseconds since the Unix epoch. */
  readonly expiresAt: number;
}

/** What becomes of a message that was received. */
export type Verdict =
  | { readonly type: "ack"; readonly cause: unknown }
  | { readonly type: "reject"; readonly cause: unknown }
  | { readonly type: "retry"; readonly cause: unknown; readonly delayMs: number | undefined; readonly countAttempt: boolean };

/** Leases of one destination. They are in memory only: with the object's life all of them end, and what was leased is handed out again. */
export interface Pull {
  /** Hands out up to `limit` messages. Writes only where a message has expired, or the lease of one. */
  receive(limit: number, visibilityMs: number): Promise<Received>;
  /** Whether it gave out this lease, which may have expired. */
  knows(lease: string): boolean;
  /** Does with messages of a lease what the verdicts say, by their ids, in one commit. @throws OutboxError `lease_expired`. */
  settle(lease: string, verdicts: ReadonlyMap<string, Verdict>): Promise<void>;
  /** Makes a lease end so much later from now on. Returns when it ends. @throws OutboxError `lease_expired`. */
  extend(lease: string, visibilityMs: number): number;
  /** Whether the message at a position is leased. */
  has(position: number): boolean;
  /** How many messages are leased. */
  count(): number;
  /** Ends every lease. */
  endAll(): void;
  /** Runs `work` when no call of a consumer is under way, and lets none begin meanwhile. */
  alone<R>(work: () => Promise<R>): Promise<R>;
}

interface Lease {
  expiresAt: number;
  /** What is left of it, by id. */
  readonly messages: Map<string, { readonly position: number; readonly key: string | undefined }>;
}

/** What it needs of the delivery of its reader. */
interface Parts extends Pick<Outcomes, "fail" | "bury">, Pick<Settling, "settle"> {
  readonly versions: Versions;
  take(limit: number, onePerKey: boolean, allowIsolated: boolean): Promise<Batch>;
  /** The batch that was taken is in nobody's hands. */
  release(): void;
  isStrict(): boolean;
  /** Waits for what was put with `allowUnconfirmed`: storage does not hold back what is sent before that is durable. */
  untilConfirmed(): Promise<void>;
}

/** The last position of the log that was looked at. */
function seenThrough({ looked, passed }: Batch): number {
  return Math.max(passed, looked.at(-1) ?? 0);
}

const NOTHING_SETTLED: ReadonlySet<Entry> = new Set();

function gone(): OutboxError {
  return new OutboxError("lease_expired", "The lease has expired, or the object has restarted since: its messages are handed out again.");
}

export function pullOf(
  store: Store,
  reader: Reader,
  { versions, take, settle, fail, bury, release, isStrict, untilConfirmed }: Parts,
): Pull {
  /** One after the other: each looks at what is stored, and changes it. */
  let last: Promise<unknown> = Promise.resolve();
  const leases = new Map<string, Lease>();
  const life = crypto.randomUUID();
  let count = 0;

  function alone<R>(work: () => Promise<R>): Promise<R> {
    const before = last;
    // Awaited in here: at compatibility dates before 2026-03-10 a rejection that is only passed on counts as unhandled.
    const done = (async () => {
      await before;
      return await work();
    })();
    last = done.catch(() => {});
    return done;
  }

  /** @throws OutboxError when it has expired. */
  function leaseOf(name: string): Lease {
    const lease = leases.get(name);
    if (lease && lease.expiresAt > store.now()) return lease;
    throw gone();
  }

  const leased = (): { position: number; key: string | undefined; expiresAt: number }[] =>
    [...leases.values()].flatMap(({ messages, expiresAt }) => [...messages.values()].map((each) => ({ ...each, expiresAt })));

  /** Everything that is due, as it is stored now. */
  function look(most = MOST_LOOKED): Promise<Batch> {
    // What has been handed out is still there.
    lookAgain(reader);
    return take(most, false, true);
  }

  /** Messages among what is due, by position, however many others have come due before them since. @throws OutboxError where one is not there any more. */
  async function find(positions: ReadonlyMap<number, unknown>): Promise<{ readonly batch: Batch; readonly found: ReadonlySet<Entry> }> {
    for (let most = MOST_LOOKED; ; most *= 8) {
      const batch = await look(most);
      const found = new Set(batch.entries.filter((entry) => positions.has(entry.position)));
      if (found.size === positions.size) return { batch, found };
      await settleSome(batch, false);
      // Dropped meanwhile.
      if (batch.entries.length < most) throw gone();
    }
  }

  /** What is leased stays where it is, so that its lease finds it again; and so does what follows a message of its key that stays. */
  function keepInPlace({ entries }: Batch, settled: ReadonlySet<Entry>): void {
    const positions = new Set(leased().map(({ position }) => position));
    const keys = new Set<string>();
    for (const entry of [...entries].sort((a, b) => a.position - b.position)) {
      const { key } = entry.more;
      if (settled.has(entry) || (entry.fate === "dead" && !positions.has(entry.position))) continue;
      if (entry.fate && !positions.has(entry.position) && !(key !== undefined && keys.has(key))) continue;
      delete entry.fate;
      if (key !== undefined) keys.add(key);
    }
  }

  /** Settles what has got a fate; the rest stays where it is. */
  async function settleSome(batch: Batch, isNeeded: boolean): Promise<void> {
    lookAgain(reader);
    if (isNeeded) await settle(batch, batch.isCut);
    release();
    releaseBatch(reader);
  }

  function shown(entry: Entry): OutboxMessage {
    entry.attempts = handedOver(reader, entry) + 1;
    const current = entry.current ?? versions.current(entry);
    const message = entry.given && !current?.made ? { ...entry, msg: payloadOf(entry.stored) } : entry;
    return present(message, entry.attempts, undefined, current);
  }

  /** Messages that can be handed out, in order: none of a key of which an earlier one is. */
  function choose(batch: Batch, limit: number): Entry[] {
    const all = leased();
    const known = new Set(all.map(({ position }) => position));
    const busy = new Set(all.map(({ key }) => key));
    const isStrictOrder = isStrict();
    const chosen: Entry[] = [];
    const mine = new Set<string | undefined>();
    for (const entry of batch.handed) {
      const { key } = entry.more;
      if (known.has(entry.position) || chosen.length >= limit) continue;
      if (key !== undefined && (busy.has(key) || (isStrictOrder && mine.has(key)))) continue;
      mine.add(key);
      chosen.push(entry);
    }
    return chosen;
  }

  /** A message whose lease has expired has failed: that is stored, and it can be handed out again. */
  async function expire(): Promise<void> {
    const over = [...leases].filter(([, { expiresAt }]) => expiresAt <= store.now());
    if (over.length === 0) return;
    const positions = new Set(over.flatMap(([, { messages }]) => [...messages.values()].map(({ position }) => position)));
    const batch = await look();
    const failed = batch.entries.filter(({ position }) => positions.has(position));
    for (const entry of failed) {
      entry.attempts = handedOver(reader, entry) + 1;
      fail(entry, entry.more, new Error("Its lease has expired."), 0);
    }
    keepInPlace(batch, new Set(failed));
    await settleSome(batch, true);
    for (const [name] of over) leases.delete(name);
  }

  async function receive(limit: number, visibilityMs: number): Promise<Received> {
    for (;;) {
      while (store.open) await store.open;
      await expire();
      const room = Math.min(limit, MOST_LEASED - leased().length);
      const batch = reader.paused ? null : await look();
      const chosen = batch ? versions.bring(choose(batch, room), store.now()) : [];
      const messages = chosen.map(shown);
      // One that is leased does not expire: its consumer will say what has become of it.
      if (batch) keepInPlace(batch, NOTHING_SETTLED);
      // Those that have expired, or of which this deployment could make nothing. What waits for a time, or behind another message, can stay, unless there is
      // so much of it that what follows was not seen.
      const isHidden = messages.length === 0 && batch !== null && seenThrough(batch) < store.memory.position;
      const isNeeded = batch?.entries.some((entry) => entry.fate === "dead" || (isHidden && entry.fate && !isAside(entry))) === true;
      const name = `${reader.name}:${++count}:${life}`;
      const expiresAt = store.now() + visibilityMs;
      if (messages.length > 0) {
        const entries = chosen.map((entry) => [idOf(entry), { position: entry.position, key: entry.more.key }] as const);
        leases.set(name, { expiresAt, messages: new Map(entries) });
      }
      if (batch) await settleSome(batch, isNeeded || batch.isCut);
      // Nothing of what was looked at is for this destination, or all of it has just been set aside: there may be more.
      if (messages.length === 0 && batch && (isNeeded || batch.isCut)) continue;
      await untilConfirmed();
      return { messages, lease: name, expiresAt };
    }
  }

  return {
    receive: (limit, visibilityMs) => alone(() => receive(limit, visibilityMs)),

    // The name of a destination may have colons of its own.
    knows: (name) => name.replace(/:\d+:[^:]*$/, "") === reader.name,

    settle: (name, verdicts) =>
      alone(async () => {
        while (store.open) await store.open;
        const lease = leaseOf(name);
        for (const id of verdicts.keys()) if (!lease.messages.has(id)) throw expected("id", "that of a message of this lease", id);
        if (verdicts.size === 0) return;
        const byPosition = new Map(Array.from(verdicts, ([id, verdict]) => [lease.messages.get(id)?.position ?? 0, verdict]));
        const { batch, found } = await find(byPosition);
        for (const entry of found) {
          const verdict = byPosition.get(entry.position) as Verdict;
          entry.attempts = handedOver(reader, entry) + 1;
          if (verdict.type === "ack") {
            entry.fate = "gone";
            entry.cause = verdict.cause;
          } else if (verdict.type === "reject") bury(entry, "rejected", verdict.cause);
          else fail(entry, entry.more, verdict.cause, verdict.delayMs, verdict.countAttempt);
        }
        keepInPlace(batch, found);
        await settleSome(batch, true);
        for (const id of verdicts.keys()) lease.messages.delete(id);
        if (lease.messages.size === 0) leases.delete(name);
      }),

    extend(name, visibilityMs) {
      const lease = leaseOf(name);
      lease.expiresAt = store.now() + visibilityMs;
      return lease.expiresAt;
    },

    has: (position) => leased().some((each) => each.position === position && each.expiresAt > store.now()),
    count: () => leased().filter(({ expiresAt }) => expiresAt > store.now()).length,
    endAll: () => leases.clear(),
    alone,
  };
}
