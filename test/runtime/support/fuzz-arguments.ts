/** The argument fuzzer: stories of calls on one object, each held to what was stored before and to what arrives in the end. */
import type { OutboxManager } from "../../../src/index.ts";
import { boxWith } from "./batches.ts";
import { CALLS, type Result, type Target } from "./fuzz-calls.ts";
import { Draw, print } from "./fuzz-draw.ts";
import { again, type Backend, inside, native, type Stub, sent, until } from "./harness.ts";
import { patient, statsOf, waiting } from "./standing.ts";
import { stageOf } from "./worker.ts";

/** Calls on one object, before what it has stored is judged: few, so that looking at all of its rows after each stays cheap. */
export const CASES_PER_STORY = 50;
/** Longer than this nobody waits for a time that may come while the story is told, in milliseconds. */
const SOON_MS = 60_000;

/** What happened in all stories. */
export interface Told {
  cases: number;
  refused: number;
  stored: number;
  aborted: number;
  /** Errors that are neither ours, nor planted, nor storage's: by their text. */
  readonly foreign: Map<string, number>;
}

/** What is known of one object. */
interface Known {
  readonly own: Map<string, string | null>;
  /** Messages that were stored, and the ids of those of which the receipt is known. */
  stored: number;
  readonly ids: Set<string>;
  /** The object has died in the midst of a case: nobody knows what of it was stored. */
  lost: boolean;
}

type Snapshot = ReadonlyMap<string, string>;

/** Tells a story; gives what went wrong, and nothing when all is well. */
export async function argumentStory(backend: Backend, seed: number, told: Told): Promise<string[]> {
  const stub = boxWith(backend, { retry: patient, batchSize: 1000 });
  const draw = new Draw(seed);
  const paused = draw.chance(0.5);
  const known: Known = { own: new Map(), stored: 0, ids: new Set(), lost: false };
  // Nothing is delivered meanwhile: it is paused, and has no alarm, or it backs off, and has one.
  stageOf(stub).rest = () => Promise.reject(new Error("the destination is down"));
  await inside(stub, (_, outbox) => (paused ? outbox.pause() : outbox.send("first").then(() => {})));
  if (!paused) {
    known.stored++;
    await until(stub, async (_, state) => Number(await native(state).getAlarm()) > Date.now() + SOON_MS);
  }
  const wrong: string[] = [];
  const cases = Array.from({ length: CASES_PER_STORY }, () => Math.floor(draw.next() * 2 ** 31));
  while (cases.length > 0 && wrong.length === 0) {
    const [first] = cases;
    await inside(again(stub), (_, outbox, state) => {
      const target = { outbox, storage: state.storage, sqlite: backend.name === "sqlite", meanwhile: [] };
      return run(target, native(state), cases, known, told, wrong);
    }).catch((error) => {
      // The outbox resets its object rather than keep half of a write: what the case has stored before is looked up.
      told.aborted++;
      if (cases[0] === first) wrong.push(`the object does not start: ${error}`);
      console.log(`aborted ${error}`);
      known.lost = true;
    });
  }
  if (wrong.length > 0) return wrong;
  return ending(again(stub), paused, known);
}

/** Runs the cases and takes each from the list as it begins. */
async function run(
  target: Target,
  storage: DurableObjectStorage,
  cases: number[],
  known: Known,
  told: Told,
  wrong: string[],
): Promise<void> {
  let before = await snapshot(storage);
  let standing = await count(target.outbox);
  if (known.lost) {
    known.lost = false;
    known.stored = standing;
    for (const key of known.own.keys()) known.own.set(key, null);
    for (const key of before.keys()) if (isOwn(key)) known.own.set(key.slice(4), null);
  }
  for (let seed = cases.shift(); seed !== undefined; seed = cases.shift()) {
    const draw = new Draw(seed);
    const calls = draw.chance(0.15) ? 2 + draw.below(3) : 1;
    told.cases++;
    target.meanwhile.length = 0;
    const results = await Promise.all(Array.from({ length: calls }, () => one(draw, target)));
    for (const receipt of await Promise.all(target.meanwhile)) results.push({ stored: 1, receipts: [receipt], own: [] });
    const after = await snapshot(storage);
    const standsNow = await count(target.outbox);
    const refused = results.every(({ error }) => error !== undefined);
    if (refused) told.refused++;
    const complaints = refused
      ? [...unchanged(before, after, results.some(isOfStorage)), ...kept(standsNow - standing)]
      : changed(results, after, known, standsNow - standing);
    for (const { error } of results) if (error !== undefined) foreign(error, told);
    told.stored += standsNow - standing;
    if (complaints.length > 0) {
      const errors = results.map(({ error }) => (error === undefined ? "taken" : textOf(error)));
      wrong.push(`case ${seed}: ${draw.drawn.join(" ")}`, ...errors.map((text) => `  ${text}`), ...complaints.map((text) => `  ${text}`));
      return;
    }
    before = after;
    standing = standsNow;
  }
}

