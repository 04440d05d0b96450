/** The inbox manager: what a Durable Object's own code calls, at `env.INBOX_MANAGER`. */

import type { Core } from "../core.js";
import type { OutboxPutOptions } from "../envelope.js";
import { expected, OutboxError } from "../errors.js";
import type { OutboxTransaction, OutboxTransactionSync } from "../manager.js";
import { define } from "../native.js";
import { gate } from "../parts.js";
import { type OutboxEnvelope, readEnvelope } from "../wire.js";
import type { Heard } from "./heard.js";
import type { InboxSettings } from "./options.js";
import { run, runSync, senderKey } from "./rows.js";
import { judge, nextWaiting, type Rows, released, type Verdict } from "./verdict.js";

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
   * @throws TypeError when the message is no envelope; OutboxError `inbox_full`; whatever the handler throws.
   */
  receive<T>(message: OutboxEnvelope<M>, handler: InboxHandler<M, T>): Promise<InboxReceipt<T>>;
  /** The same with a synchronous handler, which gets `txn.sql` and `txn.kv`. For SQLite-backed objects. @throws OutboxError `unsupported` elsewhere. */
  receiveSync<T>(message: OutboxEnvelope<M>, handler: InboxHandlerSync<M, T>): InboxReceipt<T>;
}

export interface Inbox extends InboxManager {
  /** Processes what has waited for messages that have come meanwhile. */
  drain(source: string, handler: InboxHandler): Promise<void>;
}

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
    memory.chore = Math.min(memory.chore, time);
    void alarm.setWake(delivery.nextWake());
    return { [memory.key]: store.header() };
  }

  /** Completes what is written for a new message, and arms the alarm for what is left to do after it. */
  function remembered({ until, rows }: Verdict & { status: "new" }, { source }: OutboxEnvelope): Rows {
    const heard = source === undefined ? undefined : (rows[senderKey(source)] as Heard | undefined);
    // Should the object die before those that wait for this one are through, the alarm goes on with them.
    if (heard && heard.waiting > 0) return { ...rows, ...ring(Date.now() + RETRY_MS) };
    if (until === undefined) return rows;
    if (memory.foreign >= settings.maxIds) throw new OutboxError("inbox_full", `${settings.maxIds} ids are remembered already (maxIds).`);
    memory.foreign++;
    return { ...rows, ...ring(cleanAt(until)) };
  }

  /** One message in its transaction. `waited` tells that it stands among those that wait. */
  function receiveOne<T>(envelope: OutboxEnvelope, handler: InboxHandler<unknown, T>, waited: boolean): Promise<InboxReceipt<T>> {
    return core.manager.transaction(async (txn) => {
      const inner = store.native;
      const verdict = await run(inner, judge(envelope, settings, Date.now()));
      if (verdict.status === "duplicate") return { status: "duplicate", duplicate: true };
      if (verdict.status === "waiting") {
        await store.write(verdict.rows);
        return early(envelope, verdict.expected);
      }
      const send = txn.send.bind(txn);
      define(txn, {
        async send(msg: unknown, options?: OutboxPutOptions) {
          checkOutbox();
          return send(msg, caused(envelope, options));
        },
      });
      const value = await handler(txn, envelope);
      if (store.native !== inner) return { status: "rolled_back", duplicate: false, value };
      const { source = "", sequence = 0 } = envelope;
      await store.write(waited ? released(source, sequence, verdict.rows) : remembered(verdict, envelope));
      return { status: "processed", duplicate: false, value };
    });
  }

  function early(envelope: OutboxEnvelope, expected: number): InboxReceipt<never> {
    const { id, source = "", sequence: got = 0 } = envelope;
    emit({ type: "gap", id, source, expected, got });
    return { status: "waiting", duplicate: false };
  }

  function tell({ id }: OutboxEnvelope, { status }: InboxReceipt): void {
    if (status !== "rolled_back") emit({ type: status, id });
  }

  const inbox: Inbox = {
    async receive(message, handler) {
      const envelope = readEnvelope(message);
      if (typeof handler !== "function") throw expected("handler", "a function", handler);
      for (let first = gate(core); first; first = gate(core)) await first;
      const receipt = await receiveOne(envelope, handler as InboxHandler<unknown, never>, false).catch((error) => {
        emit({ type: "failed", id: envelope.id, error });
        throw error;
      });
      tell(envelope, receipt);
      if (settings.ordered && receipt.status === "processed" && envelope.source) {
        await inbox.drain(envelope.source, handler as InboxHandler).catch(() => {});
      }
      return receipt;
    },

    async drain(source, handler) {
      for (;;) {
        const envelope = await run(store.native, nextWaiting(source));
        if (!envelope) return;
        const receipt = await receiveOne(envelope, handler, true).catch((error) => {
          // It stands where it stood, and the alarm looks at it again.
          emit({ type: "failed", id: envelope.id, error });
          throw error;
        });
        tell(envelope, receipt);
        if (receipt.status !== "processed") return;
      }
    },

    receiveSync(message, handler) {
      const envelope = readEnvelope(message);
      if (typeof handler !== "function") throw expected("handler", "a function", handler);
      const receipt = receiveOneSync(envelope, handler as InboxHandlerSync<unknown, never>, false);
      tell(envelope, receipt);
      const { source } = envelope;
      if (!settings.ordered || receipt.status !== "processed" || source === undefined) return receipt;
      for (let next = runSync(kv, nextWaiting(source)); next; next = runSync(kv, nextWaiting(source))) {
        try {
          tell(next, receiveOneSync(next, handler as InboxHandlerSync, true));
        } catch (error) {
          emit({ type: "failed", id: next.id, error });
          break;
        }
      }
      return receipt;
    },
  };

  function receiveOneSync<T>(envelope: OutboxEnvelope, handler: InboxHandlerSync<unknown, T>, waited: boolean): InboxReceipt<T> {
    return core.manager.transactionSync((txn) => {
      const verdict = runSync(kv, judge(envelope, settings, Date.now()));
      if (verdict.status === "duplicate") return { status: "duplicate", duplicate: true };
      if (verdict.status === "waiting") {
        writeSync(verdict.rows);
        return early(envelope, verdict.expected);
      }
      const send: OutboxTransactionSync["send"] = (msg, options) => {
        checkOutbox();
        return txn.send(msg, caused(envelope, options));
      };
      const value = handler({ sql: txn.sql, kv: txn.kv, send }, envelope);
      if (value instanceof Promise) throw expected("handler", "a function that is not async", value);
      const { source = "", sequence = 0 } = envelope;
      writeSync(waited ? released(source, sequence, verdict.rows) : remembered(verdict, envelope));
      return { status: "processed", duplicate: false, value };
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
