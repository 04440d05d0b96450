/** The load: as many messages as wanted wait in one object; what a message costs is measured on the way up, and all are delivered. */
import { type Life, placeOf } from "../process/kill-loop-runtime.ts";
import type { Costs, Delivered } from "./words.ts";

/** Messages that are put, and delivered, for each measurement; a measurement is the best of so many. */
const MEASURED = 1000;
const ROUNDS = 5;
/** A request puts so many at most. */
export const FILLED = 20_000;
/** What a message costs at the largest backlog, against that at the smallest: in counted calls and rows. */
export const MOST_RATIO = 1.2;

/** What a message costs while so many wait. */
export interface Measure {
  readonly backlog: number;
  /** Of one put and of one delivery: rows written, calls that read and keys read, by message. */
  readonly put: PerMessage;
  readonly delivery: PerMessage;
  /** The most memory that workerd has had up to here, in bytes. */
  readonly peakBytes: number;
}

export interface PerMessage {
  readonly rows: number;
  readonly reads: number;
  readonly read: number;
  readonly microseconds: number;
}

export interface LoadReport {
  readonly backend: string;
  readonly messages: number;
  readonly delivered: number;
  readonly measures: readonly Measure[];
  readonly peakBytes: number;
  readonly seconds: number;
  readonly wrong: readonly string[];
}

/** Every power of ten from a thousand on, and the last. */
function backlogs(messages: number): number[] {
  const steps: number[] = [];
  for (let step = 1000; step < messages; step *= 10) steps.push(step);
  return [...steps, messages];
}

export async function load(name: "SqliteBox" | "KvBox", messages: number, progress: (text: string) => void): Promise<LoadReport> {
  const began = performance.now();
  const classes = [{ name, sqlite: name === "SqliteBox" }];
  const place = await placeOf(new URL("worker/load.ts", import.meta.url), classes);
  const life = place.start(1);
  try {
    await life.ready;
    const box = new Box(life, name);
    await life.call(name, "pause");
    // The first puts of an isolate are slow.
    await box.fill(MEASURED * 2);
    await box.deliver(MEASURED * 2);
    const measures: Measure[] = [];
    for (const backlog of backlogs(messages)) {
      progress(`${name}: ${backlog} waiting`);
      await box.fill(backlog - box.waiting);
      measures.push({ ...(await measured(box, backlog)), peakBytes: life.peakBytes() });
    }
    progress(`${name}: delivering ${box.waiting}`);
    while (box.waiting > 0) await box.deliver(Math.min(FILLED, box.waiting));
    const stats = await life.call<Record<"pending" | "delayed" | "blocked" | "dead", number>>(name, "stats");
    const { delivered, disordered } = box;
    const wrong = [...ratios(measures)];
    if (delivered !== box.stored) wrong.push(`${box.stored} messages were stored, and ${delivered} delivered`);
    if (disordered > 0) wrong.push(`${disordered} messages came again or out of order`);
    if (stats.pending + stats.delayed + stats.blocked + stats.dead > 0) wrong.push(`in the end there is left: ${JSON.stringify(stats)}`);
    const seconds = (performance.now() - began) / 1000;
    return { backend: name, messages, delivered, measures, peakBytes: life.peakBytes(), seconds, wrong };
  } catch (error) {
    throw new Error(`The load has failed. ${life.log()}`, { cause: error });
  } finally {
    await life.end();
    place.remove();
  }
}

/** The object, from outside: the clock is out here, because inside a worker it stands still. */
export class Box {
  stored = 0;
  delivered = 0;
  disordered = 0;
  readonly #life: Life;
  readonly #name: string;

  constructor(life: Life, name: string) {
    this.#life = life;
    this.#name = name;
  }

  get waiting(): number {
    return this.stored - this.delivered;
  }

  async fill(count: number): Promise<void> {
    for (let left = count; left > 0; left -= FILLED) {
      await this.#life.call(this.#name, "fill", this.stored + 1, Math.min(FILLED, left));
      this.stored += Math.min(FILLED, left);
    }
  }

  async put(count: number): Promise<void> {
    await this.#life.call(this.#name, "put", this.stored + 1, count);
    this.stored += count;
  }

