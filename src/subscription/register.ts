/** Registration: brings the readers that an object has stored in line with the destinations that its class has. */

import type { DestinationSpec } from "../api/destinations.js";
import { DEFAULT_DESTINATION, type Emit } from "../api/events.js";
import type { LetterLimits } from "../api/letter-limits.js";
import type { Store } from "../storage/store.js";
import { cursorBehind, openUpTo } from "./cursor.js";
import { newReader, type Reader, undelivered } from "./reader.js";

/**
 * Gives each destination its reader, in the order of the class: the one of its name, or of a name that it had, or a new one. Nothing is
 * written: the next header says so, and until then a start comes to the same result.
 *
 * @param limits of the dead letters of a destination that the class does not have
 *
 * A reader whose destination is gone keeps its place, and what is put meanwhile: two deployments may alternate, and the other one has it.
 */
export function register(store: Store, specs: readonly DestinationSpec[], limits: LetterLimits, emit: Emit): void {
  const { memory, log } = store;
  const stored = memory.readers;
  const names = new Set(specs.map(({ name }) => name));
  const isPaused = stored.length > 0 && stored.every(({ paused }) => paused);
  const matched = new Set<Reader>();

  function readerFor({ name, formerly, from }: DestinationSpec): Reader {
    for (const known of [name, ...formerly.filter((former) => !names.has(former))]) {
      const reader = stored.find((reader) => reader.name === known && !matched.has(reader));
      if (reader) return reader;
    }
    const isFirst = name === DEFAULT_DESTINATION && memory.slots === 0 && stored.every(({ slot }) => slot > 0);
    const start = Math.min(memory.position, Math.max(log.earliest() - 1, from - 1));
    const reader = newReader(name, isFirst ? 0 : ++memory.slots);
    reader.cursor = cursorBehind(start, memory.holes);
    reader.paused = isPaused;
    reader.typesHash = NEW;
    return reader;
  }

  const readers = specs.map((spec) => {
    const reader = readerFor(spec);
    matched.add(reader);
    reader.name = spec.name;
    reader.isMissing = false;
    reader.isPulled = spec.pull !== null;
    if (reader.isDropped) reader.typesHash = NEW;
    reader.isDropped = false;
    reader.types = spec.types;
    reader.expiresMs = spec.expiresMs;
    reader.letterLimits = spec.deadLetters;
    reader.holdsKeys = spec.onDead === "hold";
    const hash = hashOf(spec.types);
    // What of the queue it takes is found out by looking.
    if (reader.typesHash !== hash) {
      reader.queuedCount = Math.max(0, openUpTo(reader.cursor, memory.position));
      if (reader.queuedCount > 0) reader.queueDueAt = 0;
    }
    reader.typesHash = hash;
    return reader;
  });
  // One that never had anything to do with a message is forgotten.
  const missing = stored.filter((reader) => !matched.has(reader) && memory.position > 0);
  for (const reader of missing) {
    reader.isMissing = true;
    reader.isPulled = false;
    reader.letterLimits = limits;
    if (reader.isDropped) reader.types = new Set();
    if (reader.isDropped) continue;
    emit({ type: "destination_missing", destination: reader.name, waiting: undelivered(reader), dead: reader.deadCount });
  }
  memory.readers = [...readers, ...missing];
}

/** No hash of types is this. */
const NEW = -1;

/** Tells lists of types apart: FNV-1a over their names. 0: every type. */
function hashOf(types: ReadonlySet<string> | null): number {
  if (types === null) return 0;
  let hash = 0x811c9dc5;
  for (const character of [...types].sort().join("\n")) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return (hash >>> 0) + 1;
}
