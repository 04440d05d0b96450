/** Dropping a destination that the class does not have any more: what it has yet to get is abandoned, in steps of a few, each one commit. */

import { OutboxError } from "../api/errors.js";
import { type OutboxContext, untilWritable } from "../context.js";
import { ownersOf } from "../log/ids.js";
import { PAGE_ROWS } from "../log/log.js";
import { NEVER, type Row } from "../storage/memory.js";
import { type Read, readAll, restored } from "../storage/message.js";
import { acksKey, keyNumber, LAST_NUMBER, lanesOf, numberedKey, rowsOf, stored } from "../storage/rows.js";
import { scanOf } from "../storage/scan.js";
import { cursorAt } from "../subscription/cursor.js";
import type { DeadMessages } from "../subscription/dead-message.js";
import type { Delivery } from "../subscription/delivery.js";
import { addLetter, removeLetters } from "../subscription/reader.js";

/** Options of `dropDestination`. */
export interface DropOptions {
  /** Whether what it has yet to get becomes its dead letters. Default false: it is deleted, and its dead letters with it. */
  deadLetters?: boolean;
}

/** Messages of the queue in one step. */
const STEP = 64;

type Rows = Record<string, unknown>;

/** What one step takes away, and how. */
interface Step {
  readonly messages: readonly Read[];
  readonly change: (rows: Rows) => void;
}

