/** Versions: brings messages to the version that this deployment knows, and lets those wait that are ahead of it. */

import { textOf } from "../api/errors.js";
import type { Emit } from "../api/events.js";
import { type Current, currentOf, knownVersion, type Schemas } from "../api/schemas.js";
import { isScheduled, payloadOf, type Read, startOf } from "../storage/message.js";
import { type Batch, type Entry, handedOver } from "./batch.js";
import type { DestinationSettings } from "./delivery.js";
import type { Reader } from "./reader.js";
import { about } from "./reporting.js";

/** So many messages that are ahead have been reported and are remembered: each is reported once in the life of its object. */
const MOST_REPORTED = 1000;

/** What this deployment makes of a stored message: nothing where it is in a newer version, or an upcaster throws. */
export function currentIn(schemas: Schemas | null, { stored, more: { version = 1 } }: Pick<Read, "stored" | "more">): Current | undefined {
  if (schemas === null) return undefined;
  const msg = payloadOf(stored);
  if (version > knownVersion(schemas, msg)) return undefined;
  try {
    return currentOf(schemas, msg, version, () => msg);
  } catch {
    // Where it is to be handed over that makes a dead letter of it.
    return undefined;
  }
}

export interface Versions {
  /**
   * Whether a message has to wait, because it is in a version that this deployment does not know yet: then `more` says until when. The wait doubles with
   * its age, so that a deployment that alternates with a newer one costs a message few looks.
   */
  isAhead(batch: Batch, entry: Entry, now: number): boolean;
  /**
   * Makes of each message what this deployment knows. Returns those of which that could be made: where an upcaster throws it is a dead letter, and what follows it with
   * its key is not handed over together with it.
   */
  bring(entries: Entry[], now: number): Entry[];
  /** The same of one message. @throws what an upcaster throws. */
  current(entry: Entry): Current | undefined;
  /** Reports the messages of a batch that are ahead. */
  report(batch: Batch): void;
}

export function versionsOf(schemas: Schemas | null, reader: Reader, emit: Emit, settings: () => DestinationSettings): Versions {
  const reported = new Set<number>();

  function current(entry: Entry): Current | undefined {
    const { stored, more } = entry;
    const fresh = entry.given ? payloadOf(stored) : entry.msg;
    return currentOf(schemas, fresh, more.version ?? 1, () => {
      // Upcasters may change it. Memory holds what JSON does not, and they get a copy of that.
      entry.given = true;
      return typeof stored === "string" ? fresh : payloadOf(stored);
    });
  }

  return {
    current: (entry) => (schemas === null ? undefined : current(entry)),

    isAhead(batch, entry, now) {
      const { more } = entry;
      const { version = 1 } = more;
      if (version === 1) return false;
      const known = knownVersion(schemas, entry.given ? payloadOf(entry.stored) : entry.msg);
      if (version <= known) return false;
      const { minDelaySeconds, maxDelaySeconds } = settings().retry;
      const due = now + Math.min(Math.max(now - startOf(entry), minDelaySeconds * 1000), maxDelaySeconds * 1000);
      const error = `It is in version ${version}, and this deployment knows version ${known} of its type.`;
      const attempts = handedOver(reader, entry);
      const from = isScheduled(more) ? { from: more.due } : {};
      entry.more = { ...more, ...from, ...(attempts > 0 && { attempts }), error, first: more.first ?? now, last: now, due };
      batch.ahead.push(entry);
      return true;
    },

    bring(entries, now) {
      if (schemas === null) return entries;
      const failed = new Set<string>();
      return entries.filter((entry) => {
        const { key } = entry.more;
        if (key !== undefined && failed.has(key)) {
          // A crash before its death is recorded must not leave it behind those.
          if (reader.holdsKeys) entry.fate = "aside";
          return false;
        }
        try {
          entry.current = current(entry);
        } catch (cause) {
          const { first = now } = entry.more;
          entry.more = {
            ...entry.more,
            attempts: handedOver(reader, entry),
            reason: "upcast_failed",
            error: textOf(cause),
            first,
            last: now,
          };
          entry.cause = cause;
          entry.fate = "dead";
          if (key !== undefined) failed.add(key);
        }
        return !entry.fate;
      });
    },

    report({ ahead }) {
      for (const entry of ahead) {
        if (reported.has(entry.position)) continue;
        if (reported.size >= MOST_REPORTED) reported.clear();
        reported.add(entry.position);
        const { version = 1, error = "", due: retryAt = 0 } = entry.more;
        emit({ type: "version_ahead", destination: reader.name, ...about(entry), version, error, retryAt });
      }
    },
  };
}
