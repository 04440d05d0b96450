/** The log for the object's own code: a page of it, all of it as it grows, and the end of what is old. */

import { expected, OutboxError } from "../api/errors.js";
import { typeOf } from "../api/events.js";
import { known } from "../api/known.js";
import type { OutboxMessage } from "../api/message.js";
import { within } from "../api/within.js";
import { type OutboxContext, untilWritable } from "../context.js";
import { committedPage, pageOf, type Range } from "../log/read.js";
import { follow } from "../log/tail.js";
import { present, type Read } from "../storage/message.js";

import { currentIn } from "../subscription/versions.js";
import { within1000 } from "./list.js";

/** A message as the log has it. */
export interface OutboxLogMessage<M = unknown> extends Omit<OutboxMessage<M>, "attempts"> {
  /**
   * Its place in the object's log: from 1, in put order. It is its `sequence` until the first `newEpoch()`, from which on `sequence` counts from 1 again
   * and the position goes on.
   */
  readonly position: number;
}

/** What of the log to read. */
export interface OutboxReadOptions {
  /** The position to begin at, which belongs to the page. Default: the first that is retained, or the last where the direction is backward. */
  from?: number;
  /** `"forward"` (default): older messages first. `"backward"`: newer ones first. */
  direction?: "forward" | "backward";
  /** How many messages at most. Default 100, from 1 to 1,000. A page may have fewer although more follow: it ends after 4 MB, and after 128 rows. */
  limit?: number;
  /** Only messages whose `msg.type` is one of these. */
  types?: readonly string[];
  /** Only messages with this ordering key. */
  key?: string;
  /**
   * Only what is committed and durable, as `tail` has it: for what leaves the object. It waits until an open transaction has ended, so a
   * transaction must not wait for it. Default false: what has been written so far, also by an open transaction.
   */
  committed?: boolean;
}

/** A page of the log. */
export interface OutboxLogPage<M = unknown> {
  readonly messages: OutboxLogMessage<M>[];
  /** Where the next page begins: pass it as `from`, with the same direction. */
  readonly next: number;
  /** Whether nothing more follows in this direction at the moment. A page without messages is not the end where this is false. */
  readonly upToDate: boolean;
  /** The position of the first message that is retained. Where `from` was before it, the page begins there. */
  readonly earliest: number;
  /** The epoch of the next message: empty before the first. Epochs sort in the order in which they began. */
  readonly epoch: string;
  /** The `sequence` of the object's last message, whether or not it is in the page: what `expectedSequence` must be. 0 before the first of an epoch. */
  readonly sequence: number;
}

/** Where to begin to follow the log. */
export interface OutboxTailOptions {
  /** The position of the last message that is known already: 0 for all that is retained. Default: only what is put from now on. */
  after?: number;
  /** Ends the iteration when it is aborted. */
  signal?: AbortSignal;
}

/** What `trim` deletes. */
export interface OutboxTrimOptions {
  /** The position of the first message to keep. */
  before: number;
}

const READ_OPTIONS = ["from", "direction", "limit", "types", "key", "committed"];
const POSITION = [0, 0, Number.MAX_SAFE_INTEGER, 1] as const;

/**
 * What the manager does with the log.
 *
 * @param durable resolves when everything that was written is durable
 */
