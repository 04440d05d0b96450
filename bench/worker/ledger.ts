/** The ledger: what an object does to its storage and what is billed for it, counted below everything else. */

import type { Costs } from "../words.ts";

/** An alarm that is due within this time, in milliseconds, still belongs to what was done. */
const SOON_MS = 1000;
/** How long nothing must have happened, in milliseconds. */
const QUIET_MS = 10;

export type Class = new (ctx: DurableObjectState, env: never) => { alarm?(info?: AlarmInvocationInfo): unknown };

/** By object of a class that counts. */
export const ledgers = new WeakMap<object, Ledger>();

/** The class with a storage that counts. Own methods, defined before anybody else defines some above them. */
export function counted<C extends Class>(cls: C): C {
  const Counting = class extends (cls as Class) {
    constructor(ctx: DurableObjectState, env: never) {
      const ledger = ledgerOf(ctx.storage);
      let restore = (): void => {};
      // Before anything that the class queues: it may then look again for an alarm that is not its own.
      void ctx.blockConcurrencyWhile(async () => restore());
      super(ctx, env);
      ledgers.set(this, ledger);
      const own = Object.getOwnPropertyDescriptor(this, "alarm");
      const { alarm } = this;
      if (!alarm) return;
      // The runtime keeps the alarm that it finds once the constructor has returned.
      const value = (info?: AlarmInvocationInfo): unknown => {
        return ledger.run(() => alarm.call(this, info));
      };
      Object.defineProperty(this, "alarm", { value, configurable: true, writable: true });
      restore = () => {
        if (own) Object.defineProperty(this, "alarm", own);
        else delete this.alarm;
      };
    }

    costs(): Costs | undefined {
      return ledgers.get(this)?.take();
    }

    settled(): Promise<void> | undefined {
      return ledgers.get(this)?.settled();
    }
  };
  return Counting as unknown as C;
}

export interface Ledger {
  /** Grows with everything that is counted. */
  sum(): number;
  /** A run of the alarm. */
  run(alarm: () => unknown): Promise<void>;
  take(): Costs;
  /** Resolves when no alarm runs or soon will, and nothing more happens. Asked without reading anything that counts. */
  settled(): Promise<void>;
}

function ledgerOf(storage: DurableObjectStorage): Ledger {
  const getAlarm = storage.getAlarm.bind(storage);
  let running = 0;
  const costs: Costs = { rowsWritten: 0, rowsRead: 0, reads: 0, alarmsSet: 0, alarmRuns: 0 };
  const cursors = new Set<SqlStorageCursor<Record<string, SqlStorageValue>>>();
  shadow(storage, {
    put: (count, args) => {
      costs.rowsWritten += keysOf(args[0]);
      return count();
    },
    delete: (count, args) => {
      costs.rowsWritten += keysOf(args[0]);
      return count();
    },
    get: (count, args) => {
      costs.reads++;
      costs.rowsRead += keysOf(args[0]);
      return count();
    },
    // It is kept in memory: no row is read, and none is billed.
    getAlarm: (count) => {
      costs.reads++;
      return count();
    },
    setAlarm: (count) => {
      costs.alarmsSet++;
      return count();
    },
    list: async (count) => {
      costs.reads++;
      const found = (await count()) as Map<string, unknown>;
      costs.rowsRead += Math.max(1, found.size);
      return found;
    },
    transaction: () => {
      throw new TypeError("The ledger does not see what a transaction does: no contestant uses one.");
    },
  });
  shadow(storage.kv, {
    put: (count) => {
      costs.rowsWritten++;
      return count();
    },
    delete: (count) => {
      costs.rowsWritten++;
      return count();
    },
    get: (count) => {
      costs.reads++;
      costs.rowsRead++;
      return count();
    },
    list: (count) => {
      costs.reads++;
      const found = [...(count() as Iterable<[string, unknown]>)];
      costs.rowsRead += Math.max(1, found.length);
      return found;
    },
  });
  shadow(storage.sql, {
    exec: (count, args) => {
      if (/^\s*(SELECT|WITH)\b/i.test(String(args[0]))) costs.reads++;
      const cursor = count() as SqlStorageCursor<Record<string, SqlStorageValue>>;
      // A cursor counts on while it is read.
      cursors.add(cursor);
      return cursor;
    },
  });
  const busy = async (): Promise<boolean> => running > 0 || ((await getAlarm()) ?? Number.POSITIVE_INFINITY) < Date.now() + SOON_MS;
  const sum = (): number => Object.values(costs).reduce((all, each) => all + each, cursors.size);
  return {
    sum,

    async run(alarm) {
      costs.alarmRuns++;
      running++;
      try {
        await alarm();
      } finally {
        running--;
      }
    },
    async settled() {
      for (let before = -1; before !== sum() || (await busy()); ) {
        before = sum();
        await scheduler.wait(QUIET_MS);
      }
    },
    take() {
      for (const { rowsRead, rowsWritten } of cursors) {
        costs.rowsRead += rowsRead;
        costs.rowsWritten += rowsWritten;
      }
      cursors.clear();
      const taken = { ...costs };
      Object.assign(costs, { rowsWritten: 0, rowsRead: 0, reads: 0, alarmsSet: 0, alarmRuns: 0 });
      return taken;
    },
  };
}

type Counting = (native: () => unknown, args: unknown[]) => unknown;

export function shadow(target: object, methods: Record<string, Counting>): void {
  for (const [name, counting] of Object.entries(methods)) {
    const native = (target as Record<string, (...args: unknown[]) => unknown>)[name]?.bind(target);
    if (!native) throw new TypeError(`There is no ${name} to count.`);
    const value = (...args: unknown[]): unknown => counting(() => native(...args), args);
    Object.defineProperty(target, name, { value, configurable: true, writable: true });
  }
}

function keysOf(first: unknown): number {
  if (typeof first === "string") return 1;
  return Array.isArray(first) ? first.length : Object.keys(first as object).length;
}
