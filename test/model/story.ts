/** A story: one wrapped object in its world, what is done to it, what happens to it, and the check of every invariant at every commit and at the end. */

import type { OutboxEvent, OutboxManager, OutboxOptions, OutboxPutOptions } from "../../src/index.ts";
import type { Happening, Promised } from "../invariants.ts";
import { type Box, boxOf } from "./box.ts";
import { Destination, type Msg } from "./destination.ts";
import { type Durable, misplaced, readDisk, wakeFor } from "./durable.ts";
import { OwnAlarm } from "./own.ts";
import { type Call, type Choice, Died, World } from "./world.ts";

export interface Setting extends Choice {
  readonly options?: OutboxOptions<"OUTBOX_MANAGER">;
  /** How many parameters `sendMessages` declares: with one it can settle no single message. */
  readonly parameters?: 1 | 2;
}

export type Body<R> = (outbox: OutboxManager<Msg>, storage: DurableObjectStorage) => Promise<R>;

/** Quick retries without chance in them. */
export const OPTIONS: OutboxOptions<"OUTBOX_MANAGER"> = {
  retry: { minDelaySeconds: 2, maxDelaySeconds: 60, jitter: 0, maxAttempts: 3 },
  timeoutSeconds: 5,
  batchSize: 5,
};

/** An alarm may stand so much later than what waits, in milliseconds: a look that found nothing is not repeated at once. */
const LATE_MS = 1001;
/** With `dispatch: "immediate"` the first attempt does not wait for the alarm. */
const LATE_IMMEDIATE_MS = 10_002;
export class Story {
  readonly world: World<Box>;
  readonly destination: Destination;
  readonly own: OwnAlarm;
  readonly promised: Map<number, Promised> = new Map();
  /** What each message is called by the outbox, as far as a receipt told. */
  readonly ids: Map<number, string> = new Map();
  readonly wrong: string[] = [];
  readonly happenings: Happening[] = [];
  /** Steps of the script that have begun: with the state of the world, where the story stands. */
  acts = 0;
  /** The platform has lost the alarm, and the object has not been called since. */
  lost = false;
  /** Anything may happen: what the outbox repairs to be safe is no fault. */
  rough = false;
  /** The clock has been turned back: alarms that were set before stand later than they should. */
  jumped = false;
  options: OutboxOptions<"OUTBOX_MANAGER">;
  durable: Durable;
  /** Labels whose state is not known to be durable yet. */
  readonly #open: Map<number, (rows: ReadonlyMap<string, unknown>) => boolean> = new Map();
  /** Keys of state that a call has confirmed. */
  readonly confirmed: Set<string> = new Set();
  /** Ids that the caller gave. */
  readonly named: Map<number, string> = new Map();
  #last = 0;
  /** The largest that any life had. */
  batchSize = 0;