/** One call, by chance. Never rejects. */
async function one(draw: Draw, target: Target): Promise<Result> {
  let share = draw.below(100);
  for (const [weight, name, call] of CALLS) {
    share -= weight;
    if (share >= 0) continue;
    draw.drawn.push(`| ${name}`);
    try {
      return await call(draw, target);
    } catch (error) {
      return { stored: 0, receipts: [], own: [], error: error === undefined ? "undefined" : error };
    }
  }
  throw new Error("The shares of the calls are a hundred together.");
}

/** Whether storage has refused, in its own words or with ours around them. A message is refused before storage is asked. */
function isOfStorage({ error }: Result): boolean {
  const text = textOf(error);
  return !text.includes("[do-transactional-outbox]") || ((error as Error).cause !== undefined && !text.includes("Expected `msg"));
}

function kept(more: number): string[] {
  return more === 0 ? [] : [`refused, and ${more} messages more stand`];
}

/** Every row, the outbox's and the object's own, and the alarm, as texts. */
async function snapshot(storage: DurableObjectStorage): Promise<Snapshot> {
  const [rows, alarm] = await Promise.all([storage.list(), storage.getAlarm()]);
  const texts = new Map<string, string>([["alarm", `alarm ${alarm}`]]);
  for (const [key, value] of rows) texts.set(`row ${key}`, typeof value === "string" ? value : print(value));
  return texts;
}

async function count(outbox: OutboxManager): Promise<number> {
  const stats = await outbox.stats();
  return waiting(stats) + stats.dead;
}

function isOwn(key: string): boolean {
  return key.startsWith("row ") && !key.startsWith("row \u{10FFFF}");
}

/**
 * What is refused has changed nothing: no state, no row, no alarm. Where storage refused a value, the messages that stood before may
 * have been moved to a row of their own.
 */
function unchanged(before: Snapshot, after: Snapshot, byStorage: boolean): string[] {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys]
    .filter((key) => before.get(key) !== after.get(key) && !(byStorage && key.startsWith("row \u{10FFFF}outbox/")))
    .map((key) => `refused, and ${JSON.stringify(key.slice(0, 60))} is ${shown(after.get(key))}, and was ${shown(before.get(key))}`);
}

function shown(text = "nothing"): string {
  return text.length > 200 ? `${text.slice(0, 60)}…${text.slice(-140)}` : text;
}

/** What is taken has stored so many messages, and this state. */
function changed(results: readonly Result[], after: Snapshot, known: Known, more: number): string[] {
  const complaints: string[] = [];
  const sure = results.reduce((sum, { stored }) => sum + (stored ?? 0), 0);
  const most = sure + results.filter(({ stored }) => stored === null).length;
  if (more < sure || more > most) complaints.push(`${more} messages more stand, and ${sure} to ${most} were taken`);
  known.stored += more;
  const taken = results.filter(({ error }) => error === undefined);
  for (const { receipts } of taken) for (const { id } of receipts) known.ids.add(id);
  for (const { own, cleared, cancelled } of taken) {
    if (cancelled !== undefined) known.ids.delete(cancelled);
    if (cleared) known.own.clear();
    for (const [key, text] of own) {
      if (text === undefined) known.own.delete(key);
      else known.own.set(key, text);
    }
  }
  const stand = new Map([...after].filter(([key]) => isOwn(key)).map(([key, text]) => [key.slice(4), text]));
  // Which of several calls of one turn was the last to write a key is not for us to say: a transaction comes later than it was called.
  for (const key of contended(taken)) {
    if (stand.has(key)) known.own.set(key, null);
    else known.own.delete(key);
  }
  return [...complaints, ...compared(stand, known.own)];
}

