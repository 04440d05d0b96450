/** The storage API of one life of the object: every call passes the hook, and what it writes goes to a layer. */

import { compareKeys, copied, Layer } from "./layers.ts";
import type { Life, Loop, Section } from "./loop.ts";
import { alarmTime, type Backend, checkEntry, checkKeys, checkRange, inRange } from "./rules.ts";
import { execute, INSERT, isSqlRow } from "./sql.ts";

/** What storage needs of the world around it. */
export interface Ground {
  readonly loop: Loop;
  readonly backend: Backend;
  /**
   * - `split`: each call that is awaited ends its turn, which is all that the documentation promises.
   * - `joined`: what a call gives is there at once, as on workerd, so that a whole chain of awaits is one turn.
   */
  readonly tempo: "split" | "joined";
  /** Passes one step of the object's story. Returns whether the object still lives. */
  hook(label: string): boolean;
  /** The durable alarm, as the object may see it now. */
  alarm(): number | null;
  hasHandler(): boolean;
  /** Calls `then` when everything is durable that has been written. */
  durable(then: () => void): void;
}

/** A promise of an object that has died never settles. A new one each time: on a common one, whoever waits would pile up. */
const never = <T>(): Promise<T> => new Promise<T>(() => {});

const dead = (): Error => new Error("The object has died: nothing of it may run on.");

/** The operations on one layer, as a transaction and as storage have them. */
export class Operations {
  constructor(
    protected readonly ground: Ground,
    protected readonly life: Life,
    protected readonly layer: () => Layer,
  ) {}

  /** Runs `work` as one step, and gives what it gives when storage has ended. */
  protected perform<T>(label: string, work: () => T, gated = true): Promise<T> {
    const { ground, life } = this;
    const { loop } = ground;
    if (life.dead || !ground.hook(label)) return never();
    const { section } = loop;
    let settle: (resolve: (value: T) => void, reject: (error: unknown) => void) => void;
    try {
      const value = work();
      settle = (resolve) => resolve(value);
    } catch (error) {
      settle = (_, reject) => reject(error);
    }
    if (life.dead || !ground.hook(`${label} done`)) return never();
    if (ground.tempo === "joined") return new Promise(settle);
    if (gated) loop.busy++;
    return new Promise((resolve, reject) => {
      const end = (): void => {
        if (gated) loop.busy--;
        settle(resolve, reject);
      };
      loop.add("storage", end, life, section);
    });
  }

  protected performSync<T>(label: string, work: () => T): T {
    if (this.ground.backend === "kv") throw new Error("This Durable Object is not backed by SQLite storage.");
    if (this.life.dead || !this.ground.hook(label)) throw dead();
    const value = work();
    if (this.life.dead || !this.ground.hook(`${label} done`)) throw dead();
    return value;
  }

  get(first: string | string[]): Promise<unknown> {
    return this.perform("get", () => this.read(first));
  }

  list(range: DurableObjectListOptions = {}): Promise<Map<string, unknown>> {
    return this.perform("list", () => this.range(range));
  }

  put(first: string | Record<string, unknown>, second?: unknown, third?: DurableObjectPutOptions): Promise<void> {
    return this.perform("put", () => {
      if (typeof first === "string") {
        if (second === undefined) throw new TypeError("put() called with undefined value.");
        return this.write([[first, second]], third);
      }
      if (Object(first) !== first) throw new TypeError("put() may only be called with a single key-value pair or an object.");
      this.write(
        Object.entries(first).filter(([, value]) => value !== undefined),
        second as DurableObjectPutOptions | undefined,
      );
    });
  }

  delete(first: string | string[], options?: DurableObjectPutOptions): Promise<boolean | number> {
    return this.perform("delete", () => this.remove(first, options));
  }

  getAlarm(): Promise<number | null> {
    return this.perform("getAlarm", () => {
      const { alarm } = this.layer();
      return alarm === undefined ? this.ground.alarm() : alarm;
    });
  }

