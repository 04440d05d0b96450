/** The reporter of one object: notices when something goes wrong or is well again, and tells the registry, by the object's own alarm. */

import { textOf } from "../api/errors.js";
import { logOf } from "../api/report.js";
import type { Core } from "../compose.js";
import { statsOf } from "../operate/stats.js";
import type { Chore } from "../storage/chore.js";
import { NEVER, NO_EXTENSIONS } from "../storage/memory.js";
import { type Reader, undelivered } from "../subscription/reader.js";
import type { FleetReportSettings } from "./options.js";
import { ERROR_LENGTH, type FleetReceipt, type FleetReport, MOST_ENTRIES } from "./report.js";
import { flagsOf, looksAt, signatureOf, stillStuck } from "./trouble.js";

/** What an object has told its registry, and when it goes on. In the header, and only while it is not at its defaults. */
interface Told {
  /** What the last report said: see `signatureOf`. */
  readonly told?: string;
  /** Its version. */
  readonly version?: number;
  /** When it is to be woken: for deployments that do not have it. */
  readonly at?: number;
  /** When the next report is due. */
  readonly due?: number;
  /** When to look whether something is stuck. */
  readonly look?: number;
  /** The slots of readers that are. */
  readonly stuck?: readonly number[];
}

/** A report may have arrived, or not: the next one is sent whatever it says. */
const UNKNOWN = "?";
const NONE: readonly number[] = [];
const NOTHING: Told = {};

/** An object reports at most once in this time, in milliseconds. */
const REPORT_MS = 60_000;
/** After a report that failed the next waits for so long, in milliseconds, doubling up to the longest. */
const LONGEST_RETRY_MS = 3_600_000;
/** A report has failed after this time, in milliseconds. */
const TIMEOUT_MS = 10_000;
/** Delivery waits for a report no longer than this, in milliseconds: one that takes longer goes on beside it. */
const PATIENCE_MS = 1000;
/** What is stuck is looked at again after `stuckMs`, doubling up to this, in milliseconds. */
const LONGEST_LOOK_MS = 86_400_000;
/** Looks are at least so far apart, in milliseconds. */
const LEAST_LOOK_MS = 10_000;

