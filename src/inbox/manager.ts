/** The inbox manager: what a Durable Object's own code calls, at `env.INBOX_MANAGER`. */

import { type OutboxEnvelope, readEnvelope } from "../api/envelope.js";
import { cut, expected, OutboxError, textOf } from "../api/errors.js";
import { type EventMessage, eventMessage } from "../api/events.js";
import { headerOf, headersOf } from "../api/headers.js";
import type { OutboxPutOptions } from "../api/put-options.js";
import { logOf, notify } from "../api/report.js";
import type { Core } from "../compose.js";
import { untilWritable } from "../context.js";
import type { OutboxTransaction, OutboxTransactionSync, Synchronous } from "../manager.js";
import { NEVER } from "../storage/memory.js";
import { draft } from "../storage/message.js";
import { define } from "../storage/native.js";
import { admissionOf, type Refusal } from "./admission.js";
import type { InboxOccurrence, InboxSettings } from "./options.js";
import { run, runSync } from "./rows.js";
import { judge, nextWaiting, type Rows, type Verdict } from "./verdict.js";

/** The outcome of a message. */
export interface InboxReceipt<T = unknown> {
  /**
   * `"processed"`: the handler has run, and everything it wrote is committed. `"duplicate"`: it has run before, or the message is already waiting;
   * nothing was done. `"waiting"`: ordered, and its predecessors have not arrived; it is stored. `"rolled_back"`: the handler called `txn.rollback()`;
   * nothing was written, and the message counts as not seen.
   */
  readonly status: "processed" | "duplicate" | "waiting" | "rolled_back";
  /** Whether `status` is `"duplicate"`. */
  readonly duplicate: boolean;
  /** What the handler returned, if it ran. */
  readonly value?: T;
}

/** Runs in a storage transaction: everything it writes through `txn` and sends commits together with the mark "seen". */
export type InboxHandler<M = unknown, T = unknown> = (txn: OutboxTransaction, message: OutboxEnvelope<M>) => T | Promise<T>;

/** The same in a synchronous transaction. */
export type InboxHandlerSync<M = unknown, T = unknown> = (txn: OutboxTransactionSync, message: OutboxEnvelope<M>) => T;

/** Runs a handler once per message. Bound at `env.INBOX_MANAGER` of a wrapped class; `M` is the type of its messages. */
export interface InboxManager<M = unknown> {
  /**
   * Runs the handler, unless this message has been processed before. Its writes through `txn`, the messages it sends with `txn.send`, and the mark that
   * it was seen commit together; if it throws, nothing is written, and `receive` rejects with what it threw. Messages that it sends carry the cause's
   * id, the correlation id and `traceparent` in their headers.
   *
   * A message with `source` and `sequence` is recognised by its number, forever; one without by its `id`, for `retentionSeconds`.
   *
   * With `ordered`, the handler is also called with the messages that were waiting for this one, each in a transaction of its own: it must work on the
   * message that it is given, and so must declare both parameters.
   *
   * With the option `messages` it is brought to the current version and checked first; the handler gets the schema's output.
   *
   * @throws TypeError when the message is not an envelope; OutboxError `invalid_message`, `version_ahead`, `inbox_full`, or `too_large` for one that would have to wait; whatever
   * the handler throws.
   */
  receive<T>(message: OutboxEnvelope<M>, handler: InboxHandler<M, T>): Promise<InboxReceipt<T>>;
  /** The same with a synchronous handler, which gets `txn.sql` and `txn.kv`. For SQLite-backed objects. @throws OutboxError `unsupported` elsewhere. */
  receiveSync<T>(message: OutboxEnvelope<M>, handler: InboxHandlerSync<M, Synchronous<T>>): InboxReceipt<T>;
}

export interface Inbox extends InboxManager {
  /** Processes messages that were waiting for predecessors that have arrived. Rejects when one fails: it keeps waiting. */
  drain(source: string, handler: InboxHandler): Promise<void>;
  /** Reports a message that was not accepted, and throws the cause. */
  failed(message: unknown, cause: unknown): never;
  /** Why the schemas have not let a message through, if this is the error that says so. */
  refusalOf(error: unknown): Refusal | undefined;
  /** The earliest time for which the alarm was requested since this was set to `NEVER`. */
  asked: number;
}

/** The outcome of a message, and how many messages of its sender wait. */
interface Taken<T> {
  readonly receipt: InboxReceipt<T>;
  readonly waiting: number;
}

/** An upper bound of what the row of a waiting message holds beside it, in bytes: its key names the sender, with up to six bytes per character. */
const WAITING_BYTES = 2048;

const DUPLICATE: Taken<never> = { receipt: { status: "duplicate", duplicate: true }, waiting: 0 };

