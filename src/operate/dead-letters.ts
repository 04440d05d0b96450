/** Dead letters: puts them back or deletes them, in steps of a few, each one commit. Between two of them everything else has its turn. */

import { expected } from "../api/errors.js";
import type { MessageMeta } from "../api/meta.js";
import { type OutboxContext, untilWritable } from "../context.js";
import { ownersOf } from "../log/ids.js";
import { PAGE_ROWS, ROW_MESSAGE_BYTES, ROW_MESSAGES } from "../log/log.js";
import { NEVER, type Row } from "../storage/memory.js";
import { digits, positionOf, type Read, readMessage, restored, type StoredMessage, type Stream } from "../storage/message.js";
import { LAST_NUMBER, lanePrefix, numberedKey, stored } from "../storage/rows.js";
import { idOf, type Scan } from "../storage/scan.js";
import { serializedBytes } from "../storage/size.js";
import type { Delivery } from "../subscription/delivery.js";
import { holdRows, removeLetters } from "../subscription/reader.js";

type Rows = Record<string, unknown>;

/** Letters of one ordering key that belong between two rows of its lane: into the first of them, or behind it. */
interface Insertion {
  readonly key: string;
  readonly at: Row | undefined;
  readonly letters: Read[];
}

/** Some of the letters behind a position, and where they end. */
export interface LetterPage {
  readonly letters: Read[];
  readonly behind: number;
}

export interface DeadLetters {
  redrive(ids?: string[]): Promise<number>;
  discard(ids: string[]): Promise<number>;
}

/** The same, and what the object does to them by itself. */
export interface LetterKeeping extends DeadLetters {
  /** The next letters behind a position, up to eight. */
  next(behind: number): Promise<LetterPage | undefined>;
  /** Deletes the letters that `pick` finds behind a position, until there are no more, and counts them as deleted by a limit. */
  trim(pick: (behind: number) => Promise<LetterPage | undefined>, deleted: (letters: readonly Read[]) => void): Promise<void>;
}

