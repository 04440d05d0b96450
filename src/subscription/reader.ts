/** A reader of the log: how far it has come, what it has set aside in rows of its own, what it has in hand, and how its destination is doing. */

import { typeOf } from "../api/events.js";
import { type LetterLimits, NO_LIMITS } from "../api/letter-limits.js";
import { NEVER, type Row } from "../storage/memory.js";
import { readerPrefix } from "../storage/rows.js";
import { type Breaker, CLOSED } from "./breaker.js";
import { type Cursor, cursorAt } from "./cursor.js";

/** All that is known of one reader without reading. It goes back as a whole when a transaction rolls back: what it holds is replaced, never changed. */
export interface Reader {
  /** The name of its destination. */
  name: string;
  /** Which rows are its own: see `readerPrefix`. */
  readonly slot: number;
  /** What the keys of its rows begin with. */
  readonly prefix: string;
  /** Fields that the header has of it and this deployment does not know: see `Memory`. */
  unknown: string;
  /** The class does not have the destination any more, or does not have it yet again: nothing is delivered, and nothing is lost. */
  isMissing: boolean;
  /** Its consumers ask for messages: no alarm is set for it, and nothing is handed over by itself. */
  isPulled: boolean;
  /** It was dropped, and its dead letters were kept: it takes no message until the class has it again. */
  isDropped: boolean;
  /** The values of `msg.type` that it takes: `null` is every message. */
  types: ReadonlySet<string> | null;

  /** Which types it took when its messages were counted: see `register`. */
  typesHash: number;
  /** A message that it has not got so long after it could first be handed over is its dead letter, in milliseconds. */
  expiresMs: number;

  /** How far it has come in the log. */
  cursor: Cursor;
  /** The first segment that may hold something for it, as far as is known; 0 where nothing is. */
  segment: number;
  /** Messages of the log that it has yet to deliver. May be too many after rows that can't be read and changes of `types`; never too few. */
  queuedCount: number;
  /** Those of them that have a time. */
  timedCount: number;
  /** The earliest time of a message in the queue, or an earlier time: 0 is at once. */
  queueDueAt: number;

  /** Messages that wait for a time, each in a row of its own. */
  delayedCount: number;
  /** Those of them whose time is 0, because they were redriven. */
  redrivenCount: number;
  /** Messages in lanes. */
  blockedCount: number;
  /** Messages in rows of their own and in lanes that wait for a time of their own, before which nothing has tried them. */
  scheduledCount: number;
  /** How many of those keys wait for a dead letter, which nothing but an operator, or a limit of dead letters, ends. */
  heldKeys: number;
  /** Whether later messages with the ordering key of a dead letter wait for it. */
  holdsKeys: boolean;
  /** Dead letters. */
  deadCount: number;
  /** When the first of them became one, or an earlier time. */
  oldestDeadAt: number;
  /** How many of them their limits have deleted. */
  deletedCount: number;
  /** When they are deleted although nobody has discarded them. */
  letterLimits: LetterLimits;
  /** When the first of those that are set aside could first be handed over, or an earlier time. */
  oldestDelayedAt: number;
  /** The earliest time of a message that is set aside, or an earlier time. */
  delayedDueAt: number;
  /** Ordering keys of which messages wait. Replaced, never changed. */
  lanes: ReadonlyMap<string, LaneState>;

  /**
   * The rows outside the log from which the batch in flight was read, as they are stored now: code that rewrites a row replaces it here.
   * Replaced, never changed.
   */
  held: ReadonlyMap<string, Row>;
  /** Messages of those rows that were cancelled since the batch was read, by position. Replaced, never changed. */
  cancelled: ReadonlySet<number>;

  /** How its destination is doing. */
  breaker: Breaker;
  /** Why its last call failed: it counts only while the breaker is open. */
  lastError: string;
  /** The position of the message for which `deadMessage` is being called, and how often it has been, where an earlier run has died. */
  dying: readonly [position: number, calls: number] | null;
  /** `pause()` holds its deliveries back. */
  paused: boolean;

  /** The stored header says how many messages are in the queue, so it must be written whenever that number changes. */
  countAtRest: boolean;
  /** Ranges of the cursor are in a row of their own. */
  acksAtRest: boolean;
}

/** An ordering key of which messages wait. */
export interface LaneState {
  /** When it goes on: `NEVER` while it is held. */
  readonly due: number;
  /** How many dead letters hold it. */
  readonly held?: number;
  /** A dead letter was redriven into it while earlier messages of its key may still have been in the queue, which must be searched first. */
  readonly hasRedriven?: boolean;
}