/** Keys that more than one call has written. */
function contended(results: readonly Result[]): Set<string> {
  const once = new Set<string>();
  const twice = new Set<string>();
  const cleared = results.length > 1 && results.some((result) => result.cleared);
  for (const { own } of results) {
    const keys = new Set(own.map(([key]) => key));
    for (const key of keys) (once.has(key) || cleared ? twice : once).add(key);
  }
  return twice;
}

function compared(stand: ReadonlyMap<string, string>, own: ReadonlyMap<string, string | null>): string[] {
  const complaints: string[] = [];
  for (const [key, text] of own) {
    const row = stand.get(key);
    if (text === null) continue;
    if (row === undefined) complaints.push(`${JSON.stringify(key.slice(0, 60))} is not stored`);
    else if (row !== text && print(row) !== text) complaints.push(`${JSON.stringify(key)} is ${shown(row)}, not ${shown(text)}`);
  }
  for (const key of stand.keys()) if (!own.has(key)) complaints.push(`${JSON.stringify(key.slice(0, 60))} was never written`);
  return complaints;
}

/** Whose error it is: programmers are to be told in our words, or in the platform's where that refuses a value. */
function foreign(error: unknown, told: Told): void {
  const text = textOf(error).slice(0, 110);
  if (!/^refused: (Type|Range)Error/.test(text) || text.includes("[do-transactional-outbox]")) return;
  told.foreign.set(text, (told.foreign.get(text) ?? 0) + 1);
}

function textOf(error: unknown): string {
  try {
    return `refused: ${error}`;
  } catch {
    return "refused";
  }
}

/** The destination takes everything from now on: what was stored arrives or is dead, once each, and nothing else does. */
async function ending(stub: Stub, paused: boolean, known: Known): Promise<string[]> {
  const stage = stageOf(stub);
  stage.calls.length = 0;
  stage.rest = () => {};
  await inside(stub, (_, outbox) => (paused ? outbox.resume() : undefined));
  const later = async (): Promise<{ later: number; due: number; dead: number; ids: string[] }> =>
    inside(stub, async (_, outbox) => {
      await outbox.flush();
      const delayed = await outbox.list({ state: "delayed", limit: 1000 });
      const dead = await outbox.list({ state: "dead", limit: 1000 });
      const stats = await outbox.stats();
      const far = delayed.filter(({ deliverAt = 0 }) => deliverAt > Date.now() + SOON_MS);
      // What stands behind one that is far away is far away as well.
      const behind = delayed.filter(({ key, deliverAt }) => deliverAt === undefined && far.some((other) => other.key === key));
      const ids = [...delayed, ...dead].map(({ id }) => id);
      return { later: far.length + behind.length, due: waiting(stats) - far.length - behind.length, dead: dead.length, ids };
    });
  let end = await later();
  for (let looks = 0; end.due > 0 && looks < 200; looks++) {
    await scheduler.wait(20);
    end = await later();
  }
  const arrived = sent(stub).map(({ id }) => id);
  const complaints: string[] = [];
  if (end.due > 0) complaints.push(`${end.due} messages still wait, ${JSON.stringify(await statsOf(stub))}`);
  if (new Set(arrived).size < arrived.length) complaints.push("a message was sent twice");
  const all = arrived.length + end.later + end.dead;
  if (all !== known.stored)
    complaints.push(`${known.stored} messages were stored; ${arrived.length} arrived, ${end.later} wait, ${end.dead} are dead`);
  const found = new Set([...arrived, ...end.ids]);
  for (const id of known.ids) if (!found.has(id)) complaints.push(`${id} is lost`);
  return complaints;
}
