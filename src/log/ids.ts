/** Ids: which of the callers' own name a message that is stored, or one that was delivered a short while ago. */

import { NEVER } from "../storage/memory.js";
import { narrowed, type Read } from "../storage/message.js";
import { endOfSpills, type IdMemory, idKey, type KnownId, NO_IDS, type RememberedId, SPILLS, spillKey } from "../storage/rows.js";
import type { Store } from "../storage/store.js";

/**
 * The row of an id is written with its message, says where that is, and stays when it is delivered. From then on the id is remembered in the
 * header, and older ones, up to 64 in a row, in a spill. So remembering costs no row of its own, and forgetting no scan. Whether an id is still
 * known is decided by the time that is noted there, never by whether its row has been deleted yet.
 */
export interface Ids {
  /** What is known of an id. */
  lookup(id: string): Promise<Found | undefined>;
  /** The same at once, for a SQLite-backed object. */
  lookupSync(kv: SyncKvStorage, id: string): Found | undefined;
  /** The row of an id whose message is written in this turn. */
  name(rows: Record<string, unknown>, id: string, known: KnownId): void;
  /** For messages that are about to be given up: resolves to what forgets their ids at once, in the rows that the caller writes. */
  forgetting(ids: readonly Owner[]): Promise<(rows: Record<string, unknown>) => void>;
  /** What has to be read before messages are delivered: `null` where that is nothing. */
  prepare(delivered: readonly Delivered[]): Promise<Prepared> | null;
  /** The messages are delivered: remembers their ids, and forgets some of those whose time is over. Returns whether the header has changed. */
  deliver(delivered: readonly Delivered[], prepared: Prepared | null, rows: Record<string, unknown>): boolean;
}

export interface Found {
  readonly row: KnownId;
  /** Its time is over. So it is where a row has to be looked for that can't be read: better a message twice than never. */
  readonly over: boolean;
  /** The position of an earlier message that may be stored still, and whose id it is. */
  readonly first: number | undefined;
}

/** An id, and the position of a message that it named once. By now it may name another. */
export interface Owner {
  readonly id: string;
  readonly position: number;
}

export interface Delivered extends Owner {
  readonly sequence: number;
  /** It stood outside the queue, so that others of later positions may have been delivered before it. */
  readonly late: boolean;
}

interface Owned {
  /** What changed since would not be seen. */
  readonly version: number;
  /** Of each id that was asked for. */
  readonly rows: ReadonlyMap<string, KnownId | undefined>;
}

export interface Prepared extends Owned {
  /** Spills whose time is over, if some may be. */
  readonly overdue: Overdue | null;
}

interface Overdue {
  readonly spills: ReadonlyMap<string, readonly RememberedId[]>;
  /** When the time of the next one is over, or an earlier time: `NEVER` where there is none. */
  readonly next: number;
}

