/** The schemas of a class's messages: checks the `messages` option, and every message against it. */

import { MOST_VERSIONS } from "./envelope.js";
import { cut, expected, kindOf, OutboxError, textOf } from "./errors.js";
import { typeOf } from "./events.js";
import { known } from "./known.js";
import type { MessageIssue, MessageSchemas } from "./messages.js";
import type { SchemaIssue, StandardSchema } from "./standard-schema.js";
import { step, uncloneable } from "./uncloneable.js";
import { within } from "./within.js";

/** What a class declares of one type of messages. */
interface Declared {
  readonly schema: StandardSchema;
  readonly version: number;
  /** The first makes version 2 out of version 1, and so on: one fewer than there are versions. */
  readonly upcast: readonly ((old: unknown) => unknown)[];
  readonly dataschema: string | undefined;
}

/** The schemas of a class, by `msg.type`. */
export type Schemas = ReadonlyMap<string, Declared>;

/** What a schema says of a message. */
type Result = Awaited<ReturnType<StandardSchema["~standard"]["validate"]>>;

/** A message that has been checked: as it is to be stored. */
export interface Checked {
  readonly msg: unknown;
  readonly version: number;
}

/** What this deployment declares of the type of a message, and makes of it. */
export interface Current {
  readonly version: number;
  /** Where its schema is published, if that is declared. */
  readonly dataschema: string | undefined;
  /** The message in that version, where it is stored in an earlier one. */
  readonly made: { readonly msg: unknown } | undefined;
}

const MOST_TYPES = 1000;
const TYPE_LENGTH = 256;
const URI_LENGTH = 2048;
const MOST_ISSUES = 100;
const ISSUE_LENGTH = 500;

/**
 * The schemas of the option.
 *
 * @throws TypeError that names what is wrong: what is no schema, an unknown option, and a gap in a chain of upcasters
 */
export function schemasOf(argument: string, messages: unknown): Schemas {
  if (Object(messages) !== messages || Array.isArray(messages) || isSchema(messages))
    throw expected(argument, "an object of schemas", messages);
  const entries = Object.entries(messages as MessageSchemas);
  if (entries.length === 0 || entries.length > MOST_TYPES)
    throw expected(argument, `an object of 1 to ${MOST_TYPES} schemas`, entries.length);
  return new Map(entries.map(([type, given]) => [type, declared(argument, type, given)]));
}

function declared(argument: string, type: string, given: unknown): Declared {
  if (type === "" || type.length > TYPE_LENGTH) throw expected(argument, `an object of types with 1 to ${TYPE_LENGTH} characters`, type);
  const name = argument + step(type);
  if (isSchema(given)) return { schema: given, version: 1, upcast: [], dataschema: undefined };
  const { schema, version, upcast, dataschema } = known(name, given as { [name: string]: unknown }, [
    "schema",
    "version",
    "upcast",
    "dataschema",
  ]);
  if (!isSchema(schema)) throw expected(`${name}.schema`, "a schema that implements Standard Schema", schema);
  const isUri = typeof dataschema === "string" && dataschema.length > 0 && dataschema.length <= URI_LENGTH;
  if (dataschema !== undefined && !isUri) throw expected(`${name}.dataschema`, `a URI of 1 to ${URI_LENGTH} characters`, dataschema);
  const current = within(`${name}.version`, version, [1, 1, MOST_VERSIONS, 1]);
  return { schema, version: current, upcast: chainOf(`${name}.upcast`, upcast, current), dataschema: dataschema as string | undefined };
}

/** @throws TypeError when a version has no upcaster, or there is one from a version that is not an earlier one. */
function chainOf(name: string, upcast: unknown, version: number): Declared["upcast"] {
  const given = upcast === undefined ? {} : (upcast as Record<string, unknown>);
  if (Object(given) !== given) throw expected(name, "an object of functions", upcast);
  const chain = Array.from({ length: version - 1 }, (_, i) => {
    const from = i + 1;
    const one = Object.hasOwn(given, from) ? given[from] : undefined;
    if (typeof one !== "function") {
      throw expected(`${name}[${from}]`, `a function that makes version ${from + 1} out of version ${from}`, one);
    }
    return one as (old: unknown) => unknown;
  });
  const extra = Object.keys(given).find((from) => !(Number(from) >= 1 && Number(from) < version && String(Number(from)) === from));
  if (extra !== undefined)
    throw expected(name, version > 1 ? `an object of functions for 1 to ${version - 1}` : "left out in version 1", extra);
  return chain;
}

