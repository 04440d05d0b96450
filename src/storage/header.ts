/** The header: which fields it has, under which names, and the text of it that every put writes. A new field is one line of a table. */

import { type OwnAlarm, retryOf } from "../alarm/retries.js";
import { OutboxError } from "../api/errors.js";
import { DEFAULT_DESTINATION } from "../api/events.js";
import { CLOSED } from "../subscription/breaker.js";
import { MAX_RANGES } from "../subscription/cursor.js";
import type { Reader } from "../subscription/reader.js";
import { encoded } from "./lines.js";
import { type Memory, NEVER, NO_EXTENSIONS } from "./memory.js";
import { narrowed } from "./message.js";
import { type HeaderRow, type NamedReaderRow, NO_IDS } from "./rows.js";

/**
 * The form of the header. A deployment that meets a higher one writes nothing: it does not know what it would destroy. Fields that it does
 * not know, under a form that it knows, it keeps as they are. So a new field that older code may ignore needs no new number.
 */
export const FORMAT = 1;

/** So much of errors a header has, in UTF-16 units, of which each may take six bytes. */
const ERROR_LENGTH = 200;

/** What fields depend on beside what they are of. */
interface Context {
  /** Whether the outbox wants to be woken. */
  readonly waits: boolean;
  /** Whether an extension does. */
  readonly hasChore: boolean;
  /** The last position given out. */
  readonly position: number;
  /** So much of the last error of each destination is kept, in UTF-16 units: all of them together must leave room for the largest message. */
  readonly errorLength: number;
  /** What a start takes for the floor of a cursor when the header does not say more. */
  readonly start: number;
}

/** A field that the header has only while it is not at its default. */
interface Field<State> {
  /** Its name at rest. It never changes, whatever the name in memory. */
  readonly name: string;
  /** Its name in memory, into which a start copies it. Of fields without one `load.ts` makes something else. */
  readonly memory?: keyof State;
  /** Its value at rest; `undefined` leaves it out, and the next start has the default. */
  readonly save: (state: State, context: Context) => unknown;
}

/** The fields of the object. */
export const FIELDS: readonly Field<Memory>[] = [
  { name: "own", memory: "ownAlarm", save: ownAtRest },
  { name: "chore", memory: "chore", save: ({ chore }) => (chore < NEVER ? chore : undefined) },
  { name: "ext", memory: "extensions", save: ({ extensions }) => (extensions === NO_EXTENSIONS ? undefined : extensions) },
  { name: "firing", memory: "outboxAlarmAtRest", save: ({ outboxAlarmAtRest }) => outboxAlarmAtRest || undefined },
  { name: "adopting", memory: "adopting", save: ({ adopting }) => adopting || undefined },
  { name: "foreign", memory: "foreign", save: ({ foreign }) => foreign || undefined },
  { name: "slots", memory: "slots", save: ({ slots }) => slots || undefined },
  { name: "bytes", memory: "logBytes", save: ({ logBytes }) => logBytes || undefined },
  { name: "trimmed", memory: "trimmedTo", save: ({ trimmedTo }) => trimmedTo || undefined },
  { name: "holes", memory: "holes", save: ({ holes }) => (holes.length > 0 ? holes : undefined) },
];

/** The fields of a reader. Those of `sendMessages` are beside the object's. */
export const READER_FIELDS: readonly Field<Reader>[] = [
  { name: "trouble", memory: "breaker", save: ({ breaker }) => (breaker === CLOSED ? undefined : breaker) },
  {
    name: "error",
    memory: "lastError",
    save: ({ breaker, lastError }, { errorLength }) => (breaker.failures > 0 && lastError.slice(0, errorLength)) || undefined,
  },
  { name: "dying", memory: "dying", save: ({ dying }) => dying ?? undefined },
  { name: "main", save: (reader, { position }) => (hasGaps(reader, position) ? reader.queuedCount : undefined) },
  {
    name: "cursor",
    save: ({ cursor: { ackFloor, acked } }, { start }) =>
      ackFloor > start || acked.length > 0 ? [ackFloor, ...acked.slice(0, MAX_RANGES)] : undefined,
  },
  { name: "types", memory: "typesHash", save: ({ typesHash }) => typesHash || undefined },
  { name: "dropped", memory: "isDropped", save: ({ isDropped }) => isDropped || undefined },
  { name: "acks", save: ({ cursor }) => cursor.acked.length > MAX_RANGES || undefined },
  { name: "paused", memory: "paused", save: ({ paused }) => paused || undefined },
  { name: "aside", memory: "delayedCount", save: ({ delayedCount }) => delayedCount || undefined },
  { name: "ready", memory: "redrivenCount", save: ({ redrivenCount }) => redrivenCount || undefined },
  { name: "laned", memory: "blockedCount", save: ({ blockedCount }) => blockedCount || undefined },
  { name: "dead", memory: "deadCount", save: ({ deadCount }) => deadCount || undefined },
  { name: "held", memory: "heldKeys", save: ({ heldKeys }) => heldKeys || undefined },
  { name: "deadSince", memory: "oldestDeadAt", save: ({ deadCount, oldestDeadAt }) => (deadCount > 0 && oldestDeadAt) || undefined },
  { name: "deleted", memory: "deletedCount", save: ({ deletedCount }) => deletedCount || undefined },
  { name: "late", memory: "timedCount", save: ({ timedCount }) => timedCount || undefined },
  { name: "scheduled", memory: "scheduledCount", save: ({ scheduledCount }) => scheduledCount || undefined },
  { name: "since", memory: "oldestDelayedAt", save: ({ oldestDelayedAt }) => oldestDelayedAt || undefined },
];