/** So many ids, and characters of them as JSON, are remembered in the header, which every put writes. */
const LIST_IDS = 32;
const LIST_LENGTH = 800;
/** So many in a spill, and so many are forgotten at a time, besides as many as are new. */
const SPILL_IDS = 64;
/** A time that is over. */
const OVER = 1;
/** So many keys are read at a time. */
const MAX_KEYS = 128;
/** @param windowMs how long the id of a message that was delivered is remembered */
export function idsOf(store: Omit<Store, "ids">, windowMs: number): Ids {
  const { memory } = store;
  let written = 0;
  /** Changes with the rows of ids, and when a transaction puts them back. */
  const version = (): number => written + store.rollbacks;

  /** What is known, by what was read. */
  function judge(id: string, row: KnownId | undefined, spilled?: RememberedId | null): Found | undefined {
    if (!row) return undefined;
    const [, , until] = listed(id, row[0]) ?? spilled ?? row;
    const first = row[3]?.first;
    const gone = first !== undefined && listed(id, first) !== undefined;
    return { row, over: spilled === null || (!!until && until <= store.now()), first: gone ? undefined : first };
  }

  function listed(id: string, position: number): RememberedId | undefined {
    return memory.ids.list.find((each) => each[0] === id && each[1] === position);
  }

  /** The one spill in which an id would be that was delivered in its turn. Others say by themselves how long they are remembered. */
  function spillOf(id: string, row: KnownId | undefined): SyncKvListOptions | undefined {
    if (!row || row[2] || memory.ids.spills === 0 || listed(id, row[0])) return undefined;
    return { start: spillKey(row[0], 0), end: endOfSpills, limit: 1 };
  }

  function find(id: string, row: KnownId | undefined, spills: Iterable<[string, unknown]>): RememberedId | undefined {
    const [first] = spills;
    return spillIn(first?.[1]).find((each) => each[0] === id && each[1] === row?.[0]);
  }

  async function read(ids: Iterable<string>): Promise<Owned> {
    for (;;) {
      const before = version();
      const keys = Array.from(new Set(ids));
      const rows = new Map<string, KnownId | undefined>();
      for (let i = 0; i < keys.length; i += MAX_KEYS) {
        const part = keys.slice(i, i + MAX_KEYS);
        const found = await store.native.get(part.map(idKey)).catch(() => oneByOne(part));
        for (const id of part) rows.set(id, knownIn(found.get(idKey(id))));
      }
      if (version() === before) return { version: before, rows };
    }
  }

  /** Those of the rows that can be read. What can't be read is kept as it is. */
  async function oneByOne(ids: readonly string[]): Promise<Map<string, unknown>> {
    const rows = new Map<string, unknown>();
    for (const key of ids.map(idKey)) rows.set(key, await store.native.get(key).catch((error) => store.unreadable(key, error)));
    return rows;
  }

  /** Spills whose time is over, as many as keep up with so many new ids. */
  async function overdue(count: number): Promise<Overdue> {
    const limit = 1 + Math.ceil(count / SPILL_IDS);
    const spills = new Map<string, readonly RememberedId[]>();
    for (const [key, value] of await store.reading.values({ start: SPILLS, end: endOfSpills, limit: limit + 1 })) {
      const spill = spillIn(value);
      const next = latest(spill);
      if (next > store.now() || spills.size === limit) return { spills, next };
      spills.set(key, spill);
    }
    return { spills, next: NEVER };
  }

  async function prepared(due: readonly string[], count: number, spills: boolean): Promise<Prepared> {
    const over = spills ? await overdue(count) : null;
    const spilled = Array.from(over?.spills.values() ?? [], (spill) => spill.map(([id]) => id));
    return { ...(await read([...due, ...spilled.flat()])), overdue: over };
  }

  /** Remembers these in the header, and as many of the older ones as it has no room for in spills. `read` is what is known of their rows. */
  function remember(list: readonly RememberedId[], state: IdMemory, rows: Record<string, unknown>, read: IdRows): void {
    let { spilled, spills, oldest, serial } = state;
    let rest = list;
    while (rest.length > LIST_IDS || narrowed(JSON.stringify(rest)).length > LIST_LENGTH) {
      const spill = rest.slice(0, SPILL_IDS);
      rest = rest.slice(SPILL_IDS);
      for (const [id, position, until, sequence] of spill) {
        const row = read.get(id);
        if (sequence === undefined) spilled = position;
        else if (row?.[0] === position) rows[idKey(id)] = [position, sequence, until, ...row.slice(3)];
      }
      if (spills++ === 0) oldest = latest(spill);
      rows[spillKey(spilled, ++serial)] = spill;
    }
    written++;
    memory.ids = rest.length > 0 || spills > 0 ? { ...state, list: rest, spilled, spills, oldest, serial } : NO_IDS;
  }

  return {
    async lookup(id) {
      for (;;) {
        const before = version();
        const row = knownIn(await store.native.get(idKey(id)));
        const range = spillOf(id, row);
        const spilled = range && (await store.native.list(range).then((spills) => find(id, row, spills), failed));
        if (version() === before) return judge(id, row, spilled);
      }
    },

    lookupSync(kv, id) {
      const row = knownIn(kv.get(idKey(id)));
      const range = spillOf(id, row);
      try {
        return judge(id, row, range && find(id, row, kv.list(range)));
      } catch (error) {
        return judge(id, row, failed(error));
      }
    },

    name(rows, id, known) {
      written++;
      rows[idKey(id)] = known;
    },

    async forgetting(ids) {
      if (ids.length === 0) return () => {};
      const owned = await read(ids.map(({ id }) => id));
      return (rows) => {
        // One that may have been given to another message since is looked at again with the next delivery.
        const stale = owned.version !== version();
        const forget = forgetter(new Map(owned.rows), rows);
        for (const { id, position } of ids) if (!stale) forget(id, position);
        const over = ids.map(({ id, position }): RememberedId => [id, position, OVER, 0]);
        if (stale) remember([...over, ...memory.ids.list], memory.ids, rows, new Map());
        written++;
      };
    },

    prepare(delivered) {
      const now = store.now();
      const { list, spills, oldest } = memory.ids;
      const due = list.filter(([, , until]) => until <= now).map(([id]) => id);
      if (windowMs === 0) due.push(...delivered.map(({ id }) => id));
      // Those that will be spilled and could not be found there.
      if (list.length + delivered.length > LIST_IDS / 4) {
        for (const [id, , , sequence] of list) if (sequence !== undefined) due.push(id);
        for (const { id, late } of inTurn(delivered, memory.ids)) if (late) due.push(id);
      }
      const over = spills > 0 && oldest <= now;
      return due.length > 0 || over ? prepared(due, delivered.length, over) : null;
    },

    deliver(delivered, prepared, rows) {
      const now = store.now();
      const owned = prepared?.version === version() ? prepared : undefined;
      if (delivered.length === 0 && !owned) return false;
      const current = new Map(owned?.rows);
      const forget = forgetter(current, rows);
      const over = ([id, , until]: RememberedId) => until <= now && owned?.rows.has(id) === true;
      const before = memory.ids;
      const { list, ...state } = before;
      let { through, spills, oldest } = state;
      for (const each of list) if (over(each)) forget(each[0], each[1]);
      if (owned?.overdue) {
        for (const [key, spill] of owned.overdue.spills) {
          for (const [id, position] of spill) forget(id, position);
          rows[key] = undefined;
        }
        const { next } = owned.overdue;
        spills = next === NEVER ? 0 : Math.max(1, spills - owned.overdue.spills.size);
        oldest = spills === 0 ? 0 : next;
      }
      const added: RememberedId[] = [];
      for (const { id, position, sequence, late } of inTurn(delivered, before)) {
        if (windowMs === 0 && owned) forget(id, position);
        else added.push(late ? [id, position, now + windowMs, sequence] : [id, position, now + windowMs]);
        if (!late) through = position;
      }
      remember([...list.filter((each) => !over(each)), ...added], { list, ...state, through, spills, oldest }, rows, current);
      return memory.ids !== before;
    },
  };

  function failed(error: unknown): null {
    store.unreadable(SPILLS, error);
    return null;
  }
}

