/** The wrapper: turns a Durable Object class into one with an inbox. */

import { textOf } from "../call.js";
import { coreOf, outboxOf, type Wrappable } from "../core.js";
import type { OutboxEnvelope } from "../envelope.js";
import { expected } from "../errors.js";
import type { OutboxTransaction } from "../manager.js";
import { define } from "../native.js";
import { gate } from "../parts.js";
import { choreOf, cleaning } from "./chores.js";
import { type InboxHandler, inboxOf } from "./manager.js";
import { type InboxOptions, inboxSettings } from "./options.js";

/** A class that can be wrapped. */
export type InboxClass = new (ctx: DurableObjectState, env: never, ...rest: never[]) => object;

/** What became of one message of a call of `receiveMessages`. */
export interface InboxOutcome {
  readonly id: string;
  /** As in `InboxReceipt`; `"failed"`: send it again. */
  readonly status: "processed" | "duplicate" | "waiting" | "failed";
  /** Why it failed: at most 500 characters. */
  readonly error?: string;
}

/** What a wrapped class can be called for over RPC. */
export interface InboxReceiver {
  /**
   * Takes messages from a sender, in order: each in a transaction of its own, with the class's `receiveMessage`. One that fails
   * holds up those with its ordering key, and no other. At most 1,000.
   */
  receiveMessages(envelopes: OutboxEnvelope[]): Promise<InboxOutcome[]>;
}

/** The wrapped class: with the statics and the constructor of its class, and one method more. */
export type WithInbox<C extends InboxClass> = { readonly [K in keyof C]: C[K] } & (new (
  ...args: ConstructorParameters<C>
) => InstanceType<C> & InboxReceiver);

/** The most messages of one call. */
const MOST_MESSAGES = 1000;
const WRAPPED: unique symbol = Symbol();

/**
 * Wraps a Durable Object class, so that it finds an `InboxManager` at `env.INBOX_MANAGER`, and that its
 * `receiveMessage(message, txn)`, if it has one, runs once for each message that comes to its RPC method `receiveMessages`. Goes
 * with `withTransactionalOutbox` in either order. `receiveMessage` can't be called over RPC.
 *
 * @throws TypeError when an option is wrong, or the class has a `receiveMessages` of its own.
 */
export function withTransactionalInbox<C extends InboxClass>(cls: C, options?: InboxOptions): WithInbox<C> {
  if (typeof cls !== "function") throw expected("cls", "a class", cls);
  const settings = inboxSettings(options);
  if ((cls as { [WRAPPED]?: true })[WRAPPED]) return cls as WithInbox<C>;
  if ("receiveMessages" in cls.prototype) throw expected("cls", "a class without a receiveMessages() of its own", cls.name);
  const receivers = new WeakMap<object, (envelopes: unknown) => Promise<InboxOutcome[]>>();
  const Base = cls as unknown as Wrappable;
  const Wrapped = class extends Base {
    static readonly [WRAPPED] = true;
    static override readonly name = cls.name;
    constructor(...args: unknown[]) {
      const [ctx, env, ...rest] = args as [DurableObjectState, Record<string, unknown>, ...unknown[]];
      if (settings.binding in env) throw expected("options.binding", "a name that is free in env", settings.binding);
      const core = coreOf(ctx, outboxOf(cls));
      const cleanAt = cleaning(settings.retentionSeconds);
      const inbox = inboxOf(core, settings, cleanAt);
      let handler: InboxHandler | null = null;
      core.chores.push(choreOf(core, inbox, settings.ordered, cleanAt, () => handler));
      const { receive, receiveSync } = inbox;
      super(ctx, { ...env, [settings.binding]: { receive, receiveSync } }, ...rest);
      core.adopt(this);
      type Own = (message: OutboxEnvelope, txn: OutboxTransaction) => unknown;
      let own: Own | undefined;
      // An own property is refused over RPC.
      const ours: Own = (message, txn) => own?.call(this, message, txn);
      /** A subclass may have put its own there, as an instance property. */
      const adopt = (): void => {
        const { receiveMessage } = this as { receiveMessage?: Own };
        if (receiveMessage !== ours) own = receiveMessage;
        handler = own ? (txn, message) => ours(message, txn) : null;
        if (own) define(this, { receiveMessage: ours });
      };
      adopt();
      receivers.set(this, async (envelopes) => {
        for (let first = gate(core); first; first = gate(core)) await first;
        adopt();
        if (!handler) throw expected("receiveMessage", "a method of the class", undefined);
        const list = checked(envelopes);
        const held = new Set<string>();
        const outcomes: InboxOutcome[] = [];
        for (const envelope of list) outcomes.push(await one(envelope, handler, held));
        return outcomes;
      });

      async function one(envelope: OutboxEnvelope, handler: InboxHandler, held: Set<string>): Promise<InboxOutcome> {
        const { id, key } = Object(envelope) as { id: unknown; key: unknown };
        const name = typeof id === "string" ? id.slice(0, 256) : "";
        try {
          if (typeof key === "string" && held.has(key)) throw new Error("One before it with the same ordering key has failed.");
          const { status } = await inbox.receive(envelope, handler);
          if (status === "rolled_back") throw new Error("The handler rolled back.");
          return { id: name, status };
        } catch (error) {
          if (typeof key === "string") held.add(key);
          return { id: name, status: "failed", error: textOf(error) };
        }
      }
    }

    receiveMessages(envelopes: unknown): Promise<InboxOutcome[]> {
      const receiver = receivers.get(this);
      if (!receiver) throw expected("this", "a wrapped object", this);
      return receiver(envelopes);
    }
  };
  return Wrapped as unknown as WithInbox<C>;
}

function checked(envelopes: unknown): OutboxEnvelope[] {
  if (!Array.isArray(envelopes) || envelopes.length > MOST_MESSAGES) {
    throw expected("envelopes", `a list of at most ${MOST_MESSAGES} envelopes`, envelopes);
  }
  return envelopes as OutboxEnvelope[];
}