/** @param send tells the registry: called anew for each report */
export function reporterOf(core: Core, settings: FleetReportSettings, send: (report: FleetReport) => Promise<FleetReceipt>): Chore {
  const { store, alarm, delivery, timers, ctx } = core;
  const { memory } = store;
  const { stuckMs, delayMs } = settings;
  const stats = statsOf(core);
  const warn = logOf("warn");
  /** A look or a report is under way: calls of the alarm, and those that stand in for a late one, may overlap. */
  let isBusy = false;
  /** Reports that failed in a row, and looks in a row that found the same. */
  let failures = 0;
  let looks = 0;
  let lookedAt = 0;
  /** The time of the next report as the stored header has it: a life that finds none there takes it that none was sent. */
  let dueAtRest = NEVER;

  const state = (): Told => (memory.extensions.fleet as Told | undefined) ?? NOTHING;

  function keep(next: Told): void {
    const { fleet: _, ...others } = memory.extensions;
    const at = Math.min(next.due ?? NEVER, next.look ?? NEVER);
    const entries = Object.entries({ ...next, at }).filter(
      ([, value]) => value !== undefined && value !== NEVER && value !== "" && value !== NONE,
    );
    const extensions = entries.length > 0 ? { ...others, fleet: Object.fromEntries(entries) } : others;
    memory.extensions = Object.keys(extensions).length > 0 ? extensions : NO_EXTENSIONS;
  }

  /** When a report may be sent: a moment from now, and not so soon after the last. A clock that was ahead must not hold it up. */
  function reportAt({ version = 0 }: Told, now: number): number {
    return Math.max(now + delayMs, Math.min(version, now) + REPORT_MS);
  }

  function lookAt({ look = NEVER }: Told, stuck: readonly number[], now: number): number {
    const next = memory.readers.reduce((first, reader) => {
      const isOpen = undelivered(reader) > 0 && !stuck.includes(reader.slot);
      return isOpen ? Math.min(first, looksAt(reader, stuckMs, now)) : first;
    }, NEVER);
    // Where all consumers ask, messages come and go without an alarm: one look serves all that come until then.
    const isKept = next < NEVER || stuck.length > 0 || memory.readers.every(({ isPulled }) => isPulled);
    return isKept ? Math.min(look, Math.max(next, lookedAt + LEAST_LOOK_MS)) : NEVER;
  }

  /** Brings what is planned in line with what memory says now. */
  function refresh(): void {
    const before = state();
    const now = store.now();
    const stuck = before.stuck ? stillStuck(memory.readers, before.stuck) : NONE;
    const isTold = signatureOf(memory.readers, stuck) === (before.told ?? "");
    const due = isTold ? NEVER : Math.min(before.due ?? reportAt(before, now), now + LONGEST_RETRY_MS);
    const look = lookAt(before, stuck, now);
    if (stuck === (before.stuck ?? NONE) && due === (before.due ?? NEVER) && look === (before.look ?? NEVER)) return;
    keep({ ...before, stuck: stuck.length > 0 ? stuck : NONE, due, look });
  }

  /** Finds out what is stuck, from the exact ages. */
  async function judge(): Promise<void> {
    const { destinations } = await stats();
    while (store.open) await store.open;
    const now = store.now();
    const before = state();
    const isStuck = (reader: Reader): boolean =>
      !reader.paused && undelivered(reader) > 0 && (destinations[reader.name]?.oldestAgeSeconds ?? 0) * 1000 >= stuckMs;
    const stuck = memory.readers.filter(isStuck).map(({ slot }) => slot);
    const isNews = stuck.join() !== (before.stuck ?? NONE).join();
    looks = isNews ? 0 : looks + 1;
    lookedAt = now;
    const again = stuck.length > 0 ? now + Math.min(stuckMs * 2 ** Math.min(looks, 16), LONGEST_LOOK_MS) : NEVER;
    const next = memory.readers.reduce((first, reader) => {
      if (undelivered(reader) === 0 || reader.paused || stuck.includes(reader.slot)) return first;
      const age = (destinations[reader.name]?.oldestAgeSeconds ?? 0) * 1000;
      return Math.min(first, age > 0 ? now + stuckMs - age : looksAt(reader, stuckMs, now));
    }, again);
    // It has waited long enough to be reported at once.
    const due = isNews ? Math.min(before.due ?? NEVER, reportAt(before, now - delayMs)) : before.due;
    keep({
      ...before,
      stuck: stuck.length > 0 ? stuck : NONE,
      look: Math.max(next, now + LEAST_LOOK_MS),
      ...(due !== undefined && { due }),
    });
    refresh();
  }

  /** Why destinations are in trouble: the last failure where the breaker is open, and otherwise that of the first dead letter. */
  async function errorsOf(): Promise<ReadonlyMap<Reader, string>> {
    const errors = new Map<Reader, string>();
    for (const reader of memory.readers) {
      const { name: destination, deadCount, breaker, lastError } = reader;
      if (breaker.failures > 0 && lastError) errors.set(reader, lastError);
      else if (deadCount > 0) {
        const [letter] = await core.manager.list({ state: "dead", destination, limit: 1 }).catch(() => []);
        if (letter?.error) errors.set(reader, letter.error.slice(0, ERROR_LENGTH));
      }
    }
    return errors;
  }

  /** Looks what is stuck. Resolves to what a report says of errors, if one is due. */
  async function prepared(): Promise<ReadonlyMap<Reader, string> | null> {
    await judge();
    const { due = NEVER, look } = state();
    if (due > alarm.now()) {
      // The header says whose alarm is set from now on.
      if (due === NEVER && look === undefined) await store.saveHeader();
      return null;
    }
    if (dueAtRest === NEVER) await store.saveHeader();
    const errors = await errorsOf();
    while (store.open) await store.open;
    return errors;
  }

  function reportNow(version: number, errors: ReadonlyMap<Reader, string>): FleetReport {
    const { stuck = NONE } = state();
    const entries = memory.readers.flatMap((reader) => {
      const flags = flagsOf(reader, stuck.includes(reader.slot));
      const error = errors.get(reader);
      const counts = { dead: reader.deadCount, waiting: undelivered(reader) };
      return flags > 0 ? [{ destination: reader.name, flags, ...counts, ...(error !== undefined && { error }) }] : [];
    });
    const { id } = ctx;
    const { namespace } = settings;
    return {
      namespace,
      id: id.toString(),
      ...(id.name !== undefined && { name: id.name }),
      version,
      entries: entries.slice(0, MOST_ENTRIES),
    };
  }

  /** Sends a report, and waits a moment for it. */
  async function report(errors: ReadonlyMap<Reader, string>): Promise<void> {
    const before = state();
    const signature = signatureOf(memory.readers, before.stuck ?? NONE);
    const version = Math.max(store.now(), (before.version ?? 0) + 1);
    // From here on it may have arrived. Whatever happens next, an alarm is set by which it is sent again.
    keep({ ...before, told: UNKNOWN, version, due: store.now() + REPORT_MS });
    let cancel = (): void => {};
    const timeout = new Promise<never>((_, reject) => {
      cancel = timers.after(TIMEOUT_MS, () => reject(new Error(`The registry has not answered within ${TIMEOUT_MS / 1000} s.`)));
    });
    // Awaited in here: at compatibility dates before 2026-03-10 a rejection that is only passed on counts as unhandled.
    const call = (async () => await send(reportNow(version, errors)))();
    const ended = Promise.race([call, timeout])
      .then(
        (receipt) => arrived(signature, version, receipt),
        (error) => failed(error),
      )
      .catch(() => {}) // What storage refuses resets the object.
      .finally(() => {
        cancel();
        isBusy = false;
      });
    call.catch(() => {});
    await Promise.race([ended, new Promise<void>((resolve) => void timers.after(PATIENCE_MS, resolve))]);
  }

  async function arrived(signature: string, version: number, receipt: FleetReceipt): Promise<void> {
    while (store.open) await store.open;
    failures = 0;
    const { due: _, ...before } = state();
    // The registry has a later one, of a clock that was ahead, or another one of this time: the next report goes beyond that.
    if (receipt.isIgnored) keep({ ...before, told: UNKNOWN, version: receipt.version, due: store.now() });
    else keep({ ...before, told: signature, version });
    // Something has changed: what was stuck may not be so any more.
    const { stuck, look = NEVER } = state();
    if (stuck) keep({ ...state(), look: Math.min(look, store.now() + stuckMs) });
    looks = 0;
    const saved = store.saveHeader();
    void alarm.setWake(delivery.nextWake());
    await saved;
  }

  async function failed(error: unknown): Promise<void> {
    while (store.open) await store.open;
    const delay = Math.min(REPORT_MS * 2 ** Math.min(failures, 16), LONGEST_RETRY_MS);
    const again = store.now() + delay;
    keep({ ...state(), due: again, look: Math.max(state().look ?? NEVER, again) });
    const next = `The next attempt is in ${delay / 1000} s; delivery goes on.`;
    if (failures++ === 0)
      warn("A report to the fleet's registry failed", textOf(error), { object: ctx.id.name ?? ctx.id.toString() }, next);
    // Its version must not be given to another one, should the clock be behind.
    const saved = store.saveHeader();
    void alarm.setWake(delivery.nextWake());
    await saved;
  }

  return {
    kind: "fleet",

    // What it is that the alarm is set for, the header says afterwards: both go by what memory says now.
    dueAt() {
      refresh();
      const { due = NEVER, look = NEVER } = state();
      return Math.min(due, look);
    },

    look() {
      refresh();
      dueAtRest = state().due ?? NEVER;
    },

    started() {
      const before = state();
      // An earlier life was about to report, and may have done so.
      if (before.due !== undefined) keep({ ...before, told: UNKNOWN, version: (before.version ?? 0) + 1 });
      dueAtRest = before.due ?? NEVER;
      refresh();
    },

    keepsRows: () => (state().told ?? "") !== "" || state().due !== undefined,

    async run() {
      while (store.open) await store.open;
      const isDue = (time = NEVER): boolean => time <= alarm.now();
      if (isBusy || !(isDue(state().due) || isDue(state().look))) return;
      isBusy = true;
      try {
        const errors = await prepared();
        if (errors) return await report(errors);
      } catch (error) {
        // What can't be read must not keep the alarm busy.
        await failed(error);
      }
      isBusy = false;
    },
  };
}
