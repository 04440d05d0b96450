/** The `messages` option: what a class declares of its messages, and the types that follow from it. */

import type { SchemaInput, SchemaOutput, StandardSchema } from "./standard-schema.js";

/**
 * The messages of a class by their `type`: for each a schema of any library that implements Standard Schema, or a schema with its version. A schema
 * is given the whole message, `type` included. It may leave `type` out of what it returns, and out of what it describes: the key stands for it. 1 to
 * 1,000 types of 1 to 256 characters.
 *
 * @example
 * const messages = {
 *   order_created: z.object({ order: z.number() }),
 *   order_paid: {
 *     schema: z.object({ order: z.number(), total: z.object({ amount: z.number(), currency: z.string() }) }),
 *     version: 2,
 *     upcast: { 1: (old) => ({ ...old, total: { amount: old.total, currency: "EUR" } }) },
 *   },
 * } satisfies MessageSchemas;
 */
export interface MessageSchemas {
  readonly [type: string]: StandardSchema | VersionedSchema;
}

/** A schema with the version of the messages that it describes. */
export interface VersionedSchema<S extends StandardSchema = StandardSchema> {
  /** Describes messages of the current version: those that are put from now on. */
  readonly schema: S;
  /** The current version: a whole number from 1 to 10,000. Default 1. It is stored with a message unless it is 1. */
  readonly version?: number;
  /**
   * One function for each earlier version, which makes a message of the next version out of one of its own: synchronous, without effects, and with no
   * gap from 1 on. It is given a copy, and what is stored stays as it is. `type` stays the same, and may be left out of what it returns.
   */
  // biome-ignore lint/suspicious/noExplicitAny: the types of earlier versions are known to the function alone.
  readonly upcast?: { readonly [from: number]: (old: any) => unknown };
  /** Where the schema is published: a URI, as CloudEvents' attribute of this name. 1 to 2,048 characters. */
  readonly dataschema?: string;
}

/** The schema in a declaration. */
type SchemaIn<D> = D extends StandardSchema ? D : D extends { readonly schema: infer S } ? S : never;

/** A message of this type: each member of a union by itself. */
type Typed<K, T> = T extends unknown ? { [P in keyof ({ readonly type: K } & T)]: ({ readonly type: K } & T)[P] } : never;

/** The messages as handlers get them: the schemas' outputs, a union discriminated by `type`. */
export type MessagesOf<T extends MessageSchemas> = { [K in keyof T & string]: Typed<K, SchemaOutput<SchemaIn<T[K]>>> }[keyof T & string];

/** The messages as they may be put: the schemas' inputs, in which what has a default may be left out. */
export type MessageInputsOf<T extends MessageSchemas> = {
  [K in keyof T & string]: Typed<K, SchemaInput<SchemaIn<T[K]>>>;
}[keyof T & string];

/** One thing that is wrong with a message. */
export interface MessageIssue {
  /** As the schema words it: up to 500 characters. */
  readonly message: string;
  /** Where in the message: names of properties, and indices of lists. Empty where it is the message as a whole. */
  readonly path: readonly (string | number)[];
}