/** Those of one destination. */
export function deadLettersOf(
  parts: OutboxContext,
  { reader, queue }: Pick<Delivery, "reader" | "queue">,
  scan: Scan,
  wake: () => unknown,
): LetterKeeping {
  const { store, delivery, timers } = parts;
  const { memory } = store;
  const { prefix } = reader;

  /**
   * Resolves to how many there were.
   *
   * @param plan reads what has to be known for a step, and gives what it writes
   * @param pick finds them, where they are not named
   */
  async function inSteps(
    ids: unknown,
    plan: (letters: Read[]) => Promise<(rows: Rows) => void>,
    pick: (behind: number) => Promise<LetterPage | undefined> = next,
    done: (letters: readonly Read[]) => void = () => {},
  ): Promise<number> {
    if (ids !== undefined && !Array.isArray(ids)) throw expected("ids", "a list of ids", ids);
    // As it is at the call.
    const given = ids && [...ids];
    await untilWritable(parts);
    const within = store.open;
    /** Whether the transaction of another call is open: what keeps others out must not wait for its end. */
    const isForeign = (): boolean => store.open !== null && store.open !== within;
    const wanted = given && (await positionsOf(given));
    let count = 0;
    let behind = 0;

    /** One step after the other, as far as no transaction comes between. Resolves to whether that was the last. */
    const steps = async (): Promise<boolean> => {
      while (!isForeign()) {
        const { settled } = queue;
        const { transactions } = store;
        const page = await (wanted ? named(wanted, behind) : pick(behind));
        if (!page) return true;
        const change = await plan(page.letters);
        // Beside a commit that has begun nothing is written.
        const closing = untilWritable(parts);
        if (closing) await closing;
        // What was read may not be true any more.
        if (closing || isForeign() || queue.settled !== settled || store.transactions !== transactions) continue;
        ({ behind } = page);
        if (page.letters.length === 0) continue;
        count += page.letters.length;
        const written = store.commit((rows) => {
          for (const { position } of page.letters) rows[numberedKey(prefix, "d", position)] = undefined;
          removeLetters(reader, page.letters.length);
          for (const { more } of page.letters) if (more.holds && more.key !== undefined) queue.release(more.key, rows);
          change(rows);
          rows[memory.key] = store.header();
        });
        wake();
        done(page.letters);
        await written;
        await timers.turn();
      }
      return false;
    };
    do while (isForeign()) await store.open;
    while (!(await queue.alone(steps)));
    return count;
  }

  /** What forgets the ids of letters that are deleted. */
  function forget(letters: readonly Read[]): Promise<(rows: Rows) => void> {
    return store.ids.forgetting(ownersOf(letters.filter((letter) => !delivery.isWanted(letter, reader))));
  }

  /** The next letters behind a position. */
  async function next(behind: number): Promise<LetterPage | undefined> {
    const page = await store.page(reader, "d", numberedKey(prefix, "d", behind + 1), LAST_NUMBER);
    const letters = page.flatMap(({ data }) => data.messages.map((message) => readMessage(data, message)));
    const last = letters.at(-1);
    return last && { letters, behind: last.position };
  }

  /** The same, of those that are wanted. */
  async function named(wanted: ReadonlyMap<number, string>, behind: number): Promise<LetterPage | undefined> {
    const positions = [...wanted.keys()].filter((position) => position > behind).slice(0, PAGE_ROWS);
    const last = positions.at(-1);
    if (last === undefined) return undefined;
    const letters: Read[] = [];
    for (const position of positions) {
      const [row] = await store.page(reader, "d", numberedKey(prefix, "d", position), position, 1);
      const [message] = row?.data.messages ?? [];
      const letter = row && message !== undefined ? readMessage(row.data, message) : undefined;
      if (letter && idOf(letter) === wanted.get(position)) letters.push(letter);
    }
    return { letters, behind: last };
  }

  /** Where the letters with these ids are, in their order. Those of which neither the id nor its row says so are searched for. */
  async function positionsOf(ids: readonly unknown[]): Promise<Map<number, string>> {
    const found = new Map<number, string>();
    const searched = new Set<unknown>();
    for (const id of ids) {
      const position = await scan.locate(id);
      if (position === undefined) searched.add(id);
      else found.set(position, id as string);
    }
    if (searched.size > 0) {
      for await (const letter of scan.messages("d")) if (searched.has(idOf(letter))) found.set(letter.position, idOf(letter));
    }
    return new Map([...found].sort(([a], [b]) => a - b));
  }

  /**
   * What goes on with a letter that is put back: it is as if it had never been handed over, but for having broken its batch. Where the destination lets
   * messages expire, its time begins anew, or it would be a dead letter again at once.
   */
  function redriven({ more: { id, as, version, key, headers, alone } }: Read): MessageMeta {
    return {
      ...(id !== undefined && { id }),
      ...(as !== undefined && { as }),
      ...(version !== undefined && { version }),
      ...(key !== undefined && { key }),
      ...(headers && { headers }),
      ...(alone && { alone }),
      ...(reader.expiresMs < NEVER && { from: store.now() }),
    };
  }

  /** Where letters with ordering keys belong. */
  async function insertionsOf(letters: readonly Read[]): Promise<Insertion[]> {
    const insertions: Insertion[] = [];
    for (const letter of letters) {
      const { key } = letter.more;
      if (key === undefined) continue;
      const lane = lanePrefix(prefix, key);
      const start = lane + digits(letter.position + 1);
      const [at] = await store.list({ start: lane, end: start, reverse: true, limit: 1 });
      const before = insertions.find((each) => each.key === key && each.at?.key === at?.key);
      if (before) before.letters.push(letter);
      else insertions.push({ key, at, letters: [letter] });
    }
    return insertions;
  }

  /** Puts letters into a row of their lane, or behind it. A row that is full is divided. */
  function insert({ key, at, letters }: Insertion, rows: Rows): void {
    const row = at && (reader.held.get(at.key) ?? at);
    const last = row?.data.messages.at(-1);
    /** Others of its key may still be in the queue, and belong before it. */
    const followsQueue = ({ position }: Read): boolean =>
      reader.queuedCount > 0 && position > reader.cursor.ackFloor && !(last !== undefined && position < positionOf(last));
    const behindQueue = letters.filter(followsQueue);
    const plain = letters.filter((letter) => !followsQueue(letter));
    for (const letter of behindQueue) queue.join(key, [{ ...letter, more: redriven(letter) }], rows);
    if (plain.length > 0) {
      const lines = [
        ...(row?.data.messages ?? []).map((message) => ({ stream: row?.data as Stream, message, position: positionOf(message) })),
        ...plain.map((letter) => ({ stream: letter.stream, message: restored(letter, redriven(letter)), position: letter.position })),
      ].sort((a, b) => a.position - b.position);
      const lane = lanePrefix(prefix, key);
      const [first, ...more] = divided(lines);
      if (row && first) store.rewrite(reader, row, first.messages, rows);
      const others = (row || !first ? more : [first, ...more]).map(
        ({ stream: { object, epoch, base }, position, messages }): Row => ({
          key: lane + digits(position),
          data: { v: 1, object, epoch, base, messages },
        }),
      );
      for (const other of others) rows[other.key] = stored(other.data);
      // Messages that are being handed over may have moved.
      if (row && reader.held.has(row.key)) holdRows(reader, others);
      reader.blockedCount += plain.length;
      for (const { at } of plain) reader.oldestDelayedAt = Math.min(reader.oldestDelayedAt || at, at);
    }
    queue.wakeLane(key, rows, behindQueue.length > 0 || undefined);
  }

  return {
    redrive: (ids) =>
      inSteps(ids, async (letters) => {
        const insertions = await insertionsOf(letters);
        return (rows) => {
          const free = letters.filter(({ more }) => more.key === undefined);
          queue.join(
            undefined,
            free.map((letter) => ({ ...letter, more: redriven(letter) })),
            rows,
          );
          for (const insertion of insertions) insert(insertion, rows);
        };
      }),

    discard: (ids) => inSteps(ids ?? null, forget),

    next,

    async trim(pick, deleted) {
      const plan = async (letters: Read[]): Promise<(rows: Rows) => void> => {
        const change = await forget(letters);
        return (rows) => {
          reader.deletedCount += letters.length;
          change(rows);
        };
      };
      await inSteps(undefined, plan, pick, deleted);
    },
  };
}

/** Messages of a lane, in rows of which none is longer than a row may be. */
function divided(lines: readonly { stream: Stream; message: StoredMessage; position: number }[]) {
  const rows: { stream: Stream; position: number; messages: StoredMessage[] }[] = [];
  let bytes = 0;
  for (const { stream, message, position } of lines) {
    const size = serializedBytes(message);
    const last = rows.at(-1);
    if (last && last.stream.epoch === stream.epoch && last.messages.length < ROW_MESSAGES && bytes + size <= ROW_MESSAGE_BYTES) {
      last.messages.push(message);
      bytes += size;
    } else {
      rows.push({ stream, position, messages: [message] });
      bytes = size;
    }
  }
  return rows;
}
