/** Delivery: takes batches in order, hands them to `sendMessages`, and decides what follows. */

import type { AlarmSlot } from "./alarm.js";
import { OutboxError } from "./errors.js";
import { type OutboxDelivery, type OutboxMessage, present } from "./message.js";
import type { Settings } from "./options.js";
import { retryDelayMs } from "./retry.js";
import type { Trouble } from "./rows.js";
import type { Batch, Store } from "./store.js";

/** After this long, in milliseconds, a run hands over to the next alarm: far from the platform's limit of 15 minutes. */
const RUN_BUDGET_MS = 60_000;

const CALM: Trouble = { failures: 0, retryAt: 0, deaths: 0, lease: false, tried: [] };

/** The class's `sendMessages`, bound to the instance. */
export type SendMessages = (messages: OutboxMessage<never>[], delivery: OutboxDelivery) => unknown;

/** Runs one at a time; each either empties what is due or ends with the time of the next. */
export class Delivery {
  /** The object's `sendMessages`. Messages wait while there is none. */
  send: SendMessages | null = null;
  readonly #store: Store;
  readonly #alarm: AlarmSlot;
  readonly #settings: Settings;
  #active: Promise<void> | null = null;

  constructor(store: Store, alarm: AlarmSlot, settings: Settings) {
    this.#store = store;
    this.#alarm = alarm;
    this.#settings = settings;
  }

  /** When the outbox must wake for what waits now; `null` when nothing does. */
  nextWake(now: number): number | null {
    if (this.#store.pending === 0) return null;
    return Math.max(this.#store.trouble?.retryAt ?? 0, now);
  }

  /** Starts a run, or joins the one under way. Never rejects. */
  run(died: boolean): Promise<void> {
    this.#active ??= this.#run(died).finally(() => {
      this.#active = null;
    });
    return this.#active;
  }

  async #run(died: boolean): Promise<void> {
    try {
      await this.#batches(died);
    } catch (error) {
      // Storage failed, not the destination. What waits is still stored; try again as after any failure.
      await this.#retryLater(this.#store.trouble?.tried ?? [], error).catch(() => {});
    }
  }

  async #batches(died: boolean): Promise<void> {
    const deadline = Date.now() + RUN_BUDGET_MS;
    const leased = died || this.#store.trouble?.lease === true;
    if (leased) await this.#lease();
    while (this.#store.pending > 0 && Date.now() < deadline) {
      const batch = await this.#store.take(this.#size());
      if (batch.messages.length === 0) break;
      const messages = batch.messages.map(({ stream, stored }) => present(stream, stored, this.attempts(stored.n) + 1));
      const ids = messages.map(({ id }) => id);
      try {
        await this.#attempt(messages);
      } catch (error) {
        await this.#fail(batch, ids, error);
        return;
      }
      this.#store.trouble = null;
      const cleared = this.#store.clear(batch, this.#alarm.firing);
      // In the same turn as the clearing: an alarm must not outlive what it was armed for.
      this.#alarm.moveWake(this.nextWake(Date.now()));
      await cleared;
      this.#settings.emit({ type: "delivered", ids });
      // The next run has the platform's own retries behind it again, which tell a death without a row being written.
      if (leased) break;
    }
    this.#alarm.moveWake(this.nextWake(Date.now()));
  }

  /** A run died with its isolate before this one: from now on an alarm stands before user code runs, and batches shrink. */
  async #lease(): Promise<void> {
    const { trouble } = this.#store;
    const deaths = (trouble?.deaths ?? 0) + 1;
    const retryAt = Date.now() + retryDelayMs(this.#settings.retry, deaths, Math.random());
    this.#store.trouble = { ...(trouble ?? CALM), deaths, lease: true };
    const saved = this.#store.saveHeader();
    this.#alarm.lease(retryAt);
    await saved;
    this.#settings.emit({ type: "died", deaths, batchSize: this.#size() });
  }

  /** After n deaths the batch is cut in half n times. */
  #size(): number {
    return Math.max(1, Math.floor(this.#settings.batchSize / 2 ** (this.#store.trouble?.deaths ?? 0)));
  }

  /** Failed attempts of the message at this position. */
  attempts(position: number): number {
    return this.#store.trouble?.tried.find(([through]) => position <= through)?.[1] ?? 0;
  }

  async #attempt(messages: OutboxMessage[]): Promise<void> {
    const { send } = this;
    if (send === null) {
      throw new OutboxError(
        "send_messages_missing",
        "The class has no sendMessages(messages). Messages wait until a version that has one is deployed.",
      );
    }
    const { timeoutMs } = this.#settings;
    const controller = new AbortController();
    let timer: number | null = null;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const error = new OutboxError("timeout", `sendMessages did not settle within ${timeoutMs / 1000} s.`);
        reject(error);
        controller.abort(error);
      }, timeoutMs);
    });
    try {
      const sent = (async () => send(messages as OutboxMessage<never>[], { signal: controller.signal }))();
      await Promise.race([sent, timeout]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Nothing is cleared: the outbox waits, and begins again at the same head. */
  async #fail(batch: Batch, ids: string[], error: unknown): Promise<void> {
    const through = batch.messages.at(-1)?.stored.n ?? 0;
    const saved = this.#retryLater(tried(this.#store.trouble?.tried ?? [], through), error, ids);
    await saved;
  }

  #retryLater(tried: Trouble["tried"], error: unknown, ids: string[] = []): Promise<void> {
    const before = this.#store.trouble ?? CALM;
    const failures = before.failures + 1;
    const retryAt = Date.now() + retryDelayMs(this.#settings.retry, failures, Math.random());
    this.#store.trouble = { ...before, failures, retryAt, lease: false, tried };
    const saved = this.#store.saveHeader();
    this.#alarm.moveWake(retryAt);
    this.#settings.emit({ type: "failed", ids, error, failures, retryAt });
    return saved;
  }
}

/** Counts one more attempt for every message up to a position. */
function tried(before: Trouble["tried"], through: number): Trouble["tried"] {
  const counted: [number, number][] = [];
  for (const [position, attempts] of before) {
    if (position <= through) counted.push([position, attempts + 1]);
    else {
      if ((counted.at(-1)?.[0] ?? 0) < through) counted.push([through, attempts + 1]);
      counted.push([position, attempts]);
    }
  }
  if ((counted.at(-1)?.[0] ?? 0) < through) counted.push([through, 1]);
  return counted;
}
