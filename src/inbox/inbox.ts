/** The wrapper: turns a Durable Object class into one with an inbox. */

import type { OutboxEnvelope } from "../api/envelope.js";
import { cut, expected, OutboxError, textOf } from "../api/errors.js";
import type { MessageSchemas, MessagesOf } from "../api/messages.js";
import { type Core, coreOf, isDecorator, outboxOf, type Wrappable } from "../compose.js";
import { untilWritable } from "../context.js";
import { closed, type Lookup, lookupOf } from "../handlers.js";
import type { OutboxTransaction } from "../manager.js";
import { addChore } from "../storage/chore.js";
import type { Refusal } from "./admission.js";
import { choreOf, cleaning } from "./chores.js";
import { type InboxHandler, type InboxManager, inboxOf } from "./manager.js";
import { type InboxOptions, inboxSettings } from "./options.js";

/** A class that can be wrapped. */
export type InboxClass = new (ctx: DurableObjectState, env: never, ...rest: never[]) => object;

/** The outcome of one message in a call of `receiveMessages`. */
export interface InboxOutcome {
  readonly id: string;
  /** As in `InboxReceipt`; `"failed"`: send it again. */
  readonly status: "processed" | "duplicate" | "waiting" | "failed";
  /** Why it failed: at most 500 characters. */
  readonly error?: string;
  /**
   * Set where the schemas of the inbox refused it. `"invalid_message"`: it will be refused each time. `"version_ahead"`: a newer deployment will accept
   * it.
   */
  readonly code?: Refusal;
}

/** What a wrapped class offers over RPC. */
export interface InboxReceiver {
  /**
   * Processes messages, in order: each in a transaction of its own, with the class's `receiveMessage`. One that fails holds back those of its sender
   * with its ordering key, and no others. At most 1,000.
   */
  receiveMessages(envelopes: OutboxEnvelope[]): Promise<InboxOutcome[]>;
}

/** Accepts any envelope and any transaction that an inbox passes. */
type ReceiveMessage = (message: OutboxEnvelope<never>, txn: OutboxTransaction<never>) => void;

/** `unknown` when the class can receive messages, and otherwise a type that no class has, so that the call does not compile. */
export type ReceivesEnvelopes<C extends InboxClass, B extends string> =
  InstanceType<C> extends { receiveMessage: unknown }
    ? InstanceType<C>["receiveMessage"] extends ReceiveMessage
      ? unknown
      : { receiveMessage_must_take: Parameters<ReceiveMessage> }
    : B extends keyof ConstructorParameters<C>[1]
      ? unknown
      : { the_class_must_have_receiveMessage_or_in_its_env: B };

/** The name of the manager: the given one, if env has a manager with that name, and otherwise the names that would work. */
export type InboxBinding<C extends InboxClass, B extends string> = B extends "INBOX_MANAGER"
  ? B
  : string extends B
    ? B
    : unknown extends ConstructorParameters<C>[1]
      ? B
      : ConstructorParameters<C>[1] extends Record<B, InboxManager>
        ? B
        : ManagersIn<ConstructorParameters<C>[1]>;

/** `unknown` when the handler of a class takes what its schemas make of messages, and otherwise a type that no schemas have. */
export type DescribesReceived<C extends InboxClass, S extends MessageSchemas> = string extends keyof S
  ? unknown
  : InstanceType<C> extends { receiveMessage(message: OutboxEnvelope<infer M>, ...rest: never[]): void }
    ? [MessagesOf<S>] extends [M]
      ? unknown
      : { messages_must_be_those_of_receiveMessage: M }
    : unknown;

type ManagersIn<E> = { [K in keyof E]: E[K] extends InboxManager ? K : never }[keyof E] & string;

/** The wrapped class: with the statics and the constructor of its class, and one more method. */
export type WithInbox<C extends InboxClass> = { readonly [K in keyof C]: C[K] } & (new (
  ...args: ConstructorParameters<C>
) => InstanceType<C> & InboxReceiver);

/** The most messages of one call. */
const MOST_MESSAGES = 1000;
const WRAPPED: unique symbol = Symbol();
/** Where an instance keeps what its `receiveMessages` calls: a proxy around it finds that as well. */
const RECEIVE: unique symbol = Symbol();

/**
 * Wraps a Durable Object class, so that it finds an `InboxManager` at `env.INBOX_MANAGER`, and its `receiveMessage(message, txn)`, if it has one, runs
 * once per message that arrives at its RPC method `receiveMessages`. Combines with `withTransactionalOutbox` in either order. `receiveMessage` can't be
 * called over RPC.
 *
 * A class without `receiveMessage` compiles only if its env declares the manager, with which it can receive messages in its own code.
 *
 * @throws TypeError when an option is wrong, or the class has a `receiveMessages` of its own.
 *
 * @example
 * class StockBase extends DurableObject<Env> {
 *   async receiveMessage({ msg }: OutboxEnvelope<OrderMessage>, txn: OutboxTransaction) {
 *     await txn.put("left", ((await txn.get<number>("left")) ?? 0) - msg.quantity);
 *   }
 * }
 * export class Stock extends withTransactionalInbox(StockBase) {}
 */
