/**
 * The demo: books tables while the runtime is killed again and again, and then counts what arrived.
 *
 *     npm run demo -- --bookings 400 --kills 6 --seed 1
 *
 * The truth of what was booked is what the tables have stored when it is over: an answer may have died with the
 * runtime after its booking was committed, or before. Each stored booking must have been delivered (else it is lost),
 * and nothing else may have been (else it is a ghost). The exit code is 0 only if there is neither, and everything that
 * was confirmed is stored.
 */

import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Receiver } from "./demo/receiver.ts";
import { Runtime } from "./demo/runtime.ts";
import { type Reservation, SLOTS } from "./reservation.ts";

/** Bookings that are under way at the same time. */
const CONCURRENCY = 8;
/** A kill comes up to this long after the answer that it waited for. */
const KILL_WITHIN_MS = 20;
const DELIVERED_WITHIN_MS = 60_000;
const START_MS = 60_000;

/** What one booking is known by in this demo: each asks for a table and a slot that no other asks for. */
type Place = string;

interface Report {
  readonly committed: { readonly table: number; readonly reservation: Reservation }[];
  readonly pending: number;
}

interface Options {
  readonly bookings: number;
  readonly kills: number;
  readonly seed: number;
}

/** What is known of the bookings from outside. */
const run = {
  asked: new Set<Place>(),
  confirmed: new Set<Place>(),
  /** Their message had not arrived at some kill: without an outbox, nobody would have been told of them. */
  caught: new Set<Place>(),
};

const stop = new AbortController();
const options = parseOptions();
// Everything below waits on this signal, so the demo ends in bounded time whatever happens.
const signal = AbortSignal.any([
  stop.signal,
  AbortSignal.timeout(START_MS + DELIVERED_WITHIN_MS + options.kills * 5_000 + options.bookings * 50),
]);
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort(new Error(`Stopped by ${name}.`)));

const random = mulberry32(options.seed);
// With numbers of its own, so that the kills of a seed do not depend on what arrives when.
const receiver = new Receiver(mulberry32(options.seed + 1));
const runtime = new Runtime();
try {
  process.exitCode = await main(options);
} catch (error) {
  console.error(runtime.log, signal.aborted ? String(signal.reason) : error);
  process.exitCode = 1;
} finally {
  await runtime.stop();
  receiver.stop();
}

async function main({ bookings, kills, seed }: Options): Promise<number> {
  console.log(`${bookings} bookings, ${kills} kills, seed ${seed}. Starting the restaurant…`);
  await runtime.start(Math.ceil(bookings / SLOTS.length), await receiver.listen(), signal);
  let waiting = Array.from({ length: bookings }, (_, index) => place(Math.floor(index / SLOTS.length) + 1, slotOf(index)));
  for (let left = kills; left > 0; left--) {
    const share = Math.ceil(waiting.length / (left + 1));
    const unreached = await bookAndKill(waiting.slice(0, share));
    waiting = [...unreached, ...waiting.slice(share)];
    await runtime.ready(signal);
    progress(`kill ${kills - left + 1} of ${kills}: ${run.asked.size} bookings asked for, ${receiver.arrivals.size} messages arrived`);
  }
  const unreached = await bookAll(waiting, () => {});
  if (unreached.length > 0) throw new Error(`${unreached.length} bookings did not reach the restaurant, and nobody had killed it.`);
  return summary(await untilDelivered());
}

/** Kills the runtime soon after the answer that the seed has chosen: among the bookings, or behind the last of them. */
async function bookAndKill(places: readonly Place[]): Promise<Place[]> {
  const killAfter = Math.ceil(random() * places.length);
  const killDelay = random() * KILL_WITHIN_MS;
  let answers = 0;
  let strike = (): void => {};
  const struck = new Promise<void>((resolve) => {
    strike = resolve;
  });
  const kill = async (): Promise<void> => {
    await struck;
    await pause(killDelay, undefined, { signal });
    runtime.kill();
    receiver.hangUp();
    const arrived = deliveredPlaces();
    for (const booked of run.asked) if (!arrived.has(booked)) run.caught.add(booked);
  };
  const booking = bookAll(places, () => {
    if (++answers >= killAfter) strike();
  }).finally(strike);
  const [unreached] = await Promise.all([booking, kill()]);
  return unreached;
}

