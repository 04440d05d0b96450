/**
 * The demo: two guests ask for each slot at the same time, while the runtime is killed again and again. Then their bookings are counted.
 *
 *     npm run demo -- --bookings 400 --kills 6 --seed 1
 *
 * Each booking must end confirmed or refused (otherwise it is lost), and exactly one of those for a slot must be confirmed. The verdict is based on what the
 * bookings and the tables have stored at the end. The last line is PASS or FAIL, and the exit code is 0 only if nothing is wrong.
 */

import { setTimeout as pause } from "node:timers/promises";
import { Guests, RIVALS, wish } from "./demo/guests.ts";
import { mulberry32, type Options, parseOptions } from "./demo/options.ts";
import { Runtime } from "./demo/runtime.ts";
import type { Report, Wish } from "./states.ts";
import { judge, placeOf } from "./verdict.ts";

const ENDED_WITHIN_MS = 60_000;
const START_MS = 60_000;

const stop = new AbortController();
const options = parseOptions();
// Everything below waits on this signal, so the demo ends in bounded time whatever happens.
const signal = AbortSignal.any([
  stop.signal,
  AbortSignal.timeout(START_MS + ENDED_WITHIN_MS + options.kills * 10_000 + options.bookings * 100),
]);
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort(new Error(`Stopped by ${name}.`)));

const runtime = new Runtime();
const guests = new Guests(runtime, signal);
/** When the first request was made. */
let begunAt = 0;
try {
  process.exitCode = await main(options);
} catch (error) {
  const reason = signal.aborted ? String(signal.reason) : error;
  console.error(runtime.log, reason);
  console.log(`FAIL: the demo did not finish: ${reason instanceof Error ? reason.message : reason}`);
  process.exitCode = 1;
} finally {
  await runtime.stop();
}

async function main({ bookings, kills, seed }: Options): Promise<number> {
  console.log(`${bookings} bookings, ${kills} kills, seed ${seed}. Starting the restaurant…`);
  const wishes = Array.from({ length: bookings }, (_, index) => wish(index));
  await runtime.start(wishes.at(-1)?.table ?? 1, signal);
  begunAt = Date.now();
  const ticking = setInterval(() => progress(asked(bookings)), process.stdout.isTTY ? 500 : 5000);
  const killing = guests.killAgainAndAgain(kills, bookings, mulberry32(seed), (nth) =>
    progress(`kill ${nth} of ${kills}: ${asked(bookings)}`),
  );
  await Promise.all([guests.bookAll(wishes), killing]).finally(() => clearInterval(ticking));
  return summary(wishes, await whenAllHaveEnded(wishes));
}

/** How far the demo is, and how long it will take at the current rate. */
function asked(bookings: number): string {
  const seconds = (((Date.now() - begunAt) / 1000) * (bookings - guests.answers)) / guests.answers;
  const left = Number.isFinite(seconds) ? `, about ${Math.ceil(seconds)} s left` : "";
  return `${guests.answers} of ${bookings} bookings requested${left}`;
}

/** Waits until every booking has ended and no message is waiting, or gives up: then unfinished bookings count as lost. */
async function whenAllHaveEnded(wishes: readonly Wish[]): Promise<Report> {
  const end = Date.now() + ENDED_WITHIN_MS;
  for (;;) {
    const report = (await (await runtime.fetch("/report", { signal })).json()) as Report;
    const { count, waiting } = judge(report);
    const left = wishes.length - report.bookings.length + count.initiated;
    if ((left === 0 && waiting === 0) || Date.now() > end) return report;
    const seconds = Math.ceil((end - Date.now()) / 1000);
    progress(`bookings under way: ${left}, messages waiting: ${waiting}, at most ${seconds} s left`);
    await pause(200, undefined, { signal });
  }
}

/** Prints the results and returns the exit code. */
function summary(wishes: readonly Wish[], report: Report): number {
  const { count, waiting, dead, doubleBooked, atOdds, projectionErrors } = judge(report);
  const ended = new Map(report.bookings.filter(({ state }) => state !== "initiated").map((booking) => [booking.bookingId, booking]));
  const lost = wishes.filter(({ bookingId }) => !ended.has(bookingId)).length;
  const sold = new Set(report.bookings.filter(({ state }) => state === "confirmed").map(placeOf));
  const unsold = new Set(wishes.map(placeOf).filter((place) => !sold.has(place))).size;
  const undelivered = waiting + dead;
  const rows: [string, number, string][] = [
    ["kills", runtime.kills, "SIGKILL of workerd"],
    ["bookings", wishes.length, `requested, ${RIVALS} for each slot`],
    ["confirmed", count.confirmed, "the slot is locked for them"],
    ["refused", count.refused, "the slot was taken"],
    ["duplicates", runtime.duplicates, "messages that arrived again, recognised by an inbox"],
    ["double-booked", doubleBooked.length, "slots for which two bookings are confirmed: must be 0"],
    ["unsold", unsold, "slots that were requested, but not confirmed for anyone: must be 0"],
    ["lost", lost, "bookings that never ended: must be 0"],
    ["in conflict", atOdds.length, "bookings and tables that disagree: must be 0"],
    ["projections", projectionErrors.length, "catalogue, calendar and statistics that are not what the tables say: must be 0"],
    ["undelivered", undelivered, "messages that never arrived: must be 0"],
  ];
  progress("");
  for (const [name, count, meaning] of rows) console.log(`${name.padEnd(13)} ${String(count).padStart(6)}   ${meaning}`);
  for (const odd of [...doubleBooked, ...atOdds, ...projectionErrors].slice(0, 10)) console.log(odd);
  const wrong = rows.filter(([, count, meaning]) => count > 0 && meaning.endsWith("must be 0")).map(([name, count]) => `${name}: ${count}`);
  console.log(wrong.length === 0 ? `PASS: nothing is lost or doubled. Kills: ${runtime.kills}.` : `FAIL: ${wrong.join(", ")}`);
  return wrong.length === 0 ? 0 : 1;
}

/** One line that is rewritten on a terminal; separate lines if the output goes to a file. */
function progress(text: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[2K${text}`);
  else if (text !== "") console.log(text);
}
