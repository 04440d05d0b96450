/** From the commit to the delivery, seen from outside: the clock of a worker stands still while it works. */
import { ENTRANTS, type EntrantName } from "../contestants.ts";
import { progress } from "../report.ts";
import { type Latency, quantile } from "../results.ts";
import type { Runtime } from "../runtime.ts";

/** Contestants take turns of this length, so that a slow moment of the machine hits all of them. */
const TURN_SECONDS = 1;
const FEWEST_TURNS = 2;
/** A first turn that does not count: code that has run a few times is compiled. */
const WARM_UP_MS = 200;
/** Between a delivery and the next request, where they come one at a time: the object has come to rest. */
const PAUSE_MS = 20;
/** A message that has not arrived by then is lost, or as good as lost. */
const LOST_MS = 10_000;

/** The number of the next message: over all contestants and turns none comes twice, nor any of the other measures. */
let next = 1_000_000;

/**
 * A message is committed when the answer to its request is here, and delivered when the line with its number is: both
 * come over the same loopback to the same process. With immediate delivery the line can overtake the answer, so values
 * near 0 and below it are right.
 *
 * @param load requests a second to the object, whatever the answers do; 0: one at a time with pauses
 * @param seconds how long each contestant is measured, in turns
 */
export async function latencies(runtime: Runtime, entrants: readonly EntrantName[], load: number, seconds: number): Promise<Latency[]> {
  const found = new Map<EntrantName, number[]>(entrants.map((entrant) => [entrant, []]));
  const turns = Math.max(FEWEST_TURNS, Math.round(seconds / TURN_SECONDS));
  const what = load > 0 ? `latency with ${load.toLocaleString("en")} a second` : "latency, one at a time";
  for (let turn = 0; turn <= turns; turn++) {
    for (let place = 0; place < entrants.length; place++) {
      // Who begins changes from turn to turn, so that nobody always runs after the same neighbour's leftovers.
      const entrant = entrants[(place + turn) % entrants.length] as EntrantName;
      progress(`${what}: turn ${turn} of ${turns}, ${ENTRANTS[entrant]}`);
      const values = await oneTurn(runtime, entrant, load, turn === 0 ? WARM_UP_MS : (seconds * 1000) / turns);
      if (turn > 0) found.get(entrant)?.push(...values);
    }
  }
  progress("");
  return [...found].map(([entrant, values]) => latencyOf(entrant, load, values));
}

export function latencyOf(entrant: EntrantName, load: number, values: readonly number[]): Latency {
  const [p50, p95, p99] = [quantile(values, 0.5), quantile(values, 0.95), quantile(values, 0.99)];
  return { entrant, load, count: values.length, p50, p95, p99 };
}

/** One turn of one contestant: ends when all of its messages have arrived and it has cleared them away. */
async function oneTurn(runtime: Runtime, entrant: EntrantName, load: number, milliseconds: number): Promise<number[]> {
  const arrivals = await arrivalsOf(runtime, entrant);
  const one = (): Promise<number> => latency(runtime, entrant, arrivals);
  try {
    const values = await (load > 0 ? openLoop(one, load, milliseconds) : oneByOne(one, milliseconds));
    await runtime.work(entrant, "clean");
    return values;
  } finally {
    await arrivals.close();
  }
}

async function oneByOne(one: () => Promise<number>, milliseconds: number): Promise<number[]> {
  const values: number[] = [];
  const end = performance.now() + milliseconds;
  do {
    values.push(await one());
    await pause(PAUSE_MS);
  } while (performance.now() < end);
  return values;
}

/** Requests by the clock, not by the answers. A timer that is late is made up for: on the whole it stays at so many a second. */
export async function openLoop(one: () => Promise<number>, load: number, milliseconds: number): Promise<number[]> {
  const values: Promise<number>[] = [];
  const begin = performance.now();
  const all = Math.max(1, Math.round((load * milliseconds) / 1000));
  while (values.length < all) {
    const due = ((performance.now() - begin) * load) / 1000;
    while (values.length < all && values.length <= due) {
      const value = one();
      // Whoever waits for all of them hears of it.
      value.catch(() => {});
      values.push(value);
    }
    await pause(begin + (values.length * 1000) / load - performance.now());
  }
  return Promise.all(values);
}

/** Opens the stream of what arrives from an object. */
async function arrivalsOf(runtime: Runtime, entrant: EntrantName): Promise<Arrivals> {
  // Compressed, the lines would come when there are enough of them, and not when they are written.
  const headers = { "accept-encoding": "identity" };
  return new Arrivals(entrant, await fetch(new URL(`${entrant}/arrivals`, runtime.url), { headers }));
}

/** Puts a message, and resolves to how long after the commit it arrives, in milliseconds. */
async function latency(runtime: Runtime, entrant: EntrantName, arrivals: Arrivals): Promise<number> {
  const number = next++;
  const committed = async (): Promise<number> => {
    const response = await runtime.ask(entrant, "one", number);
    const at = performance.now();
    // Read to its end, the connection is used again.
    await response.text();
    return at;
  };
  // Whichever comes first.
  const [delivery, commit] = await Promise.all([arrivals.of(number), committed()]);
  return delivery - commit;
}

/** The messages that arrive at the destination of a contestant, and when. */
class Arrivals {
  readonly #waiting = new Map<number, { resolve(at: number): void; reject(error: Error): void }>();
  readonly #what: string;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #ended: Promise<void>;

  constructor(entrant: EntrantName, { ok, body }: Response) {
    this.#what = ENTRANTS[entrant];
    if (!ok || !body) throw new Error(`${this.#what}: no stream of arrivals`);
    this.#reader = body.getReader();
    this.#ended = this.#read().catch((error: unknown) => this.#fail(error));
  }

  /** When the message with this number arrives. */
  of(number: number): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#waiting.set(number, { resolve, reject });
    const late = new Error(`${this.#what}: message ${number} has not arrived within ${LOST_MS / 1000} s.`);
    const timer = setTimeout(reject, LOST_MS, late);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(number);
    });
  }

  async close(): Promise<void> {
    await this.#reader.cancel().catch(() => {});
    await this.#ended;
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await this.#reader.read();
      const at = performance.now();
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#waiting.get(numberOf(line))?.resolve(at);
    }
    this.#fail(undefined);
  }

  /** Whoever still waits does so in vain. */
  #fail(cause: unknown): void {
    for (const { reject } of this.#waiting.values()) reject(new Error(`${this.#what}: the stream of arrivals has ended.`, { cause }));
  }
}

/** The number of the message that a line is about: it, or the message as a log has it. */
function numberOf(line: string): number {
  return line.startsWith("{") ? (JSON.parse(line) as { msg: { data: { ordernr: number } } }).msg.data.ordernr : Number(line);
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, Math.max(0, milliseconds)));
}
