/** A story: one wrapped object in its world, what is done to it, what happens to it, and the check of every invariant at every commit and at the end. */

import type { OutboxEvent, OutboxManager, OutboxOptions, OutboxPutOptions } from "../../src/index.ts";
import type { Happening, Promised } from "../support/invariants.ts";
import { type Box, boxOf, Wrapper, type Wrapping } from "./box.ts";
import { SLOWEST_MS } from "./commits.ts";
import { type DeadEnd, DeadMessages } from "./dead.ts";
import { Destination, type Msg, SPENT } from "./destination.ts";
import { type Durable, misplaced, readDisk, readRows, wakeFor } from "./durable.ts";
import { OwnAlarm } from "./own.ts";
import { Registry } from "./reporting.ts";
import { type Call, type Choice, Died, World } from "./world.ts";

export interface Setting extends Choice {
  readonly options?: OutboxOptions<"OUTBOX_MANAGER">;
  /** How many parameters `sendMessages` declares: with one it can settle no single message. */
  readonly parameters?: 1 | 2;
  /** What is wrapped around the handlers; nothing where nothing is said. */
  readonly wrapping?: Wrapping;
  /** How calls of the class's `deadMessage` end; it has none where nothing is said. */
  readonly deadMessage?: DeadEnd | null;
  /** It reports to a registry. */
  readonly reports?: boolean;
}

