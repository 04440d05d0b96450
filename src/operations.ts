/** Operations: what whoever is on call sees of an outbox and does to it. */

import { expected } from "./errors.js";
import { linesOf, messagesIn } from "./lines.js";
import { NEVER, type Row } from "./memory.js";
import { digits, identify, type More, type OutboxListed, positionOf, present, type Read, readMessage, restored } from "./message.js";
import { within } from "./options.js";
import { gate, type Parts } from "./parts.js";
import { idKey, type Kind, type KnownId, keyNumber, kindOf, LANES, LAST_NUMBER, laneKey, lanePrefix, numberedKey, rowsOf } from "./rows.js";
import { PAGE_ROWS, stored } from "./store.js";
import { tried } from "./trouble.js";

/** What `list` shows. */
export interface OutboxListOptions {
  /**
   * `"pending"` (default): in the queue, waiting for nothing but its turn. `"delayed"`: waiting for a time, or behind a
   * message with the same ordering key. `"dead"`: given up.
   */
  state?: "pending" | "delayed" | "dead";
  /** How many at most. Default 100, from 1 to 1,000. */
  limit?: number;
  /** Continue behind the message with this id, the last of the page before. */
  after?: string;
}

/** The rows in which messages of a state stand. */
const KINDS = { pending: ["t", "s"], delayed: ["t", "k", "s"], dead: ["d"] } as const;

