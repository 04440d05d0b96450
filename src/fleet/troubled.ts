/** The table of a registry's shard: one row for each object in trouble, with its destinations in JSON, so that a report costs one row. */

import type { FleetEntry, FleetFilter, FleetPage, FleetTrouble } from "../inspector/fleet-api.js";
import type { FleetReceipt, FleetReport, FleetReportEntry } from "./report.js";
import { bitOf, scoreOf, troublesIn } from "./trouble.js";

/** An object that is well again is remembered for so long, in milliseconds: an older report may still arrive. */
const WELL_MS = 600_000;
/** So many of those are forgotten with each report. */
const FORGET = 4;
/** When the table is full, so many of its objects make room at once: those that are least in trouble. */
const ROOM = 100;
/** The most names of destinations that a page lists. */
const MOST_DESTINATIONS = 100;

/** An entry of the column `entries`. */
interface Stored {
  /** Destination, flags, dead letters, waiting messages, since when, and its score. */
  readonly d: string;
  readonly f: number;
  readonly n: number;
  readonly w: number;
  readonly s: number;
  readonly c: number;
  readonly e?: string;
}

/** The place of an entry in the order: worst first. */
export type Place = readonly [score: number, id: string, destination: string];

/** An entry and its place. */
export interface Placed {
  readonly entry: FleetEntry;
  readonly place: Place;
}

/** What a shard knows of the entries that match. */
export interface ShardPage extends Omit<FleetPage, "entries" | "next" | "omitted"> {
  readonly placed: readonly Placed[];
  /** Objects that have been left out, because the shard was full. */
  readonly omitted: number;
}

type Row = Record<string, SqlStorageValue>;

