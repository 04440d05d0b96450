/** The work that is the same for every contestant: puts one after the other, and counting what arrives. */

import type { Destination, JobName } from "../words.ts";

const encoder = new TextEncoder();

/** What every operation stores: about a hundred bytes of state. */
export interface State {
  readonly status: string;
  readonly ordernr: number;
  readonly total: number;
  readonly lines: readonly string[];
}

/** What every operation announces: about a hundred bytes of message. */
export interface Message {
  readonly type: "order_created";
  readonly data: { readonly ordernr: number; readonly customer: string; readonly total: number };
}

export interface Env {
  readonly QUEUE: Queue<Message>;
  readonly SINK: DurableObjectNamespace<import("./sink.ts").Sink>;
}

/** The key of the state. */
export const KEY = "order";
/** The most messages that a queue takes at once (Queues limits page). */
const QUEUE_BATCH = 100;

export function state(n: number): State {
  return { status: "new", ordernr: n, total: n * 10, lines: ["4711 x 3", "4712 x 1", "4713 x 12", "shipping"] };
}

export function message(n: number): Message {
  return { type: "order_created", data: { ordernr: n, customer: "c0ffee00-0000-4000-8000-000000000000", total: n * 10 } };
}

/** A contestant: a Durable Object whose `job` passes on to its work. */
export interface Contestant extends Rpc.DurableObjectBranded {
  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined>;
}

/** What a contestant gives to its work. */
export interface Ways {
  /** Saves the state with this number and announces it. */
  one(n: number): Promise<unknown>;
  /** Whether nothing is left of what was announced. Absent where nothing ever is. */
  idle?(): Promise<boolean>;
  /** How often each message is delivered. Default 1. */
  copies?(): number;
}

/** The work of one contestant. */
export class Work {
  readonly #ctx: DurableObjectState;
  readonly #env: Env;
  readonly #ways: Ways;
  #to: Destination = "nothing";
  #expected = 0;
  #arrived = 0;
  #all: () => void = () => {};
  #rest: Promise<void> = Promise.resolve();
  #told: ((numbers: number[]) => void) | null = null;

  constructor(ctx: DurableObjectState, env: Env, ways: Ways) {
    this.#ctx = ctx;
    this.#env = env;
    this.#ways = ways;
  }

  async job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    this.#to = to;
    if (name === "arrivals") return this.#arrivals();
    if (name === "puts") await this.#puts(count);
    if (name === "burst") await this.#burst(count);
    if (name === "rest") await this.#rest;
    if (name === "one") await this.#ways.one(count);
    if (name === "clean") while (!((await this.#ways.idle?.()) ?? true)) await scheduler.wait(1);
    return undefined;
  }

  /**
   * Sequential awaited puts. The alarm that they arm can't ring before the last: for every contestant alike, delivery
   * begins after the measurement.
   */
  #puts(count: number): Promise<void> {
    this.#expect(count);
    return this.#ctx.blockConcurrencyWhile(async () => {
      for (let n = 0; n < count; n++) await this.#ways.one(n);
    });
  }

  /** The same puts, with delivery whenever the platform gives it a turn, until the last message has arrived. */
  async #burst(count: number): Promise<void> {
    this.#expect(count);
    for (let n = 0; n < count; n++) await this.#ways.one(n);
    await this.#rest;
  }

  #expect(count: number): void {
    this.#expected = count * (this.#ways.copies?.() ?? 1);
    this.#arrived = 0;
    this.#rest = new Promise<void>((resolve) => {
      this.#all = resolve;
    });
  }

  /**
   * A socket that takes the number of a message to put, and says which were committed and which arrived: `c` or `d`, then numbers. Unlike a stream it
   * needs no answer for what has come, which would wait until all that was written is durable, as what it says does.
   */
  connected(): Response {
    const [client, server] = Object.values(new WebSocketPair()) as [WebSocket, WebSocket];
    server.accept();
    this.#told = (numbers) => server.send(`d${numbers}`);
    server.addEventListener("message", ({ data }) => {
      const put = Promise.resolve(this.#ways.one(Number(data))).then(() => server.send(`c${data}`));
      put.catch((error: unknown) => server.close(1011, String(error).slice(0, 100)));
    });
    server.addEventListener("close", () => {
      this.#told = null;
    });
    return new Response(null, { status: 101, webSocket: client });
  }

  /** A line for each message that arrives, with its number. */
  #arrivals(): ReadableStream {
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    // Not awaited: who listens must not slow down who sends.
    this.#told = (numbers) => void writer.write(encoder.encode(`${numbers.join("\n")}\n`)).catch(() => {});
    return readable;
  }

  /** Takes messages to where they go. */
  async deliver(messages: readonly Message[]): Promise<void> {
    if (this.#to === "queue") {
      for (let i = 0; i < messages.length; i += QUEUE_BATCH) {
        await this.#env.QUEUE.sendBatch(messages.slice(i, i + QUEUE_BATCH).map((body) => ({ body })));
      }
    }
    if (this.#to === "object") await this.#env.SINK.get(this.#env.SINK.idFromName("sink")).receive([...messages]);
    this.#told?.(messages.map(({ data }) => data.ordernr));
    this.#arrived += messages.length;
    if (this.#arrived >= this.#expected) this.#all();
  }
}