  setAlarm(time: number | Date): Promise<void> {
    return this.perform("setAlarm", () => {
      if (!this.ground.hasHandler()) throw new TypeError("Your Durable Object class must have an alarm() handler to call setAlarm().");
      this.confirmed().setAlarm(alarmTime(time, this.ground.loop.clock));
    });
  }

  deleteAlarm(): Promise<void> {
    return this.perform("deleteAlarm", () => this.confirmed().setAlarm(null));
  }

  /** The layer that is written to. */
  protected confirmed({ allowUnconfirmed }: DurableObjectPutOptions = {}): Layer {
    const layer = this.layer();
    if (!allowUnconfirmed) layer.confirms = true;
    return layer;
  }

  protected read(first: string | string[]): unknown {
    const layer = this.layer();
    checkKeys(this.ground.backend, [first].flat());
    if (typeof first === "string") return copied(layer.get(first));
    const found = first.map((key): [string, unknown] => [key, copied(layer.get(key))]).filter(([, value]) => value !== undefined);
    return new Map(found.sort(([a], [b]) => compareKeys(a, b)));
  }

  protected range(range: DurableObjectListOptions): Map<string, unknown> {
    checkRange(range);
    const found = new Map<string, unknown>();
    const wanted = inRange(range, compareKeys);
    this.layer().collect(found, (key) => wanted(key) && !isSqlRow(key));
    const keys = [...found.keys()].sort(compareKeys);
    if (range.reverse) keys.reverse();
    return new Map(keys.slice(0, range.limit).map((key) => [key, copied(found.get(key))]));
  }

  /** Every value is serialised before the first is written: one that can't be leaves nothing. */
  protected write(entries: [string, unknown][], options?: DurableObjectPutOptions): void {
    const { backend } = this.ground;
    checkKeys(
      backend,
      entries.map(([key]) => key),
    );
    const copies = entries.map(([key, value]): [string, unknown] => [key, copied(value)]);
    for (const [key, value] of copies) checkEntry(backend, key, value);
    if (copies.length === 0) return;
    const layer = this.confirmed(options);
    for (const [key, value] of copies) layer.put(key, value);
  }

  protected remove(first: string | string[], options?: DurableObjectPutOptions): boolean | number {
    const layer = this.confirmed(options);
    checkKeys(this.ground.backend, [first].flat());
    return typeof first === "string" ? layer.remove(first) : first.filter((key) => layer.remove(key)).length;
  }
}

/** What a transaction's closure gets. */
export class Transaction extends Operations {
  #rolledBack = false;
  readonly #own: Layer;
  readonly #left: () => void;

  /** @param left is told of a rollback: what is written from then on goes to what lies below */
  constructor(ground: Ground, life: Life, own: Layer, layer: () => Layer, left: () => void) {
    super(ground, life, layer);
    this.#own = own;
    this.#left = left;
  }

  get rolledBack(): boolean {
    return this.#rolledBack;
  }

  rollback(): void {
    this.#rolledBack = true;
    this.#own.drop();
    this.#left();
  }

  protected override perform<T>(label: string, work: () => T): Promise<T> {
    return super.perform(`txn.${label}`, () => {
      if (this.#rolledBack) throw new Error(`Cannot ${label}() on rolled back transaction`);
      return work();
    });
  }

  deleteAll(): never {
    throw new Error("Cannot call deleteAll() within a transaction");
  }
}

/** `ctx.storage`. */
export class Storage extends Operations {
  /** What this turn has written. */
  readonly turn: Layer;
  /** The open transactions. On SQLite-backed objects everything that is written goes to the innermost; on KV-backed ones only `txn` does. */
  readonly #open: Layer[];
  readonly sql: unknown;
  #kv: unknown;

  constructor(ground: Ground, life: Life, turn: Layer) {
    const open: Layer[] = [];
    super(ground, life, () => (ground.backend === "sqlite" ? (open.at(-1) ?? turn) : turn));
    this.turn = turn;
    this.#open = open;
    this.sql = this.#sqlOf(ground.backend);
  }

