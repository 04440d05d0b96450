/** The inbox manager: what a Durable Object's own code calls, at `env.INBOX_MANAGER`. */

import type { Core } from "../core.js";
import { type OutboxEnvelope, readEnvelope } from "../envelope.js";
import { expected, OutboxError } from "../errors.js";
import type { OutboxTransaction, OutboxTransactionSync } from "../manager.js";
import { NEVER } from "../memory.js";
import { define } from "../native.js";
import { gate } from "../parts.js";
import type { OutboxPutOptions } from "../put-options.js";
import type { InboxSettings } from "./options.js";
import { run, runSync } from "./rows.js";
import { judge, nextWaiting, type Rows, type Verdict } from "./verdict.js";

/** What became of a message. */
export interface InboxReceipt<T = unknown> {
  /**
   * `"processed"`: the handler has run, and all it wrote is committed. `"duplicate"`: it has run before, or the message waits already; nothing
   * was done. `"waiting"`: ordered, and its predecessors have not come; it is stored. `"rolled_back"`: the handler called `txn.rollback()`;
   * nothing was written, and the message counts as not seen.
   */
  readonly status: "processed" | "duplicate" | "waiting" | "rolled_back";
  /** Whether `status` is `"duplicate"`. */
  readonly duplicate: boolean;
  /** What the handler gave, if it ran. */
  readonly value?: T;
}

/** Runs in a storage transaction: what it writes through `txn`, what it sends and the mark "seen" commit together. */
export type InboxHandler<M = unknown, T = unknown> = (txn: OutboxTransaction, message: OutboxEnvelope<M>) => T | Promise<T>;

/** The same in a synchronous transaction. */
export type InboxHandlerSync<M = unknown, T = unknown> = (txn: OutboxTransactionSync, message: OutboxEnvelope<M>) => T;

/** Runs a handler once for each message. Bound at `env.INBOX_MANAGER` of a wrapped class; `M` is the type of its messages. */
export interface InboxManager<M = unknown> {
  /**
   * Runs the handler, unless this message has been processed before. Its writes through `txn`, what it sends with `txn.send`, and the
   * mark that it was seen commit together; when it throws there is nothing of it, and `receive` rejects with what it threw.
   * What is sent carries the cause's id, the correlation id and `traceparent` in its headers.
   *
   * A message with `source` and `sequence` is known by its number, for ever; one without by its `id`, for `retentionSeconds`.
   *
   * With `ordered`, the handler is called as well with the messages that have waited for this one, each in a transaction of its own:
   * it must work on the message that it is given, and so must declare both parameters.
   *
   * @throws TypeError when the message is no envelope; OutboxError `inbox_full`; whatever the handler throws.
   */
  receive<T>(message: OutboxEnvelope<M>, handler: InboxHandler<M, T>): Promise<InboxReceipt<T>>;
  /** The same with a synchronous handler, which gets `txn.sql` and `txn.kv`. For SQLite-backed objects. @throws OutboxError `unsupported` elsewhere. */
  receiveSync<T>(message: OutboxEnvelope<M>, handler: InboxHandlerSync<M, T>): InboxReceipt<T>;
}

export interface Inbox extends InboxManager {
  /** Processes what has waited for messages that have come meanwhile. Rejects when one fails: it waits on. */
  drain(source: string, handler: InboxHandler): Promise<void>;
  /** The earliest time for which the alarm was asked since this was set to `NEVER`. */
  asked: number;
}

/** What became of a message, and how many of its sender wait. */
interface Taken<T> {
  readonly receipt: InboxReceipt<T>;
  readonly waiting: number;
}

const DUPLICATE: Taken<never> = { receipt: { status: "duplicate", duplicate: true }, waiting: 0 };