export type Body<R> = (outbox: OutboxManager<Msg>, storage: DurableObjectStorage, ctx: DurableObjectState) => Promise<R>;

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
  readonly wrapper: Wrapper;
  readonly dead: DeadMessages;
  readonly registry: Registry | null;
  readonly promised: Map<number, Promised> = new Map();
  /** What each message is called by the outbox, as far as a receipt told. */
  readonly ids: Map<number, string> = new Map();
  readonly wrong: string[] = [];
  readonly happenings: Happening[] = [];
  /** Steps of the script that have begun: with the state of the world, where the story stands. */
  acts = 0;
  /** The platform has lost the alarm, and the object has not been called since. */
  lost = false;
  /** What the object's own alarm does besides. */
  onAlarm: ((box: Box) => Promise<unknown>) | null = null;
  /** Anything may happen: what the outbox repairs to be safe is no fault. */
  rough = false;
  /** The clock has been turned back: alarms that were set before stand later than they should. */
  jumped = false;
  options: OutboxOptions<"OUTBOX_MANAGER">;
  durable: Durable;
  /** Labels whose state is not known to be durable yet, and the life that has written it, where that is known. */
  readonly #open: Map<number, { readonly isDurable: (rows: ReadonlyMap<string, unknown>) => boolean; readonly life: object | null }> =
    new Map();
  /** The dead letters that were seen last. */
  #letters: ReadonlySet<number> = new Set();
  /** Dead letters that their limits have deleted, as an event said: not yet durable. */
  readonly #deleted: Set<number> = new Set();
  /** What the ids of dead letters stand for. */
  readonly #letterIds: Map<string, Durable["dead"][number]> = new Map();
  /** Keys of state that a call has confirmed. */
  readonly confirmed: Set<string> = new Set();
  /** How often everything of the object's own was deleted. */
  clears = 0;
  /** Ids that the caller gave. */
  readonly named: Map<number, string> = new Map();
  #last = 0;
  /** The largest that any life had. */
  batchSize = 0;
  /** What `settleWithinSeconds` is while `dispatch` is immediate. */
  settleWithinSeconds = 0;
  /** Whether any life could record deliveries later. */
  recordsLater = false;

  /** What the outbox tells an operator. */
  #told(event: OutboxEvent): void {
    const { type } = event;
    // What runs on in the turn in which the object has died is not heard any more.
    if (!this.world.life) return;
    if (type === "failed" || type === "paused") {
      this.destination.hung = false;
      this.happenings.push({ type: "failed", labels: event.ids.map((id) => this.destination.labels.get(id) ?? 0) });
    }
    if (type === "failed" && event.error.includes(SPENT) && event.ids.length > 1)
      this.wrong.push(`${event.ids.length} messages are said to have failed where the invocation had no subrequests left`);
    if (type === "died") {
      // What has been put back before counts the death.
      this.#seeLetters(this.view());
      this.happenings.push({ type });
    }
    // It has been put back in the turn in which it became one.
    if (type === "dead") this.#seeLetters(this.view(), [this.destination.labels.get(event.id) ?? 0]);
    if (type === "dead") for (const letter of this.view().dead) this.#letterIds.set(letter.id, letter);
    if (type === "dead_letters_deleted") this.#hasTrimmed(event);
    if (type === "dead_message_failed") this.dead.failed(event.id);
    // An own alarm that waits for the platform's retry is taken over, and that is told as a repair.
    const well = !this.rough && this.world.crashes === 0 && !this.lost && !this.own.thrown;
    if (type === "repaired" && well) this.wrong.push("an alarm was repaired that stood, or whose call was under way");
    if (type === "unreadable") this.wrong.push("a row could not be read");
  }

  constructor({ options = {}, parameters = 2, wrapping = "none", deadMessage = null, reports = false, ...choice }: Setting) {
    this.wrapper = new Wrapper(wrapping, this.wrong);
    this.dead = new DeadMessages(this, deadMessage);
    this.registry = reports ? new Registry(() => this.world) : null;
    this.options = { ...OPTIONS, onEvent: (event) => this.#told(event), ...options };
    this.world = new World<Box>(choice, () => {
      this.batchSize = Math.max(this.batchSize, this.options.batchSize ?? 100);
      this.recordsLater ||= (this.options.settleWithinSeconds ?? 0) > 0;
      return boxOf(this, parameters);
    });
    this.durable = readDisk(this.world.disk);
    this.destination = new Destination(
      this.happenings,
      () => this.#sight(),
      (label) => this.durable.pending.some((message) => message.label === label),
      this.wrong,
      () => this.#visit(),
      () => 1000 * (this.options.settleWithinSeconds ?? 0),
    );
    this.own = new OwnAlarm(() => this.world.loop.clock, this.wrong, SLOWEST_MS[choice.commits ?? "quick"]);
    this.world.committed = () => this.#committed();
    this.world.died = (told, givenUp, again) => {
      // `deleteAll()` came between the end of the call and its being durable.
      if (again !== null && readDisk(this.world.disk).rows === 0) this.own.orphaned(again);
      if (givenUp) this.lost = true;
      if (givenUp) this.own.givenUp();
      // With a clock that was turned back, an alarm that is overdue does not look so.
      const inHand = this.destination.died(this.world.loop.now);
      const { trouble } = this.durable.header;
      const alone = trouble?.lease ? this.durable.pending.find(({ position }) => position === trouble.alone)?.label : undefined;
      this.happenings.push({ type: "crash", told: told && !this.jumped, inHand, alone });
      this.own.died();
      // What the life that has ended had not committed never will be.
      for (const [label, { life }] of this.#open) {
        if (!life) continue;
        this.#open.delete(label);
        // Its id, which a receipt may have told already, is given to another.
        this.ids.delete(label);
      }
      this.#letters = lettersOf(this.durable);
      this.#deleted.clear();
      for (const died of this.deaths) died();
      this.deaths.clear();
    };
  }

  /** Calls that have begun and may not have ended. */
  readonly calls: Call<unknown>[] = [];

  /** Lets them end. */
  async closed(): Promise<void> {
    for (const call of this.calls.splice(0)) await this.world.ending(call);
  }

  /** What the object's own code does in its next calls of the handler, one in each. */
  readonly visits: Body<void>[] = [];
  /** Called when the object dies. */
  readonly deaths: Set<() => void> = new Set();

  async #visit(): Promise<void> {
    const { instance, ctx } = this.world.life ?? {};
    if (instance && ctx) await this.visits.shift()?.(instance.outbox, ctx.storage, ctx);
  }

  /** The label that was given out last. */
  get last(): number {
    return this.#last;
  }

  /** The platform takes the object out of memory. With anything under way, or unrecorded, that is a crash. */
  evict(): void {
    const { under, hung } = this.destination;
    if (under > 0 || hung || this.world.working || this.destination.unrecorded().size > 0) this.world.crash("evicted");
    else this.world.evict();
  }

  /** What was delivered, as far as `settleWithinSeconds` lets the object leave that unrecorded. */
  unrecorded(): ReadonlySet<number> {
    return this.recordsLater ? this.destination.unrecorded() : new Set();
  }

  /** The clock is set forward or back. */
  jump(seconds: number): void {
    const underWay = this.destination.underWay();
    if (seconds < 0) this.happenings.push({ type: "clock", at: this.world.loop.clock });
    else if (underWay.length > 0) this.happenings.push({ type: "failed", labels: underWay });
    this.world.loop.skew += seconds * 1000;
    if (seconds < 0) this.jumped = true;
    this.destination.jumped = true;
    this.own.jumped(seconds);
  }

  /** The platform loses the alarm. The object's next start, or its next write, must set it again. */
  loseAlarm(): void {
    if (this.world.alarms.firing || this.world.disk.alarm === null) return;
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
  promise(
    options: OutboxPutOptions = {},
    isDurable?: (label: number, rows: ReadonlyMap<string, unknown>) => boolean,
    label: number = this.next(),
  ): number {
    const { id, key, delaySeconds, deliverAt, expiresInSeconds } = options;
    const again = id !== undefined && [...this.named.values()].includes(id);
    if (id !== undefined) this.named.set(label, id);
    const timed = delaySeconds !== undefined || deliverAt !== undefined || expiresInSeconds !== undefined;
    const first = Math.max(this.world.loop.clock + (delaySeconds ?? 0) * 1000, Number(deliverAt ?? 0));
    const expires = expiresInSeconds === undefined ? undefined : first + expiresInSeconds * 1000;
    // Whether an id that was used before is still known, only the receipt tells.
    this.promised.set(label, {
      label,
      committed: again ? null : false,
      timed,
      since: this.happenings.length,
      ...(key !== undefined && { key }),
      ...(expires && { expires }),
    });
    const life = this.rough ? this.world.life : null;
    // In a random story a message is put by the object itself: if that has died, it is not.
    if (again || (this.rough && !life)) return label;
    const durable = isDurable ?? ((n, rows) => rows.has(stateKey(n)));
    this.#open.set(label, { isDurable: (rows) => durable(label, rows), life });
    return label;
  }

  /**
   * What `make` gives, made at its first use: in a random story at the call itself, because others may be put before it comes. Where a
   * script names its messages, it is made now.
   */
  promising<T>(make: () => T): () => T {
    let made: { readonly value: T } | undefined;
    const use = (): T => {
      made ??= { value: make() };
      return made.value;
    };
    if (!this.rough) use();
    return use;
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
    return this.world.begin((box, ctx) => body(box.outbox, ctx.storage, ctx));
  }

  /** Calls the object. Gives nothing when it died meanwhile. */
  async act<R>(body: Body<R>): Promise<R | undefined> {
    const call = this.begin(body);
    await this.world.ending(call);
    return call.result.catch((error) => {
      if (!(error instanceof Died)) throw error;
      // What is not durable by now never will be.
      if (!this.rough) this.#open.clear();
      return undefined;
    });
  }

  /** State and message in one call. Gives the label. */
  async put(options: OutboxPutOptions = {}, pad?: string): Promise<number> {
    const promised = this.promising(() => this.promise(options));
    const receipt = await this.act((outbox) => {
      const label = promised();
      return outbox.put(stateKey(label), label, msgOf(label, pad), options);
    });
    const label = promised();
    if (receipt) this.known(label, receipt);
    return label;
  }

  /** The caller has seen the receipt, and so the state is safe. */
  known(label: number, receipt: { id: string; deduplicated?: true }, key: string | null = stateKey(label)): void {
    this.heard(label, receipt);
    if (key !== null) this.confirmed.add(key);
    const promise = this.promised.get(label);
    if (promise) promise.committed = true;
  }

  /** The caller has a receipt for what may not be durable. */
  heard(label: number, { id, deduplicated }: { id: string; deduplicated?: true }): void {
    if (deduplicated) this.promised.delete(label);
    else this.ids.set(label, id);
  }

  /** The id of a message, as far as it is known: the caller gave it, or a receipt told. */
  idOf(label: number): string | undefined {
    return this.ids.get(label) ?? this.named.get(label);
  }

  /** The message that was put last with this id. */
  lastOf(id: string): number | undefined {
    return [...this.promised.keys()].findLast((label) => this.idOf(label) === id);
  }

  /** Lets so many seconds pass. */
  async wait(seconds: number): Promise<void> {
    this.acts++;
    await this.world.advance(seconds * 1000);
  }

  /** Dead letters that wait again have been put back, whenever that was asked. `letters` were among them for a moment at least. */
  #seeLetters({ pending, dead }: Durable, letters: readonly number[] = []): void {
    const waiting = new Set(pending.map(({ label }) => label));
    const labels = [...this.#letters, ...letters].filter((label) => waiting.has(label));
    if (labels.length > 0) this.happenings.push({ type: "redrive", labels });
    this.#letters = lettersOf({ dead });
  }

  /** What the object has now, for a call that begins. */
  #sight(): Durable {
    const now = this.view();
    this.#seeLetters(now);
    return now;
  }

  /** What the object has now: what it has written in this turn included. */
  view(): Durable {
    const { storage, commits } = this.world.life ?? {};
    const written = storage?.written;
    if (!written || (written === storage?.turn && !commits?.underWay)) return this.durable;
    const rows = new Map<string, unknown>();
    written.collect(rows, () => true);
    return readRows(rows);
  }

  /** What is not durable by now never will be; `undone` says that it has been rolled back. */
  hopeless(label: number, undone = false): void {
    this.#open.delete(label);
    const promise = this.promised.get(label);
    if (undone && promise) promise.committed = false;
  }

  /** A key of the object's own that is about to be deleted. Returns whether it is the story's. */
  doom(key: string): boolean {
    return this.confirmed.delete(key);
  }

  withdrawn(label: number): void {
    const promise = this.promised.get(label);
    if (promise) promise.withdrawn = true;
  }

  #committed(): void {
    const { disk, alarms, loop } = this.world;
    for (const [label, { isDurable }] of this.#open) {
      const promise = this.promised.get(label);
      if (!isDurable(disk.rows)) continue;
      this.#open.delete(label);
      if (promise) promise.committed = true;
    }
    this.durable = readDisk(disk);
    this.#trim();
    if (disk.alarm !== null && alarms.standing) this.lost = false;
    this.dead.committed(this.durable, disk.rows);
    this.#seeLetters(this.view());
    this.destination.keep(this.durable.pending, loop.now);
    this.wrong.push(...misplaced(this.durable));
    const wake = wakeFor(this.durable, loop.clock, this.options.deadLetters);
    if (wake === Number.POSITIVE_INFINITY) return;
    const first = `one of ${[...this.durable.pending, ...this.durable.dead].map(({ label }) => label)}`;
    if (disk.alarm === null || !alarms.standing) {
      // A look finds it out, a moment after the object has started or written. So it does where the clock was turned back in a call, and
      // the object has set its own alarm before the one that fires, which the platform never calls.
      if (!this.lost && !(this.jumped && alarms.lost)) this.wrong.push(`${first} waits, and no alarm stands`);
    } else if (!this.jumped && !alarms.guarding && disk.alarm > Math.max(wake, loop.clock) + this.#lateMs()) {
      // A call under way is itself the wake-up: should it die, the platform calls again.
      this.wrong.push(`the alarm stands ${disk.alarm - wake} ms after ${first} is due`);
    }
  }

  /** The outbox says that limits have deleted dead letters. */
  #hasTrimmed({ ids, limit }: { readonly ids: readonly string[]; readonly limit: "expiresInSeconds" | "max" }): void {
    const { expiresInSeconds = 0 } = this.options.deadLetters ?? {};
    for (const id of ids) {
      const { label = 0, died = 0 } = this.#letterIds.get(id) ?? {};
      this.#deleted.add(label);
      const isEarly = limit === "expiresInSeconds" && !this.jumped && died + expiresInSeconds * 1000 > this.world.loop.clock;
      if (isEarly) this.wrong.push(`${label} has been deleted as if it had expired`);
    }
  }

  /** Dead letters that their limits have deleted are withdrawn, once that is durable. */
  #trim(): void {
    const { dead, pending } = this.durable;
    for (const letter of dead) this.#letterIds.set(letter.id, letter);
    for (const label of this.#deleted) {
      if ([...dead, ...pending].some((message) => message.label === label)) continue;
      this.#deleted.delete(label);
      this.withdrawn(label);
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
    this.clears++;
    this.dead.cleared();
    this.confirmed.clear();
  }
}

function lettersOf({ dead }: Pick<Durable, "dead">): ReadonlySet<number> {
  return new Set(dead.map(({ label }) => label));
}

export function stateKey(label: number): string {
  return `state:${label}`;
}

export function msgOf(label: number, pad?: string): Msg {
  return pad === undefined ? { n: label } : { n: label, pad };
}