/** Books with several requests at a time. Returns those that reached nobody because the runtime was already dead. */
async function bookAll(places: readonly Place[], onAnswer: () => void): Promise<Place[]> {
  const queue = [...places];
  const unreached: Place[] = [];
  const next = async (): Promise<void> => {
    for (let wanted = queue.shift(); wanted !== undefined; wanted = queue.shift()) {
      run.asked.add(wanted);
      const outcome = await book(wanted);
      if (outcome === "confirmed") {
        run.confirmed.add(wanted);
        onAnswer();
      } else if (outcome === "unreached") {
        run.asked.delete(wanted);
        run.caught.delete(wanted);
        unreached.push(wanted);
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, next));
  return unreached;
}

/** `unknown` is a request that had no answer: its booking may have been committed, or not. */
async function book(wanted: Place): Promise<"confirmed" | "unknown" | "unreached"> {
  const [table, slot] = wanted.split(" at ");
  let response: Response;
  try {
    const body = JSON.stringify({ slot, guest: "Ada", seats: 2 });
    response = await runtime.fetch(`/tables/${table}/book`, { method: "POST", body, signal });
  } catch (error) {
    signal.throwIfAborted();
    const { cause } = error as { cause?: { code?: string } };
    return cause?.code === "ECONNREFUSED" ? "unreached" : "unknown";
  }
  if (response.status !== 201) throw new Error(`Booking table ${wanted}: ${response.status} ${await response.text()}`);
  return "confirmed";
}

/** Waits until no table has a pending message, or gives up: then what has not arrived counts as lost. */
async function untilDelivered(): Promise<Report> {
  const end = Date.now() + DELIVERED_WITHIN_MS;
  for (;;) {
    const report = (await (await runtime.fetch("/report", { signal })).json()) as Report;
    if (report.pending === 0 || Date.now() > end) return report;
    progress(`${report.pending} messages pending`);
    await pause(100, undefined, { signal });
  }
}

/** Compares what is stored with what arrived, prints the table and returns the exit code. */
function summary({ committed }: Report): number {
  const { asked, confirmed, caught } = run;
  const arrivals = [...receiver.arrivals.values()];
  const delivered = new Set(arrivals.map(({ event }) => event.reservation.id));
  const told = committed.filter(({ reservation }) => delivered.has(reservation.id));
  const stored = new Set(committed.map(({ table, reservation }) => place(table, reservation.slot)));
  const rescued = told.filter(({ table, reservation }) => caught.has(place(table, reservation.slot))).length;
  const duplicates = arrivals.reduce((sum, { copies }) => sum + copies - 1, 0);
  const forgotten = [...confirmed].filter((booked) => !stored.has(booked)).length;
  const lost = committed.length - told.length;
  // One message tells of one stored reservation. Whatever else arrived is a ghost: a second id for the same one, too.
  const ghosts = arrivals.length - told.length;
  const rows: [string, number, string][] = [
    ["kills", runtime.kills, "SIGKILL of workerd"],
    ["asked", asked.size, `${confirmed.size} were confirmed, ${asked.size - confirmed.size} had no answer`],
    ["committed", committed.length, "found in the tables' storage"],
    ["delivered", arrivals.length, "messages, each counted once"],
    ["rescued", rescued, "committed before a kill, delivered after it"],
    ["duplicates", duplicates, "extra copies, known by their id"],
    ["forgotten", forgotten, "confirmed, but not stored"],
    ["lost", lost, "committed, but not delivered"],
    ["ghosts", ghosts, "delivered, but not committed"],
  ];
  progress("");
  for (const [name, count, meaning] of rows) console.log(`${name.padEnd(10)} ${String(count).padStart(6)}   ${meaning}`);
  return lost + ghosts + forgotten === 0 ? 0 : 1;
}

function deliveredPlaces(): Set<Place> {
  return new Set([...receiver.arrivals.values()].map(({ event }) => place(event.table, event.reservation.slot)));
}

function place(table: number, slot: string): Place {
  return `${table} at ${slot}`;
}

function slotOf(index: number): string {
  return SLOTS[index % SLOTS.length] ?? "";
}

/** One line that is rewritten on a terminal; a line each where the output is kept. */
function progress(text: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[2K${text}`);
  else if (text !== "") console.log(text);
}

/** The seed fixes when the kills are wanted. What the operating system makes of it differs from run to run. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function parseOptions(): Options {
  const option = { type: "string" } as const;
  try {
    const { values } = parseArgs({ options: { bookings: option, kills: option, seed: option } });
    const integer = (name: keyof Options, fallback: number, min: number, max: number): number => {
      const text = values[name] ?? String(fallback);
      const value = /^\d{1,10}$/.test(text) ? Number(text) : -1;
      if (value < min || value > max) throw new RangeError(`--${name} must be an integer from ${min} to ${max}.`);
      return value;
    };
    return {
      bookings: integer("bookings", 400, 1, 8000),
      kills: integer("kills", 6, 0, 100),
      seed: integer("seed", Math.floor(Math.random() * 1e6), 0, 2 ** 32 - 1),
    };
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(2);
  }
}
