/** What `toDurableObject` knows of its targets from the type of their binding: whether they have an inbox, and which messages they take. */

import type { OutboxEnvelope } from "../api/envelope.js";

/** What an inbox reports about one message. */
export interface InboxResult {
  readonly id: string;
  /**
   * `processed`, `duplicate` (it was processed before) and `waiting` (it is stored there until its predecessors have arrived) count as delivered;
   * `failed` is sent again.
   */
  readonly status: "processed" | "duplicate" | "waiting" | "failed";
  /** Why it failed. */
  readonly error?: string;
  /** Where its schemas refused it: `"invalid_message"` will be refused each time, `"version_ahead"` is for a newer deployment. */
  readonly code?: string;
}

/** An object with an inbox: one whose class is wrapped with `withTransactionalInbox`, or has this RPC method of its own. */
export interface InboxObject extends Rpc.DurableObjectBranded {
  receiveMessages(envelopes: OutboxEnvelope<never>[]): Promise<InboxResult[]>;
}

/** The binding of a class whose objects have an inbox. */
export type InboxNamespace =
  // First: a binding of `any` is one of these, and looking at what its `get` returns would never end.
  | DurableObjectNamespace<InboxObject>
  | {
      idFromName(name: string): DurableObjectId;
      get(id: DurableObjectId): { receiveMessages: unknown };
    };

/** What a binding must have. Whether its objects have an inbox depends on their class, if that is known. */
export interface Namespace {
  idFromName(name: string): DurableObjectId;
  get: unknown;
}

/** The class of a binding: `undefined` if the binding names none. */
type ClassOf<N> = N extends DurableObjectNamespace<infer T> ? T : N extends { get(id: DurableObjectId): infer S } ? S : never;

/** `unknown` when the objects of a binding have an inbox, or its class is not known; otherwise a type that no binding has. */
export type HasInbox<N> = ClassOf<N> extends undefined | { receiveMessages: unknown } ? unknown : { the_target_has_no_inbox: InboxObject };

/** The messages that an object accepts. `any` if nothing is known of its class: such a binding is `any` to the platform's types as well. */
type ReceivedBy<T> = T extends undefined
  ? // biome-ignore lint/suspicious/noExplicitAny: a binding without a class says nothing of its messages.
    any
  : T extends { receiveMessage(message: OutboxEnvelope<infer M>, ...rest: never[]): void }
    ? M
    : unknown;

/** The messages that a destination is for: the given ones, and otherwise those that the binding's objects accept. */
export type MessagesTo<M, N> = unknown extends M ? ReceivedBy<ClassOf<N>> : M;