function isSchema(value: unknown): value is StandardSchema {
  const { version, validate } = (Object(Object(value)["~standard"]) as Partial<StandardSchema["~standard"]>) ?? {};
  return version === 1 && typeof validate === "function";
}

/** What `validate` resolves to, and what may be put in its place: the message as it was then. */
export class ValidMessage<M = unknown> {
  readonly #schemas: Schemas | null;
  readonly #checked: Checked;

  constructor(schemas: Schemas | null, checked: Checked) {
    this.#schemas = schemas;
    this.#checked = checked;
  }

  /** A copy of the message as it will be stored: the schema's output. */
  get msg(): M {
    return structuredClone(this.#checked.msg) as M;
  }

  /** What was checked by these schemas; otherwise the message has yet to be. */
  static checkedBy(message: ValidMessage, schemas: Schemas | null): Checked | { readonly unchecked: unknown } {
    return message.#schemas === schemas ? message.#checked : { unchecked: message.#checked.msg };
  }
}

/**
 * A message as it is to be stored: the output of its schema. One without a `type` is stored as it is.
 *
 * @throws OutboxError `invalid_message` with the schema's issues, also for a type that is not declared
 * @throws TypeError when the schema is async, or returns something that can't be a message of this type
 */
export function checked(schemas: Schemas | null, given: unknown): Checked {
  let msg = given;
  if (given instanceof ValidMessage) {
    const known = ValidMessage.checkedBy(given, schemas);
    if (!("unchecked" in known)) return known;
    msg = known.unchecked;
  }
  if (schemas === null) return { msg, version: 1 };
  const found = declarationOf(schemas, msg);
  if (!found) return { msg, version: 1 };
  const [type, { schema, version }] = found;
  const result = schema["~standard"].validate(msg);
  if (isPromise(result)) {
    // What it would have said does not matter any more.
    result.then(undefined, () => {});
    const way = "call `await manager.validate(msg)` first, and put what it resolves to.";
    throw new TypeError(`[do-transactional-outbox] The schema of ${JSON.stringify(type)} is async, and a put must not wait: ${way}`);
  }
  return { msg: outputOf(type, result), version };
}

/** The same with a schema that may be async. */
export async function validated(schemas: Schemas | null, given: unknown): Promise<ValidMessage> {
  if (given instanceof ValidMessage && !("unchecked" in ValidMessage.checkedBy(given, schemas))) return given;
  // As it is at the call, whatever the caller does with it meanwhile.
  const msg = copyOf(given instanceof ValidMessage ? given.msg : given);
  const found = schemas && declarationOf(schemas, msg);
  if (!found) return new ValidMessage(schemas, { msg, version: 1 });
  const [type, { schema, version }] = found;
  const output = outputOf(type, await schema["~standard"].validate(msg));
  return new ValidMessage(schemas, { msg: copyOf(output), version });
}

function copyOf(msg: unknown): unknown {
  if (msg === undefined) throw expected("msg", "a value", msg);
  try {
    return structuredClone(msg);
  } catch (cause) {
    throw uncloneable("msg", msg, cause);
  }
}

/** The type of a message and what is declared of it; nothing for a message without a type. @throws OutboxError when it is not declared. */
function declarationOf(schemas: Schemas, msg: unknown): readonly [type: string, declared: Declared] | undefined {
  const type = typeOf(msg);
  if (type === undefined) return undefined;
  const found = schemas.get(type);
  if (found) return [type, found];
  const types = cut([...schemas.keys()].map((each) => JSON.stringify(each)).join(", "), ISSUE_LENGTH);
  const text = `The option messages has no type ${JSON.stringify(cut(type, 60))}: expected one of ${types}.`;
  throw new OutboxError("invalid_message", text, undefined, { issues: [{ message: "The type is not declared.", path: ["type"] }] });
}

/** The newest version that this deployment knows of the type of a message: 1 where none is declared. */
export function knownVersion(schemas: Schemas | null, msg: unknown): number {
  return declaredOf(schemas, msg)?.version ?? 1;
}

/**
 * A message as this deployment knows it: one upcaster after the other has made its version out of an earlier one. Nothing if its type is not declared.
 *
 * @param copy returns a copy for the upcasters, which may change it
 * @param version in which it is: not above the known one
 * @throws what an upcaster throws; TypeError when one returns no message of this type
 */
export function currentOf(schemas: Schemas | null, msg: unknown, version: number, copy: () => unknown): Current | undefined {
  const found = declaredOf(schemas, msg);
  if (!found) return undefined;
  const { version: known, dataschema, upcast } = found;
  if (version >= known) return { version: known, dataschema, made: undefined };
  const type = (msg as { readonly type: string }).type;
  let current = copy();
  for (const [i, one] of upcast.slice(version - 1).entries()) {
    current = withType(`What upcast[${version + i}] of ${JSON.stringify(type)} returns`, type, one(current));
  }
  return { version: known, dataschema, made: { msg: current } };
}

/** A message from outside, as its handler gets it. */
export interface Arrived {
  readonly msg: unknown;
  /** Only where it is not 1. */
  readonly version?: number;
}

/**
 * A message from outside, brought to the version that this deployment knows and checked with its schema. A promise only where the schema is async.
 *
 * @throws OutboxError `invalid_message`, also for a type that is not declared; `version_ahead` when the version is newer than this deployment; what an
 * upcaster throws
 */
export function arrived(schemas: Schemas, given: unknown, version = 1): Arrived | Promise<Arrived> {
  const found = declarationOf(schemas, given);
  if (!found) return { msg: given, ...(version > 1 && { version }) };
  const [type, { schema, version: known }] = found;
  if (version > known) {
    const text = `The message of type ${JSON.stringify(type)} is in version ${version}, and this deployment knows version ${known}.`;
    throw new OutboxError("version_ahead", `${text} Send it again once a newer version is deployed.`);
  }
  const current = currentOf(schemas, given, version, () => structuredClone(given));
  const result = schema["~standard"].validate(current?.made ? current.made.msg : given);
  const whole = (checked: Result): Arrived => ({
    msg: outputOf(type, checked),
    ...(known > 1 && { version: known }),
  });
  return isPromise(result) ? Promise.resolve(result).then(whole) : whole(result);
}

function declaredOf(schemas: Schemas | null, msg: unknown): Declared | undefined {
  return schemas === null ? undefined : schemas.get(typeOf(msg) ?? "");
}

/** What a schema made of a message of this type. @throws what is wrong with the message, or with the schema. */
function outputOf(type: string, result: Result): unknown {
  if (result.issues) throw invalid(type, result.issues);
  const { value } = result as { readonly value: unknown };
  return withType(`The output of the schema of ${JSON.stringify(type)}`, type, value);
}

/** A message with its type, which an upcaster or a schema may have left out. @throws TypeError when it is none of this type. */
function withType(what: string, type: string, value: unknown): unknown {
  const own = Object(value) === value && !isPromise(value) ? (value as { type?: unknown }).type : null;
  if (own === type) return value;
  // Of a `Map`, say, nothing would be left.
  if (own === undefined && kindOf(value) === "Object") return { type, ...(value as object) };
  throw new TypeError(`[do-transactional-outbox] ${what} must be an object, and its \`type\` the same or left out.`);
}

function invalid(type: string, given: readonly SchemaIssue[]): OutboxError {
  const issues = Array.from(given).slice(0, MOST_ISSUES).map(issueOf);
  const [first = { message: "The schema gave no reason.", path: [] }] = issues;
  const path = first.path.map((part) => (typeof part === "number" ? `[${part}]` : step(part))).join("");
  const more = given.length > 1 ? ` (and ${given.length - 1} more)` : "";
  const text = `A message of type ${JSON.stringify(type)} is invalid at \`msg${path}\`: ${first.message.replace(/\.$/, "")}${more}.`;
  return new OutboxError("invalid_message", text, undefined, { issues });
}

function issueOf({ message, path = [] }: SchemaIssue): MessageIssue {
  const keys = Array.from(path, (part) => (Object(part) === part ? (part as { readonly key: PropertyKey }).key : (part as PropertyKey)));
  return { message: cut(textOf(message), ISSUE_LENGTH), path: keys.map((key) => (typeof key === "number" ? key : cut(String(key), 256))) };
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (Object(value) as { then?: unknown }).then === "function";
}