/** The callers' own ids that messages have, or that refer to them. */
export function ownersOf(messages: readonly Pick<Read, "position" | "more">[]): Owner[] {
  return messages.flatMap(({ position, more: { id, as } }) => {
    const own = id ?? as;
    return own === undefined ? [] : [{ id: own, position }];
  });
}

/** What is known of the rows of ids. */
type IdRows = Map<string, KnownId | undefined>;

/** Forgets that an id named the message at a position, as far as its row, which was read, still says so. */
function forgetter(read: IdRows, rows: Record<string, unknown>): (id: string, position: number) => void {
  return (id, position) => {
    const [named, sequence = 0, until = 0, reissued] = read.get(id) ?? [];
    if (named === undefined) return;
    let row: KnownId | undefined;
    // As long as the first one is stored, no other message may have its id.
    if (named === position) row = reissued?.first === undefined ? undefined : [named, sequence, OVER, reissued];
    else if (reissued?.first === position) row = until === OVER ? undefined : [named, sequence, until, { id: reissued.id }];
    else return;
    read.set(id, row);
    rows[idKey(id)] = row;
  };
}

/** Marks those that come out of turn, and that their position therefore can't find: `late`. */
function inTurn(delivered: readonly Delivered[], { through }: IdMemory): readonly Delivered[] {
  let last = through;
  return delivered.map((each) => {
    if (each.late || each.position <= last) return { ...each, late: true };
    last = each.position;
    return each;
  });
}

function latest(spill: readonly RememberedId[]): number {
  return Math.max(0, ...spill.map(([, , until]) => until));
}

/** The row of an id. One that is damaged names nothing. */
function knownIn(value: unknown): KnownId | undefined {
  return Array.isArray(value) && Number.isSafeInteger(value[0]) ? (value as unknown as KnownId) : undefined;
}

/** The ids in a spill: none in one that is damaged, so that it is deleted in its turn. */
function spillIn(value: unknown): readonly RememberedId[] {
  return Array.isArray(value) ? (value as RememberedId[]) : [];
}