/** The operations of one object's manager. `wake` arms the next wake-up, and is called in the turn of the writes. */
export function operations(parts: Parts, wake: () => Promise<void> | undefined): object {
  const { store, delivery } = parts;
  const { memory } = store;
  const { queue } = delivery;

  /** Messages in rows of a kind, in the order in which they stand; those of the queue with those of the header, whose row is `null`. */
  async function* messagesOf(kind: Kind, after = 0): AsyncGenerator<Read & { row: Row | null }> {
    const begin = kind === "s" ? ((await segmentAt(after))?.key ?? numberedKey("s", memory.first)) : rowsOf(kind, after);
    for (let start = begin; ; ) {
      const { last } = memory;
      const rows =
        kind === "k"
          ? await store.list({ start, end: LANES, limit: PAGE_ROWS })
          : await store.page(kind, start, kind === "s" ? last : LAST_NUMBER);
      for (const row of rows) {
        start = `${row.key}\0`;
        for (const message of row.data.messages) yield { ...readMessage(row.data, message), row };
      }
      if (rows.length > 0 || (kind === "s" && memory.last > last)) continue;
      if (kind === "s") for (const message of messagesIn(memory.newest)) yield { ...readMessage(memory, message), row: null };
      return;
    }
  }

  /** The last segment that begins at or before a position. */
  async function segmentAt(position: number): Promise<Row | undefined> {
    let found: Row | undefined;
    for (let low = memory.first, high = memory.last; position > 0 && low <= high; ) {
      const middle = Math.floor((low + high) / 2);
      const [row] = await store.page("s", numberedKey("s", middle), high, 1);
      const [first] = row?.data.messages ?? [];
      if (row && first !== undefined && positionOf(first) <= position) {
        found = row;
        low = keyNumber(row.key) + 1;
      } else high = middle - 1;
    }
    return found;
  }

  /** Where the message with this id stands, as far as the id or its row tells. */
  async function locate(id: unknown): Promise<number | undefined> {
    if (typeof id !== "string") throw expected("id", "the id of a message", id);
    const [, epoch, sequence] = /^(.+)-(\d{15})$/s.exec(id) ?? [];
    if (epoch === memory.epoch) return memory.base + Number(sequence);
    return (await store.native.get<KnownId>(idKey(id.slice(0, 256))))?.[0];
  }

  function idOf({ stream, position, more }: Read): string {
    return identify(stream, position, more.id).id;
  }

  /** Reads a row as it stands when this resolves. Whoever has it in hand will write it as it has it, so that is the row. */
  async function latest(range: DurableObjectListOptions): Promise<Row | undefined> {
    for (;;) {
      const { settled } = queue;
      const [row] = await store.list({ ...range, limit: 1 });
      // Meanwhile a batch may have changed it.
      if (queue.settled === settled) {
        const is = ({ key }: { key: string }) => key === row?.key;
        return queue.batch?.rows.find(is) ?? store.recent(is) ?? row;
      }
    }
  }

  /**
   * Dead letters in steps, each of which `each` turns into what is written in one commit. Resolves to how many there were.
   *
   * @param lane reads first where a letter with an ordering key belongs
   */
  async function ofDead(
    ids: unknown,
    lane: boolean,
    each: (letter: Read, rows: Record<string, unknown>, at?: Row) => void,
  ): Promise<number> {
    if (ids !== undefined && !Array.isArray(ids)) throw expected("ids", "a list of ids", ids);
    await gate(parts);
    return queue.alone(async () => {
      let count = 0;
      const step = async (letters: Read[], at?: Row): Promise<void> => {
        const rows: Record<string, unknown> = {};
        for (const letter of letters) {
          rows[numberedKey("d", letter.position)] = undefined;
          memory.dead--;
          each(letter, rows, at);
        }
        count += letters.length;
        if (letters.length === 0) return;
        rows[memory.key] = store.header();
        const written = store.write(rows);
        void wake();
        await written;
      };
      /** Those without a key in one step, those with one each in its own. */
      const steps = async (letters: Read[]): Promise<void> => {
        await step(letters.filter(({ more }) => !lane || more.key === undefined));
        for (const letter of letters) {
          if (!lane || letter.more.key === undefined) continue;
          const prefix = lanePrefix(letter.more.key);
          await step([letter], await latest({ start: prefix, end: prefix + digits(letter.position + 1), reverse: true }));
        }
      };
      const scanned = new Set<string>();
      for (const id of ids ?? []) {
        const position = await locate(id);
        if (position === undefined) scanned.add(id);
        else {
          const [row] = await store.page("d", numberedKey("d", position), position, 1);
          const [letter] = row?.data.messages ?? [];
          const read = row && letter !== undefined ? [readMessage(row.data, letter)] : [];
          await steps(read.filter((letter) => idOf(letter) === id));
        }
      }
      if (ids && scanned.size === 0) return count;
      let letters: Read[] = [];
      for await (const letter of messagesOf("d")) {
        if (!ids || scanned.has(idOf(letter))) letters.push(letter);
        if (letters.length < PAGE_ROWS) continue;
        await steps(letters);
        letters = [];
      }
      await steps(letters);
      return count;
    });
  }

  return {
    async list({ state = "pending", limit, after }: OutboxListOptions = {}) {
      if (!Object.hasOwn(KINDS, state)) throw expected("options.state", '"pending", "delayed" or "dead"', state);
      const most = within("options.limit", limit, [100, 1, 1000, 1]);
      await gate(parts);
      const position = after === undefined ? undefined : await locate(after);
      const now = Date.now();
      const listed: OutboxListed[] = [];
      let behind = after === undefined;
      for (const kind of KINDS[state]) {
        // Where rows stand in the order of positions, a page begins where the last one ended. Elsewhere that is looked for.
        const from = !behind && (kind === "s" || kind === "d") ? position : undefined;
        for await (const { row, ...read } of messagesOf(kind, from)) {
          const { due = 0, attempts = 0, reason, error = "", first = 0, last = 0 } = read.more;
          if (state === "pending" && kind === "t" && due > now) break;
          if (from !== undefined && read.position <= from) continue;
          if (!behind && from === undefined) behind = idOf(read) === after;
          else if (kind === "k" || kind === "d" || due > now === (state === "delayed")) {
            const shown = present(read, kind === "s" ? tried(memory.trouble, read.position) : attempts);
            const rest = kind === "d" ? { reason, error, firstFailedAt: first, lastFailedAt: last } : due > now && { deliverAt: due };
            if (listed.push({ ...shown, ...rest } as OutboxListed) >= most) return listed;
          }
        }
      }
      return listed;
    },

    async stats() {
      await gate(parts);
      const { main, late, aside, ready, laned, lanes, dead, trouble, paused, since } = memory;
      const { failures } = trouble;
      const [head] = main ? await store.page("s", numberedKey("s", memory.first), memory.last, 1) : [];
      const [oldest] = main ? (head?.data.messages ?? messagesIn(memory.newest)) : [];
      const at = Math.min(since || NEVER, oldest === undefined ? NEVER : readMessage(head?.data ?? memory, oldest).at);
      const wake = delivery.nextAttempt();
      // A lane of which the last message was cancelled ends when it is looked at next.
      const heads = Math.min(lanes.size, laned);
      return {
        pending: main - late + ready,
        delayed: late + aside - ready + heads,
        blocked: laned - heads,
        dead,
        oldestAgeSeconds: at < NEVER ? Math.max(0, Date.now() - at) / 1000 : 0,
        nextAttemptAt: wake < NEVER ? wake : null,
        breaker: failures > 0 ? "open" : "closed",
        failures,
        paused,
      };
    },

    redrive: (ids?: string[]) =>
      ofDead(ids, true, (letter, rows, at) => {
        const { id, key, headers, alone } = letter.more;
        const more: More = {
          ...(id !== undefined && { id }),
          ...(key !== undefined && { key }),
          ...(headers && { headers }),
          ...(alone && { alone }),
        };
        // Others of its key may still stand in the queue, and belong before it.
        const earlier = memory.main > 0 && letter.position > memory.done;
        if (at && at.data.epoch === letter.stream.epoch && !earlier) {
          // In the midst of a row that stands already.
          at.data.messages = [...at.data.messages, restored(letter, more)].sort((a, b) => positionOf(a) - positionOf(b));
          rows[at.key] = stored(at.data);
          memory.laned++;
        } else queue.join(key, [{ ...letter, more }], rows);
        if (key !== undefined) queue.wakeLane(key, rows, earlier || undefined);
      }),

    discard: (ids: string[]) =>
      ofDead(ids ?? null, false, ({ more }, rows) => {
        if (more.id !== undefined) rows[idKey(more.id)] = undefined;
      }),

    async cancel(id: string) {
      await gate(parts);
      return queue.alone(async () => {
        const position = await locate(id);
        for (const kind of ["s", "t", "k"] as const) {
          for await (const { row, ...read } of messagesOf(kind, kind === "s" ? position : 0)) {
            if (kind === "s" && position !== undefined && read.position > position) break;
            if (idOf(read) === id) return remove(row, read);
          }
        }
        return false;
      });
    },

    async pause() {
      await gate(parts);
      memory.paused = true;
      // The header says whose alarm stands from now on.
      void wake();
      return store.saveHeader();
    },

    async resume() {
      await gate(parts);
      memory.paused = false;
      if (memory.main) memory.next = 0;
      if (memory.aside + memory.laned) memory.due = 0;
      const saved = store.saveHeader();
      await Promise.all([saved, wake()]);
      delivery.kick();
    },

    async flush() {
      await gate(parts);
      // A transaction would wait for itself: delivery waits for its end.
      if (!store.waits() || store.open) return;
      const { lease } = memory.trouble;
      await delivery.run(false);
      // The first run after a death takes one batch.
      if (lease && delivery.isDue()) await delivery.run(false);
    },

    async newEpoch() {
      await gate(parts);
      return store.newEpoch();
    },
  };

  /** Takes a message that has never been handed over out of its row. */
  async function remove(found: Row | null, { position, more }: Read): Promise<boolean> {
    const read = found && (await latest({ start: found.key, end: `${found.key}\0` }));
    const { batch } = queue;
    const held = batch?.handed.some((entry) => entry.position === position);
    // A full header has moved its messages, and a segment that a put has closed a moment ago may be written again.
    const row = read ?? store.recent(({ data }) => data.messages.some((message) => positionOf(message) === position)) ?? null;
    const messages = row?.data.messages ?? messagesIn(memory.newest);
    const rest = messages.filter((message) => positionOf(message) !== position);
    const attempts = row && kindOf(row.key) !== "s" ? more.attempts : tried(memory.trouble, position);
    if (held || attempts || rest.length === messages.length) return false;
    if (batch) batch.entries = batch.entries.filter((entry) => entry.position !== position);
    const rows: Record<string, unknown> = {};
    const kind = row ? kindOf(row.key) : "s";
    if (row) {
      row.data.messages = rest;
      if (row.key === memory.moved?.key) memory.moved = row;
      rows[row.key] = rest.length > 0 ? stored(row.data) : undefined;
    } else memory.newest = linesOf(rest);
    if (row && kind === "t") {
      memory.aside--;
      if (keyNumber(row.key) === 0) memory.ready--;
    } else if (kind === "k") {
      memory.laned--;
      queue.wakeLane(more.key ?? "", rows);
      if (memory.laned === 0) {
        // Nobody would look at what is left of the lanes.
        for (const key of memory.lanes.keys()) rows[laneKey(key)] = undefined;
        memory.lanes = new Map();
      }
    } else {
      memory.main--;
      if (more.due !== undefined) memory.late--;
    }
    if (memory.main === 0) memory.next = NEVER;
    if (more.id !== undefined) rows[idKey(more.id)] = undefined;
    rows[memory.key] = store.header();
    const written = store.write(rows);
    void wake();
    await written;
    return true;
  }
}
