/** The class's `deadMessage`: called in the transaction that makes a message a dead letter, so that what it writes and sends commits with that. */

import { OutboxError } from "../api/errors.js";
import { eventMessage } from "../api/events.js";
import type { Settings } from "../api/options.js";
import { identify, payloadOf, presentDead, type Read } from "../storage/message.js";
import type { Store } from "../storage/store.js";
import type { Reader } from "./reader.js";
import { failure } from "./reporting.js";
import { currentIn } from "./versions.js";

/** How long one call may take, in seconds: other requests wait meanwhile, and the platform resets an object that keeps them waiting for 30. */
const TIMEOUT_SECONDS = 10;
/** How long all calls of one batch may take together, in milliseconds: the messages that are left then have theirs in the next run. */
const BUDGET_MS = 60_000;
/** A message in whose calls the isolate died so often becomes a dead letter without another. */
const MOST_DEATHS = 3;

/** A message that is about to become a dead letter. */
export interface Dying {
  readonly reader: Reader;
  /** As its dead letter will be stored. */
  readonly message: Read;
  /** Whether it does not wait any more: it was cancelled, say. */
  isGone(): boolean | Promise<boolean>;
  /** Makes it a dead letter, in memory and in the rows that the caller writes. */
  change(rows: Record<string, unknown>): void;
}

export interface DeadMessages {
  /** Whether the class has the handler now. Without it nothing here is called, and nothing costs anything. */
  isHandled(): boolean;
  /**
   * Makes messages dead letters, each in a transaction in which the handler is called first. Resolves to those for which that has been done, and
   * those that there was no time for. For the others the handler has failed, which has been reported, and nothing of what it wrote is left: they are
   * as they were.
   *
   * @param isCareful an earlier run has died, or nothing would tell that this one does: it is written down before each call
   */
  handle<D extends Dying>(dying: readonly D[], isCareful: boolean): Promise<{ readonly done: readonly D[]; readonly left: readonly D[] }>;
}

/** `deadMessage` as it is found at a call. */
type DeadHandler = (message: unknown, destination: string, txn: object) => unknown;

/**
 * @param handler finds the handler: `null` where the class has none
 * @param transaction the manager's
 * @param sync resolves when everything that was written is durable
 * @param wake arms the next wake-up, and is called in the turn of the writes
 */
export function deadMessagesOf(
  store: Store,
  { emit, schemas }: Settings,
  handler: () => DeadHandler | null,
  ctx: DurableObjectState,
  transaction: <T>(closure: (txn: object) => Promise<T>) => Promise<T>,
  sync: () => Promise<void>,
  wake: () => unknown,
): DeadMessages {
  const { memory } = store;
  /** Keeps every other event out meanwhile: none may find itself in a transaction that is not its own. */
  const exclusively = <T>(body: () => Promise<T>): Promise<T> => ctx.blockConcurrencyWhile(body);

  /** Resolves to whether the message is a dead letter: not where it does not wait any more. Rejects when the handler has failed. */
  async function one(dying: Dying, call: DeadHandler): Promise<boolean> {
    const { reader, message } = dying;
    return transaction(async (txn) => {
      if (await dying.isGone()) return false;
      const within = store.native;
      // Each time a copy: the handler may do with it what it likes.
      const letter = presentDead({ ...message, msg: payloadOf(message.stored) }, reader.name, currentIn(schemas, message));
      await inTime(async () => call(letter, reader.name, txn));
      if (store.native !== within) throw new Error("deadMessage() has rolled its transaction back.");
      if (await dying.isGone()) return false;
      const written = store.commit((rows) => {
        reader.dying = null;
        dying.change(rows);
        rows[memory.key] = store.header();
      });
      wake();
      await written;
      return true;
    });
  }

  /** Writes down that the handler is about to be called, in case the isolate dies. @throws where it has died too often. */
  async function note({ reader, message: { position } }: Dying): Promise<void> {
    const [last, deaths] = reader.dying ?? [0, 0];
    const times = last === position ? deaths : 0;
    if (times >= MOST_DEATHS) throw new Error(`The isolate died in deadMessage() ${times} times.`);
    reader.dying = [position, times + 1];
    const saved = store.saveHeader();
    // The header says how the destination is doing now, and not any more what was noted for the case that this run dies.
    wake();
    await saved;
    await sync();
  }

  return {
    isHandled: () => handler() !== null,

    async handle(all, isCareful) {
      const done: (typeof all)[number][] = [];
      const deadline = store.now() + BUDGET_MS;
      for (const [index, dying] of all.entries()) {
        const { reader, message } = dying;
        while (store.open) await store.open;
        if (index > 0 && store.now() >= deadline) return { done, left: all.slice(index) };
        const call = handler();
        if (!call) continue;
        try {
          if (isCareful || reader.dying) await note(dying);
          // What is thrown in there would reset the object.
          const { value, error } = await exclusively(() =>
            one(dying, call).then(
              (value) => ({ value, error: null }),
              (error: unknown) => ({ value: false, error: { cause: error } }),
            ),
          );
          if (error) throw error.cause;
          if (value) done.push(dying);
          reader.dying = null;
        } catch (error) {
          reader.dying = null;
          const { stream, position, stored, more } = message;
          const about = eventMessage(identify(stream, position, more.id).id, more.key, payloadOf(stored));
          emit({ type: "dead_message_failed", destination: reader.name, ...about, ...failure(error) });
        }
      }
      return { done, left: [] };
    },
  };
}

/** @throws OutboxError `timeout` where it takes too long: what is written in the transaction from then on is refused. */
async function inTime(work: () => Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const tooLong = new Promise<never>((_, reject) => {
    // Not one of the outbox's timers, which wait for the end of the transaction.
    timer = setTimeout(() => reject(new OutboxError("timeout", `deadMessage() took over ${TIMEOUT_SECONDS} s.`)), TIMEOUT_SECONDS * 1000);
  });
  try {
    await Promise.race([work(), tooLong]);
  } finally {
    clearTimeout(timer);
  }
}