export interface Troubled {
  /** Takes a report, unless a later one has arrived. */
  report(report: FleetReport, now: number): FleetReceipt;
  /** Entries that match, worst first, behind a place. */
  list(filter: FleetFilter, after: Place | undefined, limit: number): ShardPage;
  /** Entries that have matched since a time, in the order of ids, behind one: for work that goes through all of them. */
  walk(filter: FleetFilter, before: number, after: readonly [id: string, destination: string] | undefined, limit: number): FleetEntry[];
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS troubled (
    id TEXT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT, version INTEGER NOT NULL, reported_at INTEGER NOT NULL,
    score INTEGER NOT NULL, entries TEXT NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;`;

const FROM = "FROM troubled o, json_each(o.entries) e WHERE o.score > 0";
const [DESTINATION, FLAGS, SCORE, SINCE] = ["d", "f", "c", "s"].map((name) => `json_extract(e.value, '$.${name}')`);

/** @param most the most objects that the table holds */
export function troubledOf(sql: SqlStorage, most: number): Troubled {
  for (const statement of SCHEMA.split(";")) if (statement.trim()) sql.exec(statement);
  const one = <R extends Row>(query: string, ...values: SqlStorageValue[]): R | undefined => sql.exec<R>(query, ...values).toArray()[0];
  let count = one<{ n: number }>("SELECT COUNT(*) AS n FROM troubled")?.n ?? 0;
  /** Objects that are well again, oldest first. */
  const well = new Map(
    sql
      .exec<{ id: string; at: number }>("SELECT id, reported_at AS at FROM troubled WHERE score = 0 ORDER BY at")
      .toArray()
      .map(({ id, at }) => [id, at]),
  );
  let omitted = one<{ value: number }>("SELECT value FROM counters WHERE name = 'omitted'")?.value ?? 0;

  function remove(id: string): void {
    sql.exec("DELETE FROM troubled WHERE id = ?", id);
    well.delete(id);
    count--;
  }

  function forget(now: number): void {
    let left = FORGET;
    for (const [id, at] of well) {
      if (left-- === 0 || at > now - WELL_MS) break;
      remove(id);
    }
  }

  /** Makes room for one more object of a score. Returns whether there is. */
  function hasRoom(score: number): boolean {
    if (count < most) return true;
    if (score === 0) return false;
    const least = sql
      .exec<{ id: string; score: number }>("SELECT id, score FROM troubled ORDER BY score, reported_at LIMIT ?", Math.min(ROOM, most))
      .toArray()
      .filter((row) => row.score < score);
    for (const { id } of least) remove(id);
    omitted += Math.max(1, least.filter((row) => row.score > 0).length);
    sql.exec("INSERT OR REPLACE INTO counters VALUES ('omitted', ?)", omitted);
    return least.length > 0;
  }

  const stored = (entries: readonly FleetReportEntry[], before: readonly Stored[], now: number): Stored[] =>
    entries
      .filter(({ flags }) => flags > 0)
      .map(({ destination, flags, dead, waiting, error }) => ({
        ...{ d: destination, f: flags, n: dead, w: waiting, c: scoreOf(flags, dead + waiting) },
        s: before.find(({ d }) => d === destination)?.s ?? now,
        ...(error !== undefined && { e: error }),
      }));

  return {
    report({ namespace, id, name, version, entries }, now) {
      const before = one<{ version: number; entries: string }>("SELECT version, entries FROM troubled WHERE id = ?", id);
      if (before && before.version >= version) return { version: before.version, isIgnored: true };
      forget(now);
      const all = stored(entries, before ? (JSON.parse(before.entries) as Stored[]) : [], now);
      const score = Math.max(0, ...all.map(({ c }) => c));
      // It may have been forgotten just now.
      const isNew = !before || !(well.has(id) || before.entries !== "[]");
      if (isNew && !hasRoom(score)) return { version };
      const values = [id, namespace, name ?? null, version, now, score, JSON.stringify(all)];
      sql.exec("INSERT OR REPLACE INTO troubled VALUES (?, ?, ?, ?, ?, ?, ?)", ...values);
      if (isNew) count++;
      well.delete(id);
      if (score === 0) well.set(id, now);
      return { version };
    },

    list(filter, after, limit) {
      const [where, ...values] = matching(filter);
      const { n: total, ...counts } = one<{ n: number } & Row>(
        `SELECT COUNT(*) AS n, ${(["dead", "stuck", "breaker", "paused"] as const)
          .map((trouble) => `SUM((${FLAGS} & ${bitOf(trouble)}) > 0) AS ${trouble}`)
          .join(", ")} ${FROM} ${where}`,
        ...values,
      ) ?? { n: 0 };
      const destinations = sql.exec<{ d: string }>(`SELECT DISTINCT ${DESTINATION} AS d ${FROM} ORDER BY d LIMIT ${MOST_DESTINATIONS}`);
      const [next, ...nextValues] = after ? behindPlace(after) : [""];
      const rows = sql.exec<Row>(
        `SELECT o.namespace, o.id, o.name, o.reported_at, e.value AS entry ${FROM} ${where} ${next}
         ORDER BY ${SCORE} DESC, o.id, ${DESTINATION} LIMIT ?`,
        ...[...values, ...nextValues, limit],
      );
      const troubles = Object.entries(counts).filter(([, n]) => n) as [FleetTrouble, number][];
      return {
        placed: rows.toArray().map(placed),
        total,
        troubles: Object.fromEntries(troubles),
        destinations: destinations.toArray().map(({ d }) => d),
        omitted,
      };
    },

    walk(filter, before, after, limit) {
      const [where, ...values] = matching(filter);
      const next = after ? `AND (o.id > ? OR (o.id = ? AND ${DESTINATION} > ?))` : "";
      const rows = sql.exec<Row>(
        `SELECT o.namespace, o.id, o.name, o.reported_at, e.value AS entry ${FROM} ${where} AND ${SINCE} <= ? ${next}
         ORDER BY o.id, ${DESTINATION} LIMIT ?`,
        ...[...values, before, ...(after ? [after[0], after[0], after[1]] : []), limit],
      );
      return rows.toArray().map((row) => placed(row).entry);
    },
  };
}

/** The condition of a filter, and the values that it names. */
function matching({ search, namespace, destination, trouble }: FleetFilter): [string, ...SqlStorageValue[]] {
  const values: SqlStorageValue[] = [];
  let where = "";
  const and = (condition: string, ...given: SqlStorageValue[]): void => {
    where += ` AND ${condition}`;
    values.push(...given);
  };
  if (namespace !== undefined) and("o.namespace = ?", namespace);
  if (destination !== undefined) and(`${DESTINATION} = ?`, destination);
  if (trouble !== undefined) and(`(${FLAGS} & ${bitOf(trouble)}) > 0`);
  if (search) and("(instr(lower(o.name), lower(?)) > 0 OR substr(o.id, 1, length(?)) = lower(?))", search, search, search);
  return [where, ...values];
}

function behindPlace([score, id, destination]: Place): [string, ...SqlStorageValue[]] {
  const condition = `AND (${SCORE} < ? OR (${SCORE} = ? AND (o.id > ? OR (o.id = ? AND ${DESTINATION} > ?))))`;
  return [condition, score, score, id, id, destination];
}

function placed({ namespace, id, name, reported_at, entry }: Row): Placed {
  const { d, f, n, w, s, c, e } = JSON.parse(entry as string) as Stored;
  return {
    place: [c, id as string, d],
    entry: {
      namespace: namespace as string,
      id: id as string,
      ...(name !== null && { name: name as string }),
      ...{ destination: d, troubles: troublesIn(f), dead: n, waiting: w },
      ...(e !== undefined && { error: e }),
      since: s,
      reportedAt: reported_at as number,
    },
  };
}