/** @param cleanAt when ids that are remembered until a given time are forgotten */
export function inboxOf(core: Core, settings: InboxSettings, cleanAt: (until: number) => number): Inbox {
  const { store, alarm, delivery, kv } = core;
  const { memory } = store;
  const object = core.ctx.id.name ?? core.ctx.id.toString();
  const warn = logOf("warn");
  const { admitted, admittedSync, refusalOf } = admissionOf(settings.schemas);
  /** Messages whose failure has been logged. */
  const warned = new Set<string>();

  function emit(occurrence: InboxOccurrence): void {
    notify(settings.onEvent, { object, ...occurrence });
    const { type, id, key, messageType } = occurrence;
    if (type === "processed") warned.delete(id);
    if (type !== "failed" || warned.has(id)) return;
    if (warned.size >= MOST_WARNED) warned.clear();
    warned.add(id);
    warn(
      "A message failed",
      occurrence.error,
      { object, id, key, type: messageType },
      "Nothing was written; it is processed again when it arrives again.",
    );
  }

  /** Headers that say what caused a message. The caller's own take precedence, whatever the case of their names. */
  function caused({ id, headers }: OutboxEnvelope, options?: OutboxPutOptions): OutboxPutOptions {
    // Spread, it would be an object without options.
    if (options && Object(options) !== options) throw expected("options", "an object", options);
    const { headers: given, ...rest } = options ?? {};
    const own = given === undefined ? {} : headersOf("options.headers", given);
    const added: Record<string, string | undefined> = {
      "correlation-id": headerOf(headers, "correlation-id") ?? id,
      "causation-id": id,
      traceparent: headerOf(headers, "traceparent"),
      tracestate: headerOf(headers, "tracestate"),
    };
    const missing = Object.entries(added).filter(([name, value]) => value !== undefined && headerOf(own, name) === undefined);
    return { ...rest, headers: { ...Object.fromEntries(missing), ...own } as Record<string, string> };
  }

  /** Throws if there is no outbox to send with. */
  function checkOutbox(): void {
    if (!core.hasOutbox)
      throw new OutboxError("unsupported", "txn.send() needs an outbox: wrap the class with withTransactionalOutbox() as well.");
  }

  /** Sets the alarm to fire by then. The header remembers it, and the object's own alarm while the slot is shared. */
  function ring(time: number): Rows {
    inbox.asked = Math.min(inbox.asked, time);
    memory.chore = Math.min(memory.chore, time);
    void alarm.setWake(delivery.nextWake());
    return { [memory.key]: store.header() };
  }

  /** Rejects an id that there is no room for: before the handler runs, which may do more than write. */
  function checkRoom({ until }: Verdict & { status: "new" }): void {
    if (until === undefined || memory.foreign < settings.maxIds) return;
    throw new OutboxError("inbox_full", `The inbox is full: maxIds is ${settings.maxIds}.`);
  }

  /** Completes the rows of a new message, and sets the alarm for the work that is left after it. */
  function remembered({ until, rows, waiting }: Verdict & { status: "new" }): Rows {
    // If the object crashes before the messages that wait for this one are processed, the alarm continues with them.
    const soon = store.now() + RETRY_MS;
    if (waiting > 0 && memory.chore > soon) return { ...rows, ...ring(soon) };
    if (until === undefined) return rows;
    memory.foreign++;
    return { ...rows, ...ring(cleanAt(until)) };
  }

  /**
   * Completes the rows of a message that waits. One that is too large for a row fails before anything is written: storage would reset the object, and
   * with it everything else in its call.
   */
  function kept({ key, rows }: Verdict & { status: "waiting" }, envelope: OutboxEnvelope): Rows {
    const { json, msg } = draft("envelope", envelope, 2 ** (core.sqlite ? 21 : 17) - WAITING_BYTES, null);
    return { ...rows, [key]: json ?? msg };
  }

  /** One message in its transaction. */
  function receiveOne<T>(envelope: OutboxEnvelope, handler: InboxHandler<unknown, T>): Promise<Taken<T>> {
    return core.manager.transaction(async (txn) => {
      const inner = store.native;
      const verdict = await run(inner, judge(envelope, settings, store.now()));
      if (verdict.status === "duplicate") return DUPLICATE;
      const message = await admitted(envelope);
      if (verdict.status === "waiting") {
        await store.write(kept(verdict, envelope));
        return early(envelope, verdict.expected);
      }
      checkRoom(verdict);
      const send = txn.send.bind(txn);
      define(txn, {
        async send(msg: unknown, options?: OutboxPutOptions) {
          checkOutbox();
          // Awaited, so that a rejection is handled in its own turn.
          return await send(msg, caused(envelope, options));
        },
      });
      const value = await handler(txn, message);
      const { waiting } = verdict;
      if (store.native !== inner) return { receipt: { status: "rolled_back", duplicate: false, value }, waiting };
      await store.write(remembered(verdict));
      return { receipt: { status: "processed", duplicate: false, value }, waiting };
    });
  }

  function early(envelope: OutboxEnvelope, expected: number): Taken<never> {
    const { source = "", sequence: got = 0 } = envelope;
    emit({ type: "gap", ...about(envelope), source, expected, got });
    return { receipt: { status: "waiting", duplicate: false }, waiting: 1 };
  }

  /** Checks the arguments of `receive`. @throws TypeError when they can't be used. */
  function checked(message: unknown, handler: unknown): OutboxEnvelope {
    let envelope: OutboxEnvelope;
    try {
      envelope = readEnvelope(message);
    } catch (error) {
      return failed(message, error);
    }
    if (typeof handler !== "function") throw expected("handler", "a function", handler);
    // It is also called with messages that were waiting: a handler that uses only the message it closes over would process that one twice.
    if (settings.ordered && handler.length < 2) {
      throw expected("handler", "a function of (txn, message) in ordered mode", `a function of ${handler.length}`);
    }
    return envelope;
  }

  /** Reports a message that was not accepted. `message` may be anything. */
  function failed(message: unknown, cause: unknown): never {
    emit({ type: "failed", ...about(message), error: textOf(cause), cause });
    throw cause;
  }

  /** Whether a handler continues with waiting messages. */
  const drains = ({ receipt, waiting }: Taken<unknown>, handler: { length: number }): boolean =>
    receipt.status === "processed" && waiting > 0 && handler.length > 1;

  function tell(envelope: OutboxEnvelope, { status }: InboxReceipt): void {
    if (status !== "rolled_back") emit({ type: status, ...about(envelope) });
  }

  const inbox: Inbox = {
    asked: NEVER,
    failed,
    refusalOf,

    async receive(message, handler) {
      const envelope = copied(checked(message, handler));
      const { source } = envelope;
      for (let first = untilWritable(core); first; first = untilWritable(core)) await first;
      const taken = await receiveOne(envelope, handler as InboxHandler<unknown, never>).catch((error) => failed(envelope, error));
      tell(envelope, taken.receipt);
      // A message that fails there keeps waiting, and the alarm retries it.
      if (source !== undefined && drains(taken, handler)) await inbox.drain(source, handler as InboxHandler).catch(() => {});
      return taken.receipt;
    },

    async drain(source, handler) {
      for (;;) {
        const envelope = await run(store.native, nextWaiting(source, settings.ordered));
        if (!envelope) return;
        const { receipt } = await receiveOne(envelope, handler).catch((error) => failed(envelope, error));
        tell(envelope, receipt);
        if (receipt.status !== "processed") return;
      }
    },

    receiveSync(message, handler) {
      const envelope = checked(message, handler);
      const { source } = envelope;
      const one = (next: OutboxEnvelope): Taken<never> => {
        try {
          const taken = receiveOneSync(next, handler as InboxHandlerSync<unknown, never>);
          tell(next, taken.receipt);
          return taken;
        } catch (error) {
          return failed(next, error);
        }
      };
      const taken = one(envelope);
      if (source === undefined || !drains(taken, handler)) return taken.receipt;
      try {
        for (let next: OutboxEnvelope | undefined; ; ) {
          next = runSync(kv, nextWaiting(source, settings.ordered));
          if (!next || one(next).receipt.status !== "processed") break;
        }
      } catch {
        // It keeps waiting, and the alarm retries it.
      }
      return taken.receipt;
    },
  };

  function receiveOneSync<T>(envelope: OutboxEnvelope, handler: InboxHandlerSync<unknown, T>): Taken<T> {
    return core.manager.transactionSync((txn) => {
      const verdict = runSync(kv, judge(envelope, settings, store.now()));
      if (verdict.status === "duplicate") return DUPLICATE;
      const message = admittedSync(envelope);
      if (verdict.status === "waiting") {
        writeSync(kept(verdict, envelope));
        return early(envelope, verdict.expected);
      }
      checkRoom(verdict);
      const send: OutboxTransactionSync["send"] = (msg, options) => {
        checkOutbox();
        return txn.send(msg, caused(envelope, options));
      };
      const value = handler({ sql: txn.sql, kv: txn.kv, send }, message);
      if (value instanceof Promise) throw expected("handler", "a function that is not async", value);
      writeSync(remembered(verdict));
      return { receipt: { status: "processed", duplicate: false, value }, waiting: verdict.waiting };
    });
  }

  function writeSync(rows: Rows): void {
    for (const [key, value] of Object.entries(rows)) {
      if (value === undefined) kv.delete(key);
      else kv.put(key, value);
    }
  }

  return inbox;
}

/** What events say about a message, which may be anything. */
function about(message: unknown): EventMessage {
  const { id, key, msg } = Object(message) as { id: unknown; key: unknown; msg: unknown };
  const text = (value: unknown) => (typeof value === "string" ? cut(value, 256) : undefined);
  return eventMessage(text(id) ?? "", text(key), msg);
}

/** How many messages whose failure has been logged are remembered. */
const MOST_WARNED = 1000;

/** The message as it is at the call, which has to wait. A message that can't be cloned can't be stored either, and is passed as it is. */
function copied(envelope: OutboxEnvelope): OutboxEnvelope {
  try {
    return structuredClone(envelope);
  } catch {
    return envelope;
  }
}

/** Messages that wait although their turn has come are retried after this long, in milliseconds. */
export const RETRY_MS: number = 60_000;
