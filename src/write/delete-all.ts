/** Erasing what is the object's own: everything that `deleteAll()` deletes, and no message. */

import { OutboxError } from "../api/errors.js";
import type { OutboxContext } from "../context.js";
import { NEVER } from "../storage/memory.js";
import type { Native } from "../storage/native.js";
import { HEADER, NO_IDS, RESERVED } from "../storage/rows.js";
import { undelivered } from "../subscription/reader.js";

/** Rows read at once: their values come with them. */
const PAGE_ROWS = 128;

export interface Eraser {
  /**
   * Deletes all that is the object's own, and in the same turn does `rest`. Messages stay where they are. On a SQLite-backed object
   * that is this turn. On a KV-backed one it has to read first, with `prepare` too; whatever is called meanwhile comes after it.
   */
  erase<T, P>(options: DurableObjectPutOptions | undefined, rest: (prepared?: P) => Promise<T>, prepare?: () => Promise<P>): Promise<T>;
  /** The object's own `deleteAll()`. */
  deleteAll(options?: DurableObjectPutOptions): Promise<void>;
}

export function eraserOf(parts: OutboxContext, native: DurableObjectStorage): Eraser {
  const { ctx, store, alarm, delivery, sqlite, kv } = parts;
  const { memory } = store;

  const eraser: Eraser = {
    async erase(options, rest, prepare) {
      if (store.open) throw new OutboxError("unsupported", "deleteAll() can't be called in a transaction.");
      const deleteAlarm = () => DELETES_ALARM && alarm.methods.deleteAlarm();
      if (sqlite) {
        eraseSqlite(native, kv, ctx.storage.sql);
        const deleted = deleteAlarm();
        const result = await rest();
        await deleted;
        return result;
      }
      const { turn } = parts;
      const done = (async () => {
        await turn;
        const prepared = await prepare?.();
        const keys = await ownKeys(native);
        const deleted = [deleteAlarm(), store.delete(keys, options)];
        const result = await rest(prepared);
        await Promise.all(deleted);
        return result;
      })();
      const over = done
        .catch(() => {})
        .then(() => {
          if (parts.loading === over) parts.loading = null;
          if (parts.erasing === over) parts.erasing = null;
        });
      parts.loading = parts.erasing = over;
      return done;
    },

    async deleteAll(options) {
      if (memory.settleAt < NEVER) delivery.record();
      // Messages were promised: they stay until they are delivered.
      const promised =
        memory.readers.some((reader) => undelivered(reader) + reader.deadCount > 0 || reader.paused) ||
        store.chores.some((chore) => chore.keepsRows());
      // The marker alone tells the outbox's own alarm from the object's, and a retry of the object's from a first call.
      const own = memory.ownAlarm ?? (memory.isRunningAtRest ? memory.runningAlarm : null);
      const ours = memory.nativeAlarmAt < NEVER && store.outboxAlarmLeft() === memory.nativeAlarmAt;
      const needed = !DELETES_ALARM && (ours || (own !== null && own.due > own.time));
      const keep = promised || needed || store.open || parts.turn;
      if (keep) {
        await eraser.erase(options, async () => {});
        // As the platform's own: durable when it resolves.
        return native.sync();
      }
      const deleted = native.deleteAll(options);
      if (DELETES_ALARM) alarm.forget();
      // The numbers are gone with the header: they must not run again.
      store.beginEpoch();
      store.log.forget();
      memory.key = HEADER;
      memory.ids = NO_IDS;
      return deleted;
    },
  };
  return eraser;
}

/** Whether `deleteAll()` takes the alarm with it: a compatibility flag, on by default from 2026-02-24. */
const DELETES_ALARM: boolean | undefined = (globalThis as { Cloudflare?: { compatibilityFlags?: Record<string, boolean> } }).Cloudflare
  ?.compatibilityFlags?.delete_all_deletes_alarm;

/** The keys that are the object's own. For KV-backed objects: nothing else may write until they are deleted. */
async function ownKeys(native: Native): Promise<string[]> {
  const keys: string[] = [];
  for (let start = ""; ; ) {
    const page = await native.list({ start, end: RESERVED, limit: PAGE_ROWS, noCache: true });
    keys.push(...page.keys());
    if (page.size < PAGE_ROWS) return keys;
    start = `${keys.at(-1)}\0`;
  }
}

/** For SQLite-backed objects: deletes all keys and drops all of the schema in this turn. @throws and has done nothing. */
function eraseSqlite(storage: Pick<DurableObjectStorage, "transactionSync">, kv: SyncKvStorage, sql: SqlStorage): void {
  storage.transactionSync(() => {
    for (let page: string[]; ; ) {
      page = Array.from(kv.list({ end: RESERVED, limit: PAGE_ROWS }), ([key]) => key);
      for (const key of page) kv.delete(key);
      if (page.length < PAGE_ROWS) break;
    }
    try {
      dropAll(sql);
    } catch (error) {
      // The platform's own deleteAll() ends cursors; nothing else can.
      if (!/SQLITE_LOCKED/.test(String(error))) throw error;
      throw new OutboxError("unsupported", "A cursor of sql.exec() is only partly read: read it to its end before deleteAll().");
    }
  });
}

/** Tables and views. Those whose names begin with `_cf_` or `sqlite_` are the platform's. */
const OBJECTS = String.raw`SELECT name, sql FROM sqlite_master WHERE type = ? AND name NOT LIKE '\_cf\_%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`;

function dropAll(sql: SqlStorage): void {
  const all = (type: string) => sql.exec<{ name: string; sql: string | null }>(OBJECTS, type).toArray();
  const drop = (type: string, name: string) => sql.exec(`DROP ${type} "${name.replaceAll('"', '""')}"`);
  for (const { name } of all("view")) drop("view", name);
  // The tables of a virtual one go with it, and can't go by themselves.
  for (const { name, sql } of all("table")) if (/^CREATE\s+VIRTUAL/i.test(sql ?? "")) drop("table", name);
  // A table that others refer to may go first: what refers to it goes as well.
  const { defer_foreign_keys: deferred } = sql.exec("PRAGMA defer_foreign_keys").one();
  sql.exec("PRAGMA defer_foreign_keys = ON");
  for (const { name } of all("table")) drop("table", name);
  sql.exec(`PRAGMA defer_foreign_keys = ${deferred}`);
}
