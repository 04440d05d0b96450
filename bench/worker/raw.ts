/** Storage itself, and the dual write that an outbox is there to replace. */
import { DurableObject } from "cloudflare:workers";
import type { Destination, JobName } from "../words.ts";
import { type Contestant, type Env, KEY, message, state, Work } from "./work.ts";

/** The floor: state only. */
export class RawState extends DurableObject<Env> implements Contestant {
  readonly #work = new Work(this.ctx, this.env, { one: (n) => this.ctx.storage.put(KEY, state(n)) });

  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }

  override async fetch(): Promise<Response> {
    return this.#work.connected();
  }
}

/** The limit of the pattern: state and message in one put, under two keys, and one alarm for all. Nothing is delivered. */
export class RawPair extends DurableObject<Env> implements Contestant {
  readonly #work = new Work(this.ctx, this.env, {
    one: async (n) => {
      if (n === 0) void this.ctx.storage.setAlarm(Date.now());
      await this.ctx.storage.put<unknown>({ [KEY]: state(n), [`outbox:${String(n).padStart(16, "0")}`]: message(n) });
    },
    idle: async () => {
      await this.ctx.storage.deleteAll();
      return true;
    },
  });

  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }

  override async fetch(): Promise<Response> {
    return this.#work.connected();
  }

  override async alarm(): Promise<void> {}
}

/** State first, then the message, each its own: a crash between the two loses the message. */
export class DualWrite extends DurableObject<Env> implements Contestant {
  readonly #work = new Work(this.ctx, this.env, {
    one: async (n) => {
      await this.ctx.storage.put(KEY, state(n));
      await this.#work.deliver([message(n)]);
    },
  });

  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }
}
