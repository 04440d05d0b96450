/** Scanning: the messages in rows of a kind, in their order, from any place on. Nothing is held while the reader does something else. */

import { expected } from "../api/errors.js";
import type { MessageMeta } from "../api/meta.js";
import { PAGE_ROWS } from "../log/log.js";
import { isAcked } from "../subscription/cursor.js";
import { type Reader, takes } from "../subscription/reader.js";
import { messagesIn } from "./lines.js";
import type { Row } from "./memory.js";
import { digits, identify, type Read, readAll } from "./message.js";
import type { Place } from "./moves.js";
import {
  idKey,
  type Kind,
  type KnownId,
  LAST_NUMBER,
  lanePrefix,
  lanesOf,
  numberedKey,
  rowsOf,
  segmentKey,
  segmentNumber,
} from "./rows.js";
import type { Store } from "./store.js";

/** A message, and the row in which it was found: `null` is the header. */
export interface Found extends Read {
  readonly row: Row | null;
  /** How many moves there were when it was read. */
  readonly read: number;
}

/** Where a message of rows of a kind was found. */
export function placeOf(prefix: string, kind: Kind, { row, position, more }: Omit<Found, "read">): Place {
  return { kind, key: kind === "t" ? (row?.key ?? "") : kind === "k" ? lanePrefix(prefix, more.key ?? "") : "", position };
}

/** The id of a message. */
export function idOf({ stream, position, more }: Read): string {
  return identify(stream, position, more.id).id;
}

export interface Scan {
  /**
   * Messages in rows of a kind, all of them or those behind a place. Those of the queue end with the header's. Gives in the end how many moves
   * there were when it saw that there are no more.
   */
  messages(kind: Kind, behind?: Place): AsyncGenerator<Found, number>;
  /** The position of the message with this id, as far as the id or its row says. */
  locate(id: unknown): Promise<number | undefined>;
}

export function scanOf(store: Store, reader: Reader): Scan {
  const { memory, log } = store;
  const { prefix } = reader;

  /** The key from which rows have to be read for what is behind a place. */
  async function begin(kind: Kind, { key, position }: Place): Promise<string> {
    if (kind === "s") return (await log.find(position))?.key ?? segmentKey(memory.first);
    if (kind === "d") return numberedKey(prefix, "d", position + 1);
    if (kind === "t") return `${key}\0`;
    const [row] = await store.list({ start: key, end: key + digits(position + 1), reverse: true, limit: 1 });
    return row?.key ?? key + digits(position);
  }

  return {
    async *messages(kind, behind) {
      /** Whether a message comes after the place, in rows that may begin before it. */
      const comes = ({ position, msg, more }: Read): boolean =>
        !(kind === "s" && (isAcked(reader.cursor, position) || !takes(reader, msg))) && isBehind(position, more);
      const isBehind = (position: number, more: MessageMeta): boolean =>
        !behind || position > behind.position || kind === "t" || (kind === "k" && lanePrefix(prefix, more.key ?? "") !== behind.key);
      let start = behind
        ? await begin(kind, behind)
        : kind === "s"
          ? segmentKey(await log.seek(reader.cursor.ackFloor, reader.segment))
          : rowsOf(prefix, kind);
      let seen = 0;
      for (;;) {
        const { last } = memory;
        // A segment that may grow while the reader does something else is looked at again.
        const lastSegmentKey = kind === "s" ? memory.recent.at(-1)?.key : undefined;
        let read = store.moves.count;
        const rows =
          kind === "s"
            ? await log.page(segmentNumber(start), last)
            : kind === "k"
              ? await store.list({ start, end: lanesOf(prefix), limit: PAGE_ROWS })
              : await store.page(reader, kind, start, LAST_NUMBER);
        let isOver = true;
        for (const row of rows) {
          start = kind !== "s" ? `${row.key}\0` : row.key === lastSegmentKey ? row.key : segmentKey(segmentNumber(row.key) + 1);
          for (const message of readAll(row.data, row.data.messages)) {
            if (kind === "s" && message.position <= seen) continue;
            isOver = false;
            seen = message.position;
            if (comes(message)) yield { ...message, row, read };
          }
        }
        if (!isOver || (kind === "s" && memory.last > last)) continue;
        // A put of this very moment may have moved the tail there.
        if (kind === "s" && (memory.recent.at(-1)?.last ?? 0) > seen && start <= segmentKey(memory.last)) continue;
        if (kind === "s") {
          read = store.moves.count;
          for (const message of readAll(memory, messagesIn(memory.tail))) if (comes(message)) yield { ...message, row: null, read };
        }
        return read;
      }
    },

    async locate(id) {
      if (typeof id !== "string") throw expected("id", "the id of a message", id);
      const [, epoch, sequence] = /^(.+)-(\d{15})$/s.exec(id) ?? [];
      if (epoch === memory.epoch) return memory.base + Number(sequence);
      const [named, , , reissued] = (await store.native.get<KnownId>(idKey(id.slice(0, 256)))) ?? [];
      return reissued?.first ?? named;
    },
  };
}