const NO_ROWS: ReadonlyMap<string, Row> = new Map();
const NO_POSITIONS: ReadonlySet<number> = new Set();

/** A reader that has delivered nothing. */
export function newReader(name: string, slot: number): Reader {
  return {
    name,
    slot,
    prefix: readerPrefix(slot),
    unknown: "",
    isMissing: false,
    isPulled: false,
    isDropped: false,
    types: null,
    typesHash: 0,
    expiresMs: NEVER,
    cursor: cursorAt(0),
    segment: 0,
    queuedCount: 0,
    timedCount: 0,
    queueDueAt: NEVER,
    delayedCount: 0,
    redrivenCount: 0,
    blockedCount: 0,
    scheduledCount: 0,
    heldKeys: 0,
    holdsKeys: false,
    deadCount: 0,
    oldestDeadAt: 0,
    deletedCount: 0,
    letterLimits: NO_LIMITS,
    oldestDelayedAt: 0,
    delayedDueAt: NEVER,
    lanes: new Map(),
    held: NO_ROWS,
    cancelled: NO_POSITIONS,
    breaker: CLOSED,
    lastError: "",
    dying: null,
    paused: false,
    countAtRest: false,
    acksAtRest: false,
  };
}

/** Whether it takes a message. */
export function takes({ types }: Reader, msg: unknown): boolean {
  return types === null || types.has(typeOf(msg) ?? "");
}

/** Messages that it has yet to deliver: dead letters are none of them. */
export function undelivered({ queuedCount, delayedCount, blockedCount }: Reader): number {
  return queuedCount + delayedCount + blockedCount;
}

/** Whether any of them may be delivered. */
export function waits(reader: Reader): boolean {
  const { paused, isMissing, isPulled, queuedCount, delayedCount, blockedCount, lanes, heldKeys } = reader;
  return !paused && !isMissing && !isPulled && (queuedCount + delayedCount > 0 || (blockedCount > 0 && lanes.size > heldKeys));
}

/** The earliest time at which there may be something to do, as far as its messages go; `NEVER` when nothing waits. */
export function dueAt(reader: Reader): number {
  return waits(reader) ? Math.min(reader.queuedCount ? reader.queueDueAt : NEVER, reader.delayedDueAt) : NEVER;
}

/** A message has become a dead letter. */
export function addLetter(reader: Reader, at: number): void {
  reader.oldestDeadAt = reader.deadCount > 0 ? Math.min(reader.oldestDeadAt, at) : at;
  reader.deadCount++;
}

/** Dead letters have been redriven or deleted. */
export function removeLetters(reader: Reader, count: number): void {
  reader.deadCount = Math.max(0, reader.deadCount - count);
  if (reader.deadCount === 0) reader.oldestDeadAt = 0;
}

/** Dead letters that expire within this share of their time are deleted together, so that the alarm is set rarely. */
const STEPS_OF_EXPIRY = 16;
/** And those that expire within the same second, in milliseconds. */
const LEAST_STEP_MS = 1000;

/** When dead letters are to be deleted; `NEVER` where none is. */
export function lettersDueAt({ deadCount, oldestDeadAt, letterLimits: { expiresMs, max } }: Reader): number {
  if (deadCount > max) return 0;
  if (deadCount === 0 || expiresMs === NEVER) return NEVER;
  const step = Math.max(LEAST_STEP_MS, expiresMs / STEPS_OF_EXPIRY);
  return Math.ceil(Math.ceil((oldestDeadAt + expiresMs) / step) * step);
}

/** What was looked at in vain, or may have changed, is looked at again. Too early costs a look, too late a message. */
export function lookAgain(reader: Reader): void {
  reader.queueDueAt = reader.delayedDueAt = 0;
}

/** An earlier life died of something else than what this reader's run had in hand. */
export function absolve(reader: Reader): void {
  reader.breaker = { ...reader.breaker, lease: false, alone: 0 };
}

/** An earlier life may have died of what this reader's run had in hand. */
export function suspect(reader: Reader): void {
  reader.breaker = { ...reader.breaker, lease: true };
}

/** Forgets the batch in flight: it is settled, or another one is read. */
export function releaseBatch(reader: Reader): void {
  reader.held = NO_ROWS;
  reader.cancelled = NO_POSITIONS;
}

/** Remembers rows as they are stored now. */
export function holdRows(reader: Reader, rows: readonly Row[]): void {
  if (rows.length > 0) reader.held = new Map([...reader.held, ...rows.map((row) => [row.key, row] as const)]);
}

/** Returns what puts the reader back as it is now. */
export function snapshotOf(reader: Reader): () => void {
  const before = { ...reader };
  return () => void Object.assign(reader, before);
}