  /** What the outbox tells an operator. */
  #told(event: OutboxEvent): void {
    const { type } = event;
    if (type === "failed") {
      this.destination.hung = false;
      this.happenings.push({ type, labels: event.ids.map((id) => this.destination.labels.get(id) ?? 0) });
    }
    // An own alarm that waits for the platform's retry is taken over, and that is told as a repair.
    const well = !this.rough && this.world.crashes === 0 && !this.lost && !this.own.thrown;
    if (type === "repaired" && well) this.wrong.push("an alarm was repaired that stood, or whose call was under way");
    if (type === "unreadable") this.wrong.push("a row could not be read");
  }

  constructor({ options = {}, parameters = 2, ...choice }: Setting) {
    this.options = { ...OPTIONS, onEvent: (event) => this.#told(event), ...options };
    this.world = new World<Box>(choice, () => {
      this.batchSize = Math.max(this.batchSize, this.options.batchSize ?? 100);
      return boxOf(this, parameters);
    });
    this.durable = readDisk(this.world.disk);
    this.destination = new Destination(this.happenings, () => this.durable.dead.map(({ label }) => label), this.wrong);
    this.own = new OwnAlarm(() => this.world.loop.clock, this.wrong);
    this.world.committed = () => this.#committed();
    this.world.died = (told) => {
      // With a clock that was turned back, an alarm that is overdue does not look so.
      this.happenings.push({ type: "crash", told: told && !this.jumped });
      this.destination.reset();
      this.own.died();
    };
  }

  /** The label that was given out last. */
  get last(): number {
    return this.#last;
  }

  /** The platform takes the object out of memory. With a send under way that is a crash. */
  evict(): void {
    if (this.destination.under > 0 || this.destination.hung) this.world.crash("evicted");
    else this.world.evict();
  }

  /** The clock is set forward or back. */
  jump(seconds: number): void {
    this.world.loop.skew += seconds * 1000;
    if (seconds < 0) this.jumped = true;
    this.destination.jumped = true;
    this.own.jumped(seconds);
  }

  /** The platform loses the alarm. The object's next start, or its next write, must set it again. */
  loseAlarm(): void {
    if (this.world.alarms.firing) return;
    this.world.alarms.forget();
    this.happenings.push({ type: "lost" });
    this.own.lost();
    this.lost = true;
  }

  /** The next label. */
  next(): number {
    return ++this.#last;
  }

  /** A message is promised from the moment at which it is put. `isDurable` tells by the own rows on the disk whether its state is. */
  promise(options: OutboxPutOptions = {}, isDurable?: (label: number, rows: ReadonlyMap<string, unknown>) => boolean): number {
    const label = this.next();
    const { id, key, delaySeconds, deliverAt, expiresInSeconds } = options;
    const again = id !== undefined && [...this.named.values()].includes(id);
    if (id !== undefined) this.named.set(label, id);
    const timed = delaySeconds !== undefined || deliverAt !== undefined || expiresInSeconds !== undefined;
    const expires = expiresInSeconds === undefined ? undefined : this.world.loop.clock + expiresInSeconds * 1000;
    // Whether an id that was used before is still known, only the receipt tells.
    this.promised.set(label, {
      label,
      committed: again ? null : false,
      timed,
      ...(key !== undefined && { key }),
      ...(expires && { expires }),
    });
    if (again) return label;
    const durable = isDurable ?? ((n, rows) => rows.has(stateKey(n)));
    this.#open.set(label, (rows) => durable(label, rows));
    return label;
  }

  /** A message that stands on the disk before the first life. */
  adopt(): void {
    const label = this.next();
    this.promised.set(label, { label, committed: true });
  }

  /** All that decides how this goes on. Two stories of one script that agree in it go on alike. */
  state(): string {
    const { world, destination, own, acts } = this;
    const { now, skew } = world.loop;
    const known = [this.promised, this.ids, this.confirmed, destination.outcomes].map((map) => [...map]);
    const at = [now, skew, acts, world.alarms.state, world.disk.alarm, own.state, destination.partial, destination.delayMs];
    return JSON.stringify([[...world.disk.rows], this.happenings, known, at]);
  }

  /** Begins a call of the object, without waiting. */
  begin<R>(body: Body<R>): Call<R> {
    this.acts++;
    return this.world.begin((box, ctx) => body(box.outbox, ctx.storage));
  }

  /** Calls the object. Gives nothing when it died meanwhile. */
  async act<R>(body: Body<R>): Promise<R | undefined> {
    const call = this.begin(body);
    await this.world.ending(call);
    return call.result.catch((error) => {
      if (!(error instanceof Died)) throw error;
      // What is not durable by now never will be.
      this.#open.clear();
      return undefined;
    });
  }

  /** State and message in one call. Gives the label. */
  async put(options: OutboxPutOptions = {}, pad?: string): Promise<number> {
    const label = this.promise(options);
    const receipt = await this.act((outbox) => outbox.put(stateKey(label), label, msgOf(label, pad), options));
    if (receipt) this.known(label, receipt);
    return label;
  }

  /** The caller has seen the receipt, and so the state is safe. */
  known(label: number, { id, deduplicated }: { id: string; deduplicated?: true }): void {
    if (!deduplicated) this.ids.set(label, id);
    this.confirmed.add(stateKey(label));
    const promise = this.promised.get(label);
    if (deduplicated) this.promised.delete(label);
    else if (promise) promise.committed = true;
  }

  /** Lets so many seconds pass. */
  async wait(seconds: number): Promise<void> {
    this.acts++;
    await this.world.advance(seconds * 1000);
  }

  redriving(): void {
    this.happenings.push({ type: "redrive", labels: this.durable.dead.map(({ label }) => label) });
  }

  withdrawn(label: number): void {
    const promise = this.promised.get(label);
    if (promise) promise.withdrawn = true;
  }

  #committed(): void {
    const { disk, alarms, loop } = this.world;
    for (const [label, isDurable] of this.#open) {
      const promise = this.promised.get(label);
      if (!isDurable(disk.rows)) continue;
      this.#open.delete(label);
      if (promise) promise.committed = true;
    }
    this.durable = readDisk(disk);
    this.wrong.push(...misplaced(this.durable));
    const wake = wakeFor(this.durable, loop.clock);
    if (wake === Number.POSITIVE_INFINITY) return;
    const first = `one of ${this.durable.pending.map(({ label }) => label)}`;
    if (disk.alarm === null || !alarms.standing) {
      // A look finds it out, a moment after the object has started or written. So it does where the clock was turned back in a call, and
      // the object has set its own alarm before the one that fires, which the platform never calls.
      if (!this.lost && !(this.jumped && alarms.lost)) this.wrong.push(`${first} waits, and no alarm stands`);
    } else if (!this.jumped && !alarms.guarding && disk.alarm > Math.max(wake, loop.clock) + this.#lateMs()) {
      // A call under way is itself the wake-up: should it die, the platform calls again.
      this.wrong.push(`the alarm stands ${disk.alarm - wake} ms after ${first} is due`);
    }
  }

  #lateMs(): number {
    return this.options.dispatch === "immediate" ? LATE_IMMEDIATE_MS : LATE_MS;
  }

  /** Calls the object until a call gets through: a crash may be ordered for each. */
  async surely<R>(body: Body<R>): Promise<R> {
    for (;;) {
      const { crashes } = this.world;
      const result = await this.act(body);
      if (this.world.crashes === crashes) return result as R;
    }
  }

  /** The object's own code has deleted its own keys. */
  cleared(): void {
    this.confirmed.clear();
  }
}

export function stateKey(label: number): string {
  return `state:${label}`;
}

export function msgOf(label: number, pad?: string): Msg {
  return pad === undefined ? { n: label } : { n: label, pad };
}
