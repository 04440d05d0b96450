/** What the frameworks have for work that must not get lost: state in one write, then a task in a queue or schedule of theirs. */
import { Actor } from "@cloudflare/actors";
import { Agent } from "agents";
import type { Destination, JobName } from "../words.ts";
import { type Contestant, type Env, KEY, type Message, message, state, Work } from "./work.ts";

/** The Agents SDK's queue: tasks run one at a time, in order, in the SDK's alarm. */
export class AgentQueue extends Agent<Cloudflare.Env & Env> implements Contestant {
  readonly #work = new Work(this.ctx, this.env, {
    one: async (n) => {
      await this.ctx.storage.put(KEY, state(n));
      await this.queue("task", message(n));
    },
    // The SDK finds tasks by a field of what they carry, and every message has the same type.
    idle: async () => (await this.getQueues("type", message(0).type)).length === 0,
  });

  /** What the queue calls. */
  async task(msg: Message): Promise<void> {
    await this.#work.deliver([msg]);
  }

  // Asynchronous, because the SDK starts itself before methods that are.
  async job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }
}

/** The Agents SDK's schedules: tasks of the same second run one at a time, in no order. */
export class AgentSchedule extends Agent<Cloudflare.Env & Env> implements Contestant {
  readonly #work = new Work(this.ctx, this.env, {
    one: async (n) => {
      await this.ctx.storage.put(KEY, state(n));
      // As soon as possible: the SDK rounds down to the second, which has then begun.
      await this.schedule(0, "task", message(n));
    },
    idle: async () => (await this.listSchedules()).length === 0,
  });

  /** What schedules call. */
  async task(msg: Message): Promise<void> {
    await this.#work.deliver([msg]);
  }

  async job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }
}

/** The Actors package's alarms: tasks run one at a time when their second begins. */
export class ActorAlarm extends Actor<Env> implements Contestant {
  readonly #work = new Work(this.ctx, this.env, {
    one: async (n) => {
      await this.ctx.storage.put(KEY, state(n));
      // As soon as possible: the package rounds down to the second, and sets no alarm for one that has begun.
      await this.alarms.schedule(1, "task", message(n));
    },
    idle: async () => this.alarms.getSchedules().length === 0,
  });

  /** What schedules call. */
  async task(msg: Message): Promise<void> {
    await this.#work.deliver([msg]);
  }

  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }
}
