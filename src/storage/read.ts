/** Reading rows: what can't be read is reported once in the object's life, kept as it is, and takes nothing beside it along. */

import { textOf } from "../api/errors.js";
import type { Emit } from "../api/events.js";
import type { Row } from "./memory.js";
import type { Native } from "./native.js";
import { decode, OUTBOX } from "./rows.js";

/** Rows read at once while the one is searched that can't be. */
const SEARCH_ROWS = 8;
/** So many rows are remembered to have been reported. After that they are reported again. */
const MOST_REPORTED = 1000;

/** What a row's key begins with, or between which keys it is. */
export interface Range {
  readonly prefix?: string;
  readonly start?: string;
  readonly end?: string;
  readonly limit?: number;
  readonly reverse?: boolean;
}

export interface Reading {
  /** Reads rows of messages. With a limit it resolves to fewer only where there are no more: rows of which nothing can be read don't count. */
  list(range: Range): Promise<Row[]>;
  /** Reads values of any kind. Those that storage can't read are left out, and known as lost from then on. */
  values(range: Range): Promise<[key: string, value: unknown][]>;
  /** Keys of rows that storage could not read so far. */
  lost(): readonly string[];
  /** Reports what can't be read. */
  unreadable(row: string, error: unknown): null;
}

export function readingOf(native: () => Pick<Native, "list" | "get">, emit: Emit): Reading {
  const reported = new Set<string>();
  /** In the order of storage. */
  let lost: string[] = [];

  async function values({
    prefix = "",
    start = prefix,
    end = `${prefix}\u{10FFFF}`,
    limit,
    reverse = false,
  }: Range): Promise<[string, unknown][]> {
    const inRange = (key: string): boolean => byStorage(start, key) <= 0 && byStorage(key, end) < 0;
    const read = async (start: string, end: string, limit: number | undefined): Promise<[string, unknown][]> =>
      byStorage(start, end) < 0 ? [...(await native().list({ start, end, reverse, ...(limit !== undefined && { limit }) }))] : [];
    const found: [string, unknown][] = [];
    for (let from = start, to = end; ; ) {
      const between = lost.filter((key) => inRange(key) && byStorage(from, key) <= 0 && byStorage(key, to) < 0);
      const bad = reverse ? between.at(-1) : between[0];
      const [first, last] = bad === undefined ? [from, to] : reverse ? [after(bad), to] : [from, bad];
      try {
        found.push(...(await read(first, last, limit === undefined ? undefined : limit - found.length)));
      } catch (error) {
        const key = await firstLost(first, last, error);
        lost = [...lost, key].sort(byStorage);
        unreadable(key, error);
        continue;
      }
      if (bad === undefined || found.length === limit) return found;
      if (reverse) to = bad;
      else from = after(bad);
    }
  }

  /** The key of the first row in a range that storage can't read. A list fails as a whole, and does not say at which. */
  async function firstLost(start: string, end: string, error: unknown): Promise<string> {
    let from = start;
    const fails = async (before: string, limit = 1): Promise<boolean> => {
      if (byStorage(from, before) >= 0) return false;
      try {
        const page = await native().list({ start: from, end: before, limit });
        const last = [...page.keys()].at(-1);
        // Up to there all of them can be read.
        if (last !== undefined) from = after(last);
        return false;
      } catch {
        return true;
      }
    };
    // Where nothing is stored, nothing but storage itself can fail: the object has been reset, say.
    await native().list({ start: `${OUTBOX}\0`, end: `${OUTBOX}\0\0`, limit: 1 });
    for (let limit = SEARCH_ROWS; ; ) {
      const at = from;
      if (await fails(end, limit)) {
        if (limit === 1) break;
        limit = 1;
        // Every row has been read, and none of them failed.
      } else if (at === from) throw error;
    }
    // The next row is the one. Most likely its key begins as the one before it.
    let key = OUTBOX;
    for (let cut = 1; cut < from.length - OUTBOX.length; cut *= 2) {
      const begin = from.slice(0, -cut);
      if (isHalf(begin) || !(await fails(earlier(end, `${begin}\u{10FFFF}`)))) continue;
      key = begin;
      break;
    }
    // What follows is found character by character. The runtime logs each read that fails, so there is one for each.
    while (!(await fails(after(key)))) {
      // No key is longer than storage allows.
      if (key.length > MOST_KEY_LENGTH) throw error;
      let next = "";
      for (let code = 0x20; code < 0x7f && !next; code++) {
        const character = String.fromCharCode(code);
        if (await fails(earlier(end, key + String.fromCharCode(code + 1)))) next = character;
      }
      key += next || (await wideCharacter((character) => fails(earlier(end, key + character))));
    }
    return key;
  }

  function unreadable(row: string, error: unknown): null {
    if (reported.has(row)) return null;
    if (reported.size >= MOST_REPORTED) reported.clear();
    reported.add(row);
    emit({ type: "unreadable", row, error: textOf(error), cause: error });
    return null;
  }

  return {
    values,
    unreadable,
    lost: () => lost,

    async list({ prefix = "", start = prefix, end = `${prefix}\u{10FFFF}`, limit = Number.POSITIVE_INFINITY, reverse = false }) {
      const rows: Row[] = [];
      for (let from = start, to = end; ; ) {
        const wanted = limit - rows.length;
        const found = await values({ start: from, end: to, reverse, ...(wanted < Number.POSITIVE_INFINITY && { limit: wanted }) });
        for (const [key, value] of found) {
          try {
            const data = decode(value);
            if (data.damaged) unreadable(key, damage(data.damaged, data.messages));
            if (data.messages.length > 0) rows.push({ key, data });
          } catch (error) {
            unreadable(key, error);
          }
        }
        const last = found.at(-1);
        if (last === undefined || found.length < wanted || rows.length >= limit) return rows;
        if (reverse) [to] = last;
        else from = after(last[0]);
      }
    },
  };
}

/** What is wrong with a row of which some messages can't be read. */
export function damage(damaged: readonly unknown[], messages: readonly unknown[]): Error {
  const [first] = damaged;
  const shown = typeof first === "string" ? JSON.stringify(first.slice(0, 60)) : typeof first;
  return new Error(`${damaged.length} of ${damaged.length + messages.length} messages in this row can't be read; the first is ${shown}.`);
}

/** The first key that can come after this one. */
function after(key: string): string {
  return `${key}\0`;
}

/** The most characters of a key: bytes, as the platform counts (2,048 on KV-backed objects, and our own are never longer). */
const MOST_KEY_LENGTH = 2048;

/** The last character outside ASCII that does not come after the one searched for. */
async function wideCharacter(isBefore: (character: string) => Promise<boolean>): Promise<string> {
  // All code points but the halves of pairs, which can't be part of a key.
  const character = (index: number): string => String.fromCodePoint(index < 0xd800 ? index : index + 0x800);
  let low = 0x7f;
  let high = 0x10ffff - 0x800;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (await isBefore(character(middle + 1))) high = middle;
    else low = middle + 1;
  }
  return character(low);
}

/** Whether a text ends in the middle of a pair. */
function isHalf(text: string): boolean {
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xd800 && last < 0xdc00;
}

function earlier(a: string, b: string): string {
  return byStorage(a, b) < 0 ? a : b;
}

/** The order of storage, by bytes of UTF-8: pairs, which make up the last code points, come last. */
export function byStorage(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    if (a.charCodeAt(i) !== b.charCodeAt(i)) return weight(a.charCodeAt(i)) - weight(b.charCodeAt(i));
  }
  return a.length - b.length;
}

function weight(unit: number): number {
  return unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit;
}