/** Resolves to how many messages the destination had yet to get. */
export async function drop(parts: OutboxContext, { reader }: Delivery, toDead: boolean): Promise<number> {
  const { store, delivery } = parts;
  const { memory } = store;
  const { prefix, name } = reader;
  const scan = scanOf(store, reader);
  let count = 0;

  if (store.open) throw new OutboxError("unsupported", "dropDestination() can't be called in a transaction.");
  if (!reader.isMissing) {
    throw new OutboxError("unsupported", `The class still has the destination ${JSON.stringify(name)}: deploy one without it first.`);
  }

  /** The class's `deadMessage` is called for one message at a time. */
  const dead = toDead && delivery.deadMessages?.isHandled() ? delivery.deadMessages : null;

  /** The next messages of the queue. */
  async function fromQueue(): Promise<Step> {
    const messages: Read[] = [];
    for await (const message of scan.messages("s")) if (messages.push(message) >= (dead ? 1 : STEP)) break;
    const last = messages.at(-1);
    return {
      messages,
      change(rows) {
        const { cursor } = reader;
        reader.cursor = cursorAt(last?.position ?? memory.position);
        reader.queuedCount = Math.max(0, reader.queuedCount - messages.length);
        reader.timedCount = Math.max(0, reader.timedCount - messages.filter(({ more }) => more.due !== undefined).length);
        store.passed(reader, rows, cursor);
      },
    };
  }

  /** The messages of some rows, which are deleted. */
  function ofRows(found: readonly Row[], forget: (row: Row, messages: number) => void): Step {
    const [first] = found;
    const [message] = first?.data.messages ?? [];
    if (dead && first && message !== undefined) {
      return {
        messages: readAll(first.data, [message]),
        change(rows) {
          rows[first.key] = stored({ ...first.data, messages: first.data.messages.slice(1) });
          forget(first, 1);
        },
      };
    }
    return {
      messages: found.flatMap(({ data }) => readAll(data, data.messages)),
      change(rows) {
        for (const row of found) {
          rows[row.key] = undefined;
          forget(row, row.data.messages.length);
        }
      },
    };
  }

  const fromTimers = async (): Promise<Step> =>
    ofRows(await store.page(reader, "t", rowsOf(prefix, "t"), LAST_NUMBER), ({ key }) => {
      reader.delayedCount = Math.max(0, reader.delayedCount - 1);
      if (keyNumber(prefix, key) === 0) reader.redrivenCount = Math.max(0, reader.redrivenCount - 1);
    });

  const fromLanes = async (): Promise<Step> =>
    ofRows(await store.list({ start: rowsOf(prefix, "k"), end: lanesOf(prefix), limit: PAGE_ROWS }), (_, messages) => {
      reader.blockedCount = Math.max(0, reader.blockedCount - messages);
    });

  const fromDeadLetters = async (): Promise<Step> =>
    ofRows(await store.page(reader, "d", rowsOf(prefix, "d"), LAST_NUMBER), () => {
      removeLetters(reader, 1);
    });

  /** A message as its dead letter says. */
  function letterOf({ more, ...rest }: Read): Read {
    const now = store.now();
    const error = "Its destination was dropped.";
    return { ...rest, more: { ...more, reason: "dropped", error, attempts: more.attempts ?? 0, first: more.first ?? now, last: now } };
  }

  function bury(letter: Read, rows: Rows): void {
    const { stream, position, more } = letter;
    rows[numberedKey(prefix, "d", position)] = stored({ v: 1, ...stream, messages: [restored(letter, more)] });
    addLetter(reader, more.last ?? store.now());
  }

  /** Calls the class's `deadMessage` for the one message of a step. Resolves to whether that has become a dead letter. */
  async function handled(dead: DeadMessages, kind: "s" | "t" | "k", message: Read, change: Step["change"]): Promise<boolean> {
    const letter = letterOf(message);
    const dying = {
      ...{ reader, message: letter },
      async isGone() {
        for await (const { position } of scan.messages(kind)) return position !== message.position;
        return true;
      },
      change(rows: Rows) {
        change(rows);
        bury(letter, rows);
      },
    };
    // Nothing tells an object that it has died in a call.
    return (await dead.handle([dying], true)).done.length > 0;
  }

  /** Goes through all steps of a kind. Resolves to how many messages there were. */
  async function all(kind: "s" | "t" | "k" | "d", next: () => Promise<Step>, buries: boolean): Promise<number> {
    let total = 0;
    /** The message for which the class's `deadMessage` has failed. */
    let failed: number | undefined;
    for (;;) {
      await parts.loading;
      const { transactions } = store;
      const { messages, change } = await next();
      const [message] = messages;
      if (!message) return total;
      if (dead && kind !== "d" && message.position !== failed) {
        if (await handled(dead, kind, message, change)) total++;
        else failed = message.position;
        continue;
      }
      const others = messages.filter((message) => !delivery.isWanted(message, reader));
      const forget = await store.ids.forgetting(buries ? [] : ownersOf(others));
      for (let first = store.open ?? untilWritable(parts); first; first = store.open ?? untilWritable(parts)) await first;
      // What was read may not be true any more.
      if (store.transactions !== transactions) continue;
      await store.commit((rows) => {
        forget(rows);
        change(rows);
        if (buries) for (const message of messages) bury(letterOf(message), rows);
        rows[memory.key] = store.header();
      });
      total += messages.length;
    }
  }

  count += await all("s", fromQueue, toDead);
  count += await all("t", fromTimers, toDead);
  count += await all("k", fromLanes, toDead);
  if (!toDead) await all("d", fromDeadLetters, false);
  const lanes = (await store.reading.values({ prefix: lanesOf(prefix) })).map(([key]) => key);
  for (let first = store.open ?? untilWritable(parts); first; first = store.open ?? untilWritable(parts)) await first;
  await store.commit((rows) => {
    for (const key of [...lanes, acksKey(prefix)]) rows[key] = undefined;
    Object.assign(reader, {
      queuedCount: 0,
      timedCount: 0,
      scheduledCount: 0,
      oldestDelayedAt: 0,
      heldKeys: 0,
      lanes: new Map(),
      isDropped: true,
    });
    Object.assign(reader, { queueDueAt: NEVER, delayedDueAt: NEVER, cursor: cursorAt(memory.position), types: new Set() });
    if (!toDead) memory.readers = memory.readers.filter((each) => each !== reader);
    if (memory.readers.length > 0) for (const each of memory.readers) store.passed(each, rows, each.cursor);
    rows[memory.key] = store.header();
  });
  delivery.adopt();
  await store.tidy();
  return count;
}