export function withTransactionalInbox<
  C extends InboxClass,
  const B extends string = "INBOX_MANAGER",
  S extends MessageSchemas = MessageSchemas,
>(
  cls: C & ReceivesEnvelopes<C, B>,
  options?: InboxOptions<InboxBinding<C, B>, S & DescribesReceived<C, S>> | ClassDecoratorContext,
): WithInbox<C> {
  if (typeof cls !== "function") throw expected("cls", "a class", cls);
  const settings = inboxSettings(isDecorator(options) ? undefined : options);
  if ((cls as { [WRAPPED]?: true })[WRAPPED]) return cls as WithInbox<C>;
  if ("receiveMessages" in cls.prototype) throw expected("cls", "a class without a receiveMessages() of its own", cls.name);
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
      let own: Lookup = () => null;
      const handler = (): InboxHandler | null => {
        const receiveMessage = own();
        return receiveMessage && ((txn, message) => receiveMessage(message, txn));
      };
      addChore(core.store.chores, choreOf(core, inbox, settings.ordered, cleanAt, handler));
      const { receive, receiveSync } = inbox;
      const bound = { ...env, [settings.binding]: { receive, receiveSync } };
      if (!core.hasOutbox && !("OUTBOX_MANAGER" in env)) Object.defineProperty(bound, "OUTBOX_MANAGER", { value: noManager(core) });
      super(ctx, bound, ...rest);
      // A wrapper in between may have constructed its class as if nothing extended it (Sentry 10.8 did).
      if (!Object.prototype.isPrototypeOf.call(Wrapped.prototype, this)) Object.setPrototypeOf(this, new.target.prototype);
      core.adopt(this);
      own = "receiveMessage" in this ? closed(this, "receiveMessage", missing) : lookupOf(this, "receiveMessage");
      const receiver = async (envelopes: unknown): Promise<InboxOutcome[]> => {
        for (let first = untilWritable(core); first; first = untilWritable(core)) await first;
        const current = handler() ?? missing();
        const list = checked(envelopes);
        const held = new Set<string>();
        const outcomes: InboxOutcome[] = [];
        for (const envelope of list) outcomes.push(await one(envelope, current, held));
        return outcomes;
      };
      Object.defineProperty(this, RECEIVE, { value: receiver });

      async function one(envelope: OutboxEnvelope, handler: InboxHandler, held: Set<string>): Promise<InboxOutcome> {
        const { id } = Object(envelope) as { id: unknown };
        const lane = laneOf(envelope);
        const name = typeof id === "string" ? cut(id, 256) : "";
        try {
          if (lane !== undefined && held.has(lane)) throw new Error("An earlier message with the same ordering key has failed.");
          const { status } = await inbox.receive(envelope, handler);
          if (status === "rolled_back") return inbox.failed(envelope, new Error("The handler rolled back."));
          return { id: name, status };
        } catch (error) {
          if (lane !== undefined) held.add(lane);
          const code = inbox.refusalOf(error);
          return { id: name, status: "failed", error: textOf(error), ...(code && { code }) };
        }
      }
    }

    receiveMessages(envelopes: unknown): Promise<InboxOutcome[]> {
      const receiver = (this as { [RECEIVE]?: (envelopes: unknown) => Promise<InboxOutcome[]> })[RECEIVE];
      if (!receiver) throw expected("this", "a wrapped object", this);
      return receiver(envelopes);
    }
  };
  return Wrapped as unknown as WithInbox<C>;
}

/** A sender and its ordering key. That of another sender is another one, and epochs of one sender are not. */
function laneOf(envelope: unknown): string | undefined {
  const { source, key } = Object(envelope) as { source: unknown; key: unknown };
  if (typeof key !== "string") return undefined;
  return JSON.stringify([typeof source === "string" ? source.replace(/:[^:]*$/, "") : "", key]);
}

/** The manager of an object that has only an inbox: each of its methods says what is missing. */
function noManager({ manager }: Core): object {
  const fail = (): never => {
    throw new OutboxError("unsupported", "This object has no outbox: wrap its class with withTransactionalOutbox() as well.");
  };
  return Object.fromEntries(Object.keys(manager).map((name) => [name, fail]));
}

function missing(): never {
  throw expected("receiveMessage", "a method of the class", undefined);
}

function checked(envelopes: unknown): OutboxEnvelope[] {
  if (!Array.isArray(envelopes) || envelopes.length > MOST_MESSAGES) {
    throw expected("envelopes", `a list of at most ${MOST_MESSAGES} envelopes`, envelopes);
  }
  return envelopes as OutboxEnvelope[];
}