  /** Where everything lies that has been written: the innermost transaction, or the turn. */
  get written(): Layer {
    return this.#open.at(-1) ?? this.turn;
  }

  get kv(): unknown {
    this.#kv ??= {
      get: (key: string) => this.performSync("kv.get", () => this.read(key)),
      put: (key: string, value: unknown) => this.performSync("kv.put", () => this.write([[key, value]])),
      delete: (key: string) => this.performSync("kv.delete", () => this.remove(key)),
      list: (range: DurableObjectListOptions = {}) => this.performSync("kv.list", () => this.range(range).entries()),
    };
    return this.#kv;
  }

  /** Its size, and statements: those that write are steps. */
  #sqlOf(backend: Backend): unknown {
    const check = (): void => {
      if (backend === "kv") throw new Error("SQL is not enabled for this Durable Object class.");
    };
    return {
      get databaseSize() {
        check();
        return 4096;
      },
      exec: (statement: string, ...bindings: unknown[]) => {
        check();
        const run = () => execute(() => this.layer(), statement, bindings);
        const rows = statement === INSERT ? this.performSync("sql", run) : run();
        return { toArray: () => rows, one: () => rows[0], [Symbol.iterator]: () => rows[Symbol.iterator]() };
      },
    };
  }

  sync(): Promise<void> {
    if (this.life.dead || !this.ground.hook("sync")) return never();
    const { loop, durable } = this.ground;
    const { section } = loop;
    return new Promise((resolve) => {
      durable(() => loop.add("storage", resolve, this.life, section));
    });
  }

  deleteAll(): Promise<void> {
    return this.perform("deleteAll", () => {
      if (this.#open.length > 0) throw new Error("Cannot call deleteAll() within a transaction");
      this.confirmed().wipe();
      if (deletesAlarm()) this.turn.setAlarm(null);
    });
  }

  transaction<T>(closure: (txn: Transaction) => Promise<T>): Promise<T> {
    const { ground, life } = this;
    if (life.dead || !ground.hook("transaction")) return never();
    return ground.loop.enclose(life, (section) => this.#within(section, closure));
  }

  async #within<T>(_: Section, closure: (txn: Transaction) => Promise<T>): Promise<T> {
    const { ground, life } = this;
    const below = this.#open.at(-1) ?? this.turn;
    const layer = new Layer(below);
    this.#open.push(layer);
    // On SQLite-backed objects there is one connection: also an outer `txn` writes to the innermost transaction.
    const leave = (): void => {
      const place = this.#open.indexOf(layer);
      if (place >= 0) this.#open.splice(place, 1);
    };
    const txn = new Transaction(ground, life, layer, () => (ground.backend === "sqlite" ? (this.#open.at(-1) ?? this.turn) : layer), leave);
    const end = (commit: boolean): boolean => {
      leave();
      if (commit && !txn.rolledBack) layer.flush(below as Layer);
      return ground.hook("transaction done");
    };
    try {
      const result = await closure(txn);
      if (life.dead) return await never();
      return end(true) ? result : await never();
    } catch (error) {
      if (life.dead || !end(false)) return await never();
      throw error;
    }
  }

  transactionSync<T>(closure: () => T): T {
    if (this.ground.backend === "kv") throw new Error("transactionSync() is only available on SQLite-backed Durable Objects.");
    const below = this.layer();
    const layer = new Layer(below);
    if (this.life.dead || !this.ground.hook("transactionSync")) throw dead();
    this.#open.push(layer);
    try {
      const result = closure();
      if (this.life.dead) throw dead();
      layer.flush(below);
      return result;
    } finally {
      this.#open.splice(this.#open.indexOf(layer), 1);
      if (!this.life.dead) this.ground.hook("transactionSync done");
    }
  }
}

/** Whether `deleteAll()` takes the alarm with it, by the compatibility flag that the worker runs with. */
function deletesAlarm(): boolean {
  const { Cloudflare } = globalThis as { Cloudflare?: { compatibilityFlags?: Record<string, boolean> } };
  return Cloudflare?.compatibilityFlags?.delete_all_deletes_alarm === true;
}
