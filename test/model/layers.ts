/** What is stored: the durable disk, and the layers of writes above it that are not yet committed. */

const REMOVED = Symbol("removed");

/** Where something is read: the disk, or a layer above it. */
export interface Readable {
  get(key: string): unknown;
  /** Not the same as having a value: `kv.put` stores `undefined` as well. */
  has(key: string): boolean;
  /** Adds to `found` what lies here, as it stands above what was added before. */
  collect(found: Map<string, unknown>, wanted: (key: string) => boolean): void;
  /** `undefined` where this layer says nothing of it. */
  readonly alarm: number | null | undefined;
}

/** What survives every crash. */
export class Disk implements Readable {
  readonly rows: Map<string, unknown> = new Map();
  alarm: number | null = null;

  get(key: string): unknown {
    return this.rows.get(key);
  }

  has(key: string): boolean {
    return this.rows.has(key);
  }

  collect(found: Map<string, unknown>, wanted: (key: string) => boolean): void {
    for (const [key, value] of this.rows) if (wanted(key)) found.set(key, value);
  }
}

/** Writes that become visible to what lies above, and go down together or not at all. */
export class Layer implements Readable {
  readonly changes: Map<string, unknown> = new Map();
  /** Nothing of what lies below is seen: `deleteAll`. */
  wiped = false;
  /** Whether it holds back what leaves the object: not, where all of it was written with `allowUnconfirmed`. */
  confirms = false;
  #alarm: number | null | undefined;

  constructor(public below: Readable) {}

  get alarm(): number | null | undefined {
    return this.#alarm === undefined && this.below instanceof Layer ? this.below.alarm : this.#alarm;
  }

  setAlarm(time: number | null): void {
    this.#alarm = time;
  }

  get empty(): boolean {
    return this.changes.size === 0 && this.#alarm === undefined && !this.wiped;
  }

  get(key: string): unknown {
    const value = this.changes.get(key);
    if (value === REMOVED) return undefined;
    return this.changes.has(key) || this.wiped ? value : this.below.get(key);
  }

  has(key: string): boolean {
    return this.changes.has(key) ? this.changes.get(key) !== REMOVED : !this.wiped && this.below.has(key);
  }

  put(key: string, value: unknown): void {
    this.changes.set(key, value);
  }

  /** Returns whether there was something. */
  remove(key: string): boolean {
    const existed = this.has(key);
    this.changes.set(key, REMOVED);
    return existed;
  }

  wipe(): void {
    this.changes.clear();
    this.wiped = true;
  }

  collect(found: Map<string, unknown>, wanted: (key: string) => boolean): void {
    if (!this.wiped) this.below.collect(found, wanted);
    for (const [key, value] of this.changes) {
      if (!wanted(key)) continue;
      if (value === REMOVED) found.delete(key);
      else found.set(key, value);
    }
  }

  /** Hands everything down to another layer, or to the disk, and is empty. Returns whether the alarm was among it. */
  flush(to: Layer | Disk): boolean {
    for (const [key, value] of this.changes) {
      if (to instanceof Layer) to.changes.set(key, value);
      else if (value === REMOVED) to.rows.delete(key);
      else to.rows.set(key, value);
    }
    const alarm = this.#alarm;
    if (alarm !== undefined) {
      if (to instanceof Layer) to.setAlarm(alarm);
      else to.alarm = alarm;
    }
    if (to instanceof Layer) {
      to.confirms ||= this.confirms;
      to.wiped ||= this.wiped;
    }
    this.drop();
    return alarm !== undefined;
  }

  drop(): void {
    this.changes.clear();
    this.#alarm = undefined;
    this.wiped = this.confirms = false;
  }
}

/** The order of keys in storage: that of their UTF-8 bytes, in which surrogates stand for what is above all other characters. */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    return isSurrogate(x) === isSurrogate(y) ? x - y : isSurrogate(x) ? 1 : -1;
  }
  return a.length - b.length;
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}

/** A copy of a value: what is stored is what it was at the call. */
export function copied<T>(value: T): T {
  return typeof value === "object" || typeof value === "function" || typeof value === "symbol" ? structuredClone(value) : value;
}