/** The fields that are always there, and the ids that are remembered, which have a text of their own. */
const ALWAYS = ["v", "object", "epoch", "base", "position", "first", "last", "ids"] as const;

const KNOWN: ReadonlySet<string> = new Set([
  ...ALWAYS,
  ...[...FIELDS, ...READER_FIELDS].map(({ name }) => name),
  ...["readers", "messages", "damaged"],
]);

const KNOWN_OF_READER: ReadonlySet<string> = new Set(["name", "slot", ...READER_FIELDS.map(({ name }) => name)]);

/** Messages in the queue, where positions alone don't tell, because some were taken out of its middle. */
function hasGaps({ queuedCount, cursor }: Reader, position: number): boolean {
  return queuedCount !== position - cursor.ackFloor;
}

/**
 * The object's own alarm. While the outbox does not want to be woken the native slot holds it, and the row need not. While its handler
 * runs, the next life must know what this one died of, should it die.
 */
function ownAtRest({ ownAlarm, runningAlarm, outboxAlarmAtRest }: Memory, { waits, hasChore }: Context): OwnAlarm | undefined {
  if (!ownAlarm && !runningAlarm) return undefined;
  const retry = runningAlarm && retryOf(runningAlarm);
  const kept: OwnAlarm | null = ownAlarm ?? (retry && { ...retry, running: true });
  return kept && (waits || outboxAlarmAtRest || hasChore || kept.due > kept.time) ? kept : undefined;
}

/**
 * Takes over what a header says of the object.
 *
 * @throws OutboxError `unsupported` when a newer deployment has written it
 */
export function loadHeader(memory: Memory, row: Readonly<Record<string, unknown>>): void {
  if (!((row.v as number) <= FORMAT)) {
    throw new OutboxError(
      "unsupported",
      `The outbox of this object is stored in format ${row.v}, and this deployment knows ${FORMAT}: deploy the newer version again. Nothing is lost.`,
    );
  }
  copy([...ALWAYS.map((name) => ({ name, memory: name })), ...FIELDS], row, memory);
  memory.isRunningAtRest = memory.ownAlarm?.running === true;
  memory.unknown = unknownIn(row, KNOWN);
}

/** Takes over what a header says of a reader. */
export function loadReader(reader: Reader, row: object): void {
  copy(READER_FIELDS, row as Record<string, unknown>, reader);
  if (reader.slot > 0) reader.unknown = unknownIn(row, KNOWN_OF_READER);
}

/** The readers that a header has: `sendMessages` alone, where it names none. */
export function readersIn({ readers }: Pick<HeaderRow, "readers">): readonly NamedReaderRow[] {
  return readers ?? [{ name: DEFAULT_DESTINATION, slot: 0 }];
}

/** What is not known, as it follows other fields in a text of JSON. */
function unknownIn(row: object, known: ReadonlySet<string>): string {
  const unknown = Object.entries(row).filter(([name]) => !known.has(name));
  return unknown.map(([name, value]) => `,${JSON.stringify(name)}:${narrowed(JSON.stringify(value))}`).join("");
}

function copy(fields: readonly { name: string; memory?: string }[], row: Readonly<Record<string, unknown>>, state: object): void {
  for (const { name, memory } of fields) if (memory && row[name] != null) Object.assign(state, { [memory]: row[name] });
}

/** The fields of a reader, as they follow others in a text of JSON. */
function textOf(reader: Reader, context: Context): string {
  let text = reader.unknown;
  for (const { name, save } of READER_FIELDS) {
    const value = save(reader, context);
    if (value === undefined) continue;
    const json = JSON.stringify(value);
    text += `,"${name}":${typeof value === "string" ? narrowed(json) : json}`;
  }
  reader.countAtRest = hasGaps(reader, context.position);
  return text;
}

/** Returns what makes the header of an object as it should be at rest. */
export function headerOf(object: string): (memory: Memory, waits: boolean, start: number, hasChore?: boolean) => unknown {
  const quoted = JSON.stringify(object);
  /** How it begins: put together once an epoch. */
  let begin = { epoch: "", base: -1, text: "" };
  /** How it remembers ids: put together once for each batch that is delivered. */
  let remembered = { ids: NO_IDS, text: "" };
  return (memory, waits, start, hasChore = false) => {
    const { epoch, base, position, first, last, tail, ids, readers } = memory;
    const errorLength = Math.floor(ERROR_LENGTH / Math.max(1, readers.length));
    const context = { waits, hasChore, position, start, errorLength };
    let rest = memory.unknown;
    for (const { name, save } of FIELDS) {
      const value = save(memory, context);
      if (value !== undefined) rest += `,"${name}":${JSON.stringify(value)}`;
    }
    let named = "";
    for (const reader of readers) {
      const { name, slot } = reader;
      const text = textOf(reader, context);
      if (slot === 0) rest += text;
      if (slot > 0 || readers.length > 1 || name !== DEFAULT_DESTINATION)
        named += `,{"name":${narrowed(JSON.stringify(name))},"slot":${slot}${slot > 0 ? text : ""}}`;
    }
    if (named || readers.length === 0) rest += `,"readers":[${named.slice(1)}]`;
    memory.isRunningAtRest = ownAtRest(memory, context)?.running === true;
    if (ids !== remembered.ids) remembered = { ids, text: ids === NO_IDS ? "" : `,"ids":${narrowed(JSON.stringify(ids))}` };
    if (begin.epoch !== epoch || begin.base !== base) {
      begin = { epoch, base, text: `{"v":${FORMAT},"object":${quoted},"epoch":"${epoch}","base":${base},"position":` };
    }
    return encoded(`${begin.text}${position},"first":${first},"last":${last}${rest}${remembered.text}}`, tail);
  };
}