export function logOperations(parts: OutboxContext, durable: () => Promise<void>): object {
  const { store, settings } = parts;
  const { memory, log } = store;

  function checkRetained(method: string): void {
    if (!settings.retain) throw new OutboxError("unsupported", `${method}() needs a log that is kept: set the option \`retain\`.`);
  }

  /** @param end ends it as well, where it may be waiting for a message */
  function follower(
    method: string,
    options: OutboxTailOptions | undefined,
    end?: AbortController,
  ): AsyncGenerator<OutboxLogMessage, void, undefined> {
    checkRetained(method);
    const { after, signal } = known("options", options ?? {}, ["after", "signal"]);
    const given = after === undefined ? undefined : within("options.after", after, POSITION);
    if (signal !== undefined && !(signal instanceof AbortSignal)) throw expected("options.signal", "an AbortSignal", signal);
    if (end && signal?.aborted) end.abort();
    if (end) signal?.addEventListener("abort", () => end.abort(), { once: true });
    // From now on, and not from when the first message is asked for. What the object has stored is not known while it starts.
    return following(given ?? (parts.loading ? undefined : memory.position), end?.signal ?? signal);
  }

  async function* following(after: number | undefined, signal: AbortSignal | undefined): AsyncGenerator<OutboxLogMessage, void, undefined> {
    for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
    for await (const message of follow(store, (after ?? memory.position) + 1, durable, signal)) yield shown(message);
  }

  /** As this deployment knows it, or as it is stored where an upcaster throws or the version is newer. */
  function shown(message: Read): OutboxLogMessage {
    const { attempts: _, ...rest } = present(message, 0, undefined, currentIn(settings.schemas, message));
    return { ...rest, position: message.position };
  }

  return {
    async read(options: OutboxReadOptions = {}): Promise<OutboxLogPage> {
      checkRetained("read");
      const { from, direction = "forward", limit, types, key, committed = false } = known("options", options, READ_OPTIONS);
      if (direction !== "forward" && direction !== "backward") throw expected("options.direction", '"forward" or "backward"', direction);
      if (key !== undefined && typeof key !== "string") throw expected("options.key", "a string", key);
      if (typeof committed !== "boolean") throw expected("options.committed", "a boolean", committed);
      const all = types !== undefined && typesOf(types);
      const most = within1000(limit);
      const isBackward = direction === "backward";
      const given = from === undefined ? undefined : within("options.from", from, POSITION);
      for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
      const range: Range = {
        from: given ?? (isBackward ? memory.position : 1),
        isBackward,
        limit: most,
        wants: ({ msg, more }) => (!all || all.has(typeOf(msg) ?? "")) && (key === undefined || more.key === key),
      };
      const { messages, isWhole, ...page } = committed ? await committedPage(store, range, durable) : await pageOf(store, range);
      return { messages: messages.map(shown), upToDate: isWhole, ...page };
    },

    tail: (options?: OutboxTailOptions) => follower("tail", options),

    tailStream(options?: OutboxTailOptions): ReadableStream<Uint8Array> {
      const end = new AbortController();
      const messages = follower("tailStream", options, end);
      const encoder = new TextEncoder();
      return new ReadableStream({
        type: "bytes",
        async pull(controller) {
          const { done, value } = await messages.next();
          if (!done) return controller.enqueue(encoder.encode(`${JSON.stringify(value)}\n`));
          controller.close();
          controller.byobRequest?.respond(0);
        },
        async cancel() {
          // What waits for the next message ends by this alone.
          end.abort();
          await messages.return();
        },
      });
    },

    async trim(options: OutboxTrimOptions): Promise<number> {
      checkRetained("trim");
      const { before } = known("options", options, ["before"]);
      const wanted = within("options.before", before, [Number.NaN, 0, Number.MAX_SAFE_INTEGER, 1]);
      if (Number.isNaN(wanted)) throw expected("options.before", "a position", before);
      for (let first = untilWritable(parts); first; first = untilWritable(parts)) await first;
      if (store.open) throw new OutboxError("unsupported", "trim() can't be called in a transaction.");
      // What any destination has yet to get stays.
      const floors = memory.readers.map(({ cursor, queuedCount }) => (queuedCount === 0 ? memory.position : cursor.ackFloor));
      const through = Math.min(wanted - 1, memory.position, ...floors);
      if (through > memory.trimmedTo) {
        memory.trimmedTo = through;
        await store.saveHeader();
      }
      for (let first = 0; memory.first > first && memory.first <= memory.last; ) {
        ({ first } = memory);
        await log.sweep();
        if (store.open || !log.mayTrim(through)) break;
        await store.commit((rows) => {
          log.trim(through, rows);
          rows[memory.key] = store.header();
        });
      }
      return log.earliest();
    },
  };
}

/** @throws TypeError when they are no list of types. */
function typesOf(types: unknown): ReadonlySet<string> {
  if (Array.isArray(types) && types.length > 0 && types.every((type) => typeof type === "string")) return new Set(types);
  throw expected("options.types", "a list of strings", types);
}