  async deliver(count: number): Promise<void> {
    const { delivered, disordered } = await this.#life.call<Delivered>(this.#name, "deliver", count);
    if (delivered === this.delivered) throw new Error(`Nothing more is delivered after ${delivered} of ${this.stored}.`);
    Object.assign(this, { delivered, disordered });
  }

  /** Reads pages from these positions. */
  async pages(positions: readonly number[], direction: "forward" | "backward"): Promise<void> {
    const wrong = await this.#life.call<number>(this.#name, "pages", positions, direction);
    if (wrong > 0)
      throw new Error(`Pages that were read ${direction} from ${positions.join(", ")} have ${wrong} messages of others, or too few.`);
  }

  /** What was called of storage since the last look, once more and without the outbox. */
  async repeat(): Promise<void> {
    await this.#life.call(this.#name, "repeat");
  }

  costs(): Promise<Costs> {
    return this.#life.call<Costs>(this.#name, "costs");
  }
}

/** The backlog is the same after as before. */
async function measured(box: Box, backlog: number): Promise<Omit<Measure, "peakBytes">> {
  const rounds: Omit<Measure, "peakBytes">[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const put = await perMessage(box, () => box.put(MEASURED));
    const before = box.delivered;
    const delivery = await perMessage(box, () => box.deliver(MEASURED));
    if (box.delivered - before < MEASURED) throw new Error("Fewer were delivered than wanted.");
    rounds.push({ backlog, put, delivery });
  }
  const best = (part: "put" | "delivery"): PerMessage =>
    rounds.map((round) => round[part]).sort((a, b) => a.microseconds - b.microseconds)[0] as PerMessage;
  return { backlog, put: best("put"), delivery: best("delivery") };
}

export async function perMessage(box: Box, work: () => Promise<void>, count: number = MEASURED): Promise<PerMessage> {
  await box.costs();
  const took = await millisecondsOf(work);
  const { rows, reads, read } = await box.costs();
  return { rows: rows / count, reads: reads / count, read: read / count, microseconds: (took * 1000) / count };
}

export async function millisecondsOf(work: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** A message costs the same whatever waits. Times are the machine's, and only told. */
function ratios(measures: readonly Measure[]): string[] {
  const [first] = measures;
  const wrong: string[] = [];
  for (const measure of measures) {
    for (const part of ["put", "delivery"] as const) {
      for (const count of ["rows", "reads", "read"] as const) {
        const base = first?.[part][count] ?? 0;
        // One call more in a thousand messages is no growth.
        if (measure[part][count] > base * MOST_RATIO + 2 / MEASURED) {
          wrong.push(
            `${part} with ${measure.backlog} waiting: ${measure[part][count]} ${count} a message, and ${base} with ${first?.backlog}`,
          );
        }
      }
    }
  }
  return wrong;
}

export function tableOf({ backend, messages, delivered, measures, peakBytes, seconds, wrong }: LoadReport): string {
  const [first] = measures;
  const row = ({ backlog, put, delivery }: Measure): string => {
    const cells = [put, delivery].flatMap(({ rows, reads, read, microseconds }, i) => {
      const base = (i === 0 ? first?.put : first?.delivery)?.microseconds ?? 1;
      return [rows.toFixed(3), reads.toFixed(3), read.toFixed(3), (microseconds / base).toFixed(2)];
    });
    return [backlog.toLocaleString("en"), ...cells].map((cell) => cell.padStart(10)).join("");
  };
  const head = ["waiting", ...["put", "delivery"].flatMap(() => ["rows", "reads", "keys read", "time"])]
    .map((cell) => cell.padStart(10))
    .join("");
  return [
    `load, ${backend}: ${messages.toLocaleString("en")} waiting in one object, ${delivered.toLocaleString("en")} delivered in all, in ${seconds.toFixed(0)} s`,
    `  peak memory of workerd ${(peakBytes / 2 ** 20).toFixed(0)} MiB; ${wrong.length === 0 ? "all delivered once, in order; costs are flat" : `BROKEN: ${wrong.join("; ")}`}`,
    "  by message, of a put (first four) and of a delivery (last four); times against those of the first line",
    head,
    ...measures.map(row),
  ].join("\n");
}
