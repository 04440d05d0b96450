/** How long it takes after a SIGKILL until everything that waited has been delivered, and whether all of it has. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { type Life, type Place, placeOf } from "../../test/process/kill-loop-runtime.ts";
import { progress } from "../report.ts";
import type { Recovery } from "../results.ts";

const NAME = "Recovering";
/** A request puts so many at most. */
const FILLED = 20_000;
/** When nothing has arrived for so long, in milliseconds, nothing more will: the first backoffs of the outbox are a few seconds. */
const QUIET_MS = 20_000;

/**
 * An object with so many messages waiting is killed in the middle of its first delivery: the destination has the call,
 * and has not answered. Nothing is delivered before the SIGKILL, so everything is after it.
 *
 * Nothing is sent to the new process: the object is woken by its own alarm, which workerd keeps on disk and rings by
 * itself after a start.
 */
export async function recovery(pending: number): Promise<Recovery> {
  const place = await placeOf(new URL("../worker/recover.ts", import.meta.url), [{ name: NAME, sqlite: true }]);
  const destination = await Destination.listen();
  try {
    place.reaches(destination.port);
    await killed(place, destination, pending);
    progress(`recovery: delivering ${pending.toLocaleString("en")}`);
    const recovered = await recover(place, destination, pending);
    progress("");
    return recovered;
  } finally {
    destination.close();
    place.remove();
  }
}

/** The life that ends too early. */
async function killed(place: Place, destination: Destination, pending: number): Promise<void> {
  await living(place, 1, async (life) => {
    await life.ready;
    for (let stored = 0; stored < pending; stored += FILLED) {
      progress(`recovery: ${stored.toLocaleString("en")} of ${pending.toLocaleString("en")} stored`);
      await life.call(NAME, "fill", stored + 1, Math.min(FILLED, pending - stored));
    }
    const called = destination.hold();
    await life.call(NAME, "resume");
    await called;
  });
}

async function recover(place: Place, destination: Destination, pending: number): Promise<Recovery> {
  const all = destination.take(pending);
  const start = performance.now();
  return living(place, 2, async (life) => {
    await life.ready;
    const ready = performance.now();
    await all;
    const { arrived, first, last } = destination;
    return { pending, startMs: ready - start, firstMs: first - ready, allMs: last - ready, lost: pending - arrived.size };
  });
}

/** A start of workerd, and its SIGKILL. */
async function living<R>(place: Place, number: number, work: (life: Life) => Promise<R>): Promise<R> {
  const life = place.start(number);
  try {
    return await work(life);
  } catch (error) {
    throw new Error(`The recovery measure has failed. ${life.log()}`, { cause: error });
  } finally {
    await life.end();
  }
}

/** Where messages go: out here, where the clock is. */
class Destination {
  /** Numbers of the messages that have arrived, however often. */
  readonly arrived = new Set<number>();
  /** When the first and the last one did. */
  first = Number.NaN;
  last = Number.NaN;
  readonly #server = createServer((request, response) => {
    this.#receive(request, response).catch(() => response.destroy());
  });
  #called: (() => void) | null = null;
  #expected = 0;
  #all: () => void = () => {};
  #quiet: NodeJS.Timeout | undefined;

  static async listen(): Promise<Destination> {
    const destination = new Destination();
    destination.#server.listen(0, "127.0.0.1");
    await once(destination.#server, "listening");
    return destination;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on calls get no answer. Resolves with the first of them, and rejects when none comes. */
  hold(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const late = setTimeout(() => reject(new Error("Nothing is delivered.")), QUIET_MS);
    this.#called = resolve;
    return promise.finally(() => clearTimeout(late));
  }

  /** From now on calls are answered. Resolves when so many messages have arrived, or when nothing has arrived for long. */
  take(expected: number): Promise<void> {
    this.#called = null;
    this.#expected = expected;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#all = resolve;
    this.#quiet = setTimeout(resolve, QUIET_MS);
    return promise.finally(() => clearTimeout(this.#quiet));
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const numbers = (await json(request)) as number[];
    if (this.#called) {
      this.#called();
      return;
    }
    const at = performance.now();
    for (const number of numbers) {
      if (this.arrived.has(number)) continue;
      this.arrived.add(number);
      this.last = at;
    }
    if (Number.isNaN(this.first)) this.first = at;
    this.#quiet?.refresh();
    response.end();
    if (this.arrived.size >= this.#expected) this.#all();
  }
}