/** @param cleanAt when what is remembered until then is to be forgotten */
export function inboxOf(core: Core, settings: InboxSettings, cleanAt: (until: number) => number): Inbox {
  const { store, alarm, delivery, kv } = core;
  const { memory } = store;
  const { emit } = settings;

  /** Headers that tell where a message comes from. The caller's own go before them. */
  function caused({ id, headers = {} }: OutboxEnvelope, options: OutboxPutOptions = {}): OutboxPutOptions {
    const { "correlation-id": correlation = id, traceparent, tracestate } = headers;
    const given = {
      "correlation-id": correlation,
      "causation-id": id,
      ...(traceparent !== undefined && { traceparent }),
      ...(tracestate !== undefined && { tracestate }),
    };
    return { ...options, headers: { ...given, ...options.headers } };
  }

  /** What a send needs that is not there. */
  function checkOutbox(): void {
    if (!core.hasOutbox)
      throw new OutboxError("unsupported", "txn.send() needs an outbox: wrap the class with withTransactionalOutbox() as well.");
  }

  /** Has the alarm ring by then. The header remembers it, and the object's own alarm while the slot is shared. */
  function ring(time: number): Rows {
    inbox.asked = Math.min(inbox.asked, time);
    memory.chore = Math.min(memory.chore, time);
    void alarm.setWake(delivery.nextWake());
    return { [memory.key]: store.header() };
  }

  /** Refuses an id that there is no room for: before the handler runs, which may do more than write. */
  function checkRoom({ until }: Verdict & { status: "new" }): void {
    if (until === undefined || memory.foreign < settings.maxIds) return;
    throw new OutboxError("inbox_full", `${settings.maxIds} ids are remembered already (maxIds).`);
  }

  /** Completes what is written for a new message, and arms the alarm for what is left to do after it. */
  function remembered({ until, rows, waiting }: Verdict & { status: "new" }): Rows {
    // Should the object die before those that wait for this one are through, the alarm goes on with them.
    const soon = Date.now() + RETRY_MS;
    if (waiting > 0 && memory.chore > soon) return { ...rows, ...ring(soon) };
    if (until === undefined) return rows;
    memory.foreign++;
    return { ...rows, ...ring(cleanAt(until)) };
  }

  /** One message in its transaction. */
  function receiveOne<T>(envelope: OutboxEnvelope, handler: InboxHandler<unknown, T>): Promise<Taken<T>> {
    return core.manager.transaction(async (txn) => {
      const inner = store.native;
      const verdict = await run(inner, judge(envelope, settings, Date.now()));
      if (verdict.status === "duplicate") return DUPLICATE;
      if (verdict.status === "waiting") {
        await store.write(verdict.rows);
        return early(envelope, verdict.expected);
      }
      checkRoom(verdict);
      const send = txn.send.bind(txn);
      define(txn, {
        async send(msg: unknown, options?: OutboxPutOptions) {
          checkOutbox();
          return send(msg, caused(envelope, options));
        },
      });
      const value = await handler(txn, envelope);
      const { waiting } = verdict;
      if (store.native !== inner) return { receipt: { status: "rolled_back", duplicate: false, value }, waiting };
      await store.write(remembered(verdict));
      return { receipt: { status: "processed", duplicate: false, value }, waiting };
    });
  }

  function early(envelope: OutboxEnvelope, expected: number): Taken<never> {
    const { id, source = "", sequence: got = 0 } = envelope;
    emit({ type: "gap", id, source, expected, got });
    return { receipt: { status: "waiting", duplicate: false }, waiting: 1 };
  }

  /** Takes what came from outside. @throws TypeError when there is nothing that could be received with this. */
  function checked(message: unknown, handler: unknown): OutboxEnvelope {
    const envelope = readEnvelope(message);
    if (typeof handler !== "function") throw expected("handler", "a function", handler);
    // It is called with messages that have waited, too: one that knows only the message beside which it was written would process that one twice.
    if (settings.ordered && handler.length < 2) {
      throw expected("handler", "a function of (txn, message), because ordered", `a function of ${handler.length}`);
    }
    // A copy, so that what becomes of the caller's one changes nothing.
    return { ...envelope };
  }

  function failed({ id }: OutboxEnvelope, error: unknown): never {
    emit({ type: "failed", id, error });
    throw error;
  }

  /** Whether a handler goes on with what has waited. */
  const drains = ({ receipt, waiting }: Taken<unknown>, handler: { length: number }): boolean =>
    receipt.status === "processed" && waiting > 0 && handler.length > 1;

  function tell({ id }: OutboxEnvelope, { status }: InboxReceipt): void {
    if (status !== "rolled_back") emit({ type: status, id });
  }

  const inbox: Inbox = {
    asked: NEVER,

    async receive(message, handler) {
      const envelope = checked(message, handler);
      const { source } = envelope;
      for (let first = gate(core); first; first = gate(core)) await first;
      const taken = await receiveOne(envelope, handler as InboxHandler<unknown, never>).catch((error) => failed(envelope, error));
      tell(envelope, taken.receipt);
      // What fails there waits on, and the alarm looks at it again.
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
        // It waits on, and the alarm looks at it again.
      }
      return taken.receipt;
    },
  };

  function receiveOneSync<T>(envelope: OutboxEnvelope, handler: InboxHandlerSync<unknown, T>): Taken<T> {
    return core.manager.transactionSync((txn) => {
      const verdict = runSync(kv, judge(envelope, settings, Date.now()));
      if (verdict.status === "duplicate") return DUPLICATE;
      if (verdict.status === "waiting") {
        writeSync(verdict.rows);
        return early(envelope, verdict.expected);
      }
      checkRoom(verdict);
      const send: OutboxTransactionSync["send"] = (msg, options) => {
        checkOutbox();
        return txn.send(msg, caused(envelope, options));
      };
      const value = handler({ sql: txn.sql, kv: txn.kv, send }, envelope);
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

/** Messages that wait although their turn has come are tried again after this long, in milliseconds. */
export const RETRY_MS: number = 60_000;
