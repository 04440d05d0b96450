/** What a stranger finds on the disk: the outbox's rows read by their layout alone, and what must hold of them at every commit. */

import { identify, readMessage, type StoredMessage, type Stream } from "../../src/storage/message.ts";
import { decode, HEADER, type HeaderRow, keyNumber, OUTBOX, RESERVED, type SegmentRow } from "../../src/storage/rows.ts";
import { ack, type Cursor, cursorAt, isAcked } from "../../src/subscription/cursor.ts";
import type { Disk } from "./layers.ts";

/** A message on the disk. */
export interface Found {
  readonly label: number;
  readonly id: string;
  readonly position: number;
  readonly row: string;
  readonly kind: "h" | "s" | "t" | "k" | "d";
  readonly due: number;
  /** From then on it is a dead letter, as soon as it is looked at. */
  readonly expires: number;
  readonly key: string | undefined;
  /** Of a dead letter: later ones with its key wait for it. */
  readonly holds: boolean;
  /** When it became a dead letter, if it is one. */
  readonly died: number;
}

export interface Durable {
  readonly header: Partial<HeaderRow>;
  /** How far delivery has come in the log, as the next start finds it. */
  readonly cursor: Cursor;
  readonly pending: readonly Found[];
  readonly dead: readonly Found[];
  /** Rows that hold no message: what is known of ids and of lanes. */
  readonly others: readonly string[];
  readonly rows: number;
}

/** Rows of the original package, 0.1.0, which the first start takes over. */
const ORIGINAL = /^(__outgoing_msg::|\$\$_tasks)/;

export function readDisk(disk: Disk): Durable {
  return readRows(disk.rows);
}

export function readRows(all: ReadonlyMap<string, unknown>): Durable {
  let header: Partial<HeaderRow> = {};
  const found: Found[] = [];
  const others: string[] = [];
  let rows = 0;
  for (const [row, value] of all) {
    if (!row.startsWith(RESERVED)) continue;
    rows++;
    const kind = row.startsWith(OUTBOX) ? row[OUTBOX.length] : undefined;
    if (!(kind === "h" || kind === "s" || kind === "t" || kind === "k" || kind === "d")) {
      others.push(row);
      continue;
    }
    const data = decode<SegmentRow>(value);
    if (row === HEADER) header = data as HeaderRow;
    for (const stored of data.messages) found.push(read(data, stored, row, kind));
  }
  found.sort((a, b) => a.position - b.position);
  const cursor = cursorOf(header, found);
  const isWaiting = ({ kind, position }: Found): boolean => kind !== "d" && !((kind === "h" || kind === "s") && isAcked(cursor, position));
  return {
    header,
    cursor,
    pending: found.filter(isWaiting),
    dead: found.filter(({ kind }) => kind === "d"),
    others,
    rows,
  };
}

/** The header's cursor, or what the first message in the log says. */
function cursorOf({ cursor = [0], position = 0 }: Partial<HeaderRow>, found: readonly Found[]): Cursor {
  const [floor, ...ranges] = cursor;
  const first = found.find(({ kind }) => kind === "h" || kind === "s");
  const start = cursorAt(Math.max(floor, first ? first.position - 1 : position));
  return ranges.reduce((cursor, [first, last]) => ack(cursor, first, last), start);
}

function read(stream: Stream, stored: StoredMessage, row: string, kind: Found["kind"]): Found {
  const { position, msg, more } = readMessage(stream, stored);
  return {
    label: (msg as { n: number }).n,
    id: identify(stream, position, more.id).id,
    position,
    row,
    kind,
    due: kind === "t" ? keyNumber(OUTBOX, row) : (more.due ?? 0),
    expires: more.expires ?? Number.POSITIVE_INFINITY,
    key: more.key,
    holds: more.holds === true,
    died: more.last ?? 0,
  };
}

/** The label of each own key, so that the rest must be the outbox's. */
export function ownKeys(disk: Disk): string[] {
  return [...disk.rows.keys()].filter((key) => !key.startsWith(RESERVED) && !ORIGINAL.test(key));
}

/** What is wrong with the rows themselves: a message in two places, a count that does not count. */
export function misplaced({ header, cursor, pending, dead }: Durable): string[] {
  const wrong: string[] = [];
  const places = new Map<number, string>();
  for (const { label, position, row } of [...pending, ...dead]) {
    const other = places.get(position);
    if (other !== undefined) wrong.push(`${label} stands in two places: ${shown(other)} and ${shown(row)}`);
    places.set(position, row);
  }
  const count = (kind: string): number => pending.filter((message) => message.kind === kind).length;
  const counts = { aside: count("t"), laned: count("k"), dead: dead.length, main: count("h") + count("s") };
  for (const [name, actual] of Object.entries(counts)) {
    const said = header[name as keyof typeof counts] ?? (name === "main" ? (header.position ?? 0) - cursor.ackFloor : 0);
    if (said !== actual) wrong.push(`the header counts ${said} as ${name}, and ${actual} stand there`);
  }
  return wrong;
}

/** What is to be deleted of dead letters without anybody asking, as the class says. */
export interface LetterLimits {
  readonly expiresInSeconds?: number;
  readonly max?: number;
}

/** When the outbox must be woken for what is on the disk: infinity when nothing is to be done. */
export function wakeFor(durable: Durable, now: number, limits: LetterLimits = {}): number {
  return Math.min(wakeForMessages(durable, now), wakeForLetters(durable, limits));
}

/** When the first of too many dead letters is to be deleted, or the first that expires: with those that follow within a sixteenth of that time. */
function wakeForLetters({ dead }: Durable, { expiresInSeconds, max }: LetterLimits): number {
  if (max !== undefined && dead.length > max) return 0;
  if (expiresInSeconds === undefined || dead.length === 0) return Number.POSITIVE_INFINITY;
  return Math.min(...dead.map(({ died }) => died)) + expiresInSeconds * 1000 + Math.max(1000, (expiresInSeconds * 1000) / 16);
}

function wakeForMessages({ header, pending, dead }: Durable, now: number): number {
  if (header.paused || pending.length === 0) return Number.POSITIVE_INFINITY;
  const lanes = new Set<string>();
  let due = Number.POSITIVE_INFINITY;
  const held = new Set(dead.filter(({ holds }) => holds).map(({ key }) => key));
  for (const message of pending) {
    const { key, expires } = message;
    // Nothing but an operator wakes what waits for a dead letter.
    if (key !== undefined && held.has(key)) continue;
    // Behind one with the same key a message waits for that one. One that has expired is looked at when it would be handed over.
    if (expires > now && (key === undefined || !lanes.has(key))) due = Math.min(due, message.due);
    if (key !== undefined) lanes.add(key);
  }
  return Math.max(due, header.trouble?.retryAt ?? 0);
}

function shown(row: string): string {
  return row.slice(RESERVED.length);
}
