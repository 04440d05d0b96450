/** Mistakes with the schemas of messages. */
import { type Mutation, runtime, unit } from "./mutation.ts";

export const MESSAGES: readonly Mutation[] = [
  {
    name: "stores what was put, and not what the schema made of it",
    file: "api/schemas.ts",
    within: "checked",
    find: "return { msg: outputOf(type, result), version };",
    replace: "outputOf(type, result);\n  return { msg, version };",
    finders: [unit("schemas", "becomes the schema's output"), runtime("validation", "stores the schema's output")],
  },
  {
    name: "takes a message of a type that is not declared",
    file: "api/schemas.ts",
    within: "declarationOf",
    find: 'throw new OutboxError("invalid_message", text, undefined, [{ message: "The type is not declared.", path: ["type"] }]);',
    replace: "void [text, OutboxError];\n  return undefined;",
    finders: [unit("schemas", "not declared"), runtime("validation", "refuses an invalid message in put")],
  },
  {
    name: "leaves the rejection of an async schema to nobody",
    file: "api/schemas.ts",
    within: "checked",
    find: "result.then(undefined, () => {});",
    replace: "",
    finders: [unit("schemas", "no rejection that nobody handles")],
  },
  {
    name: "takes for valid what other schemas have checked",
    file: "api/schemas.ts",
    within: "ValidMessage",
    find: "message.#schemas === schemas",
    replace: "schemas === schemas",
    finders: [unit("schemas", "others check again")],
  },
  {
    name: "lets a message that was validated be changed",
    file: "api/schemas.ts",
    within: "ValidMessage",
    find: "return structuredClone(this.#checked.msg) as M;",
    replace: "return this.#checked.msg as M;",
    finders: [unit("schemas", "without another check")],
  },
  {
    name: "checks no message that is sent in a synchronous transaction",
    file: "write/put.ts",
    within: "sendSync",
    find: "const { msg, more } = admit(given, options, now);",
    replace: "const { more } = admit(undefined, options, now);\n    const msg = given;",
    finders: [runtime("validation", "txn.send in transactionSync")],
  },
  {
    name: "accepts a chain of upcasters with a gap",
    file: "api/schemas.ts",
    within: "chainOf",
    find: 'typeof one !== "function"',
    replace: "from === 1 && one === undefined",
    finders: [unit("schemas", "refuses")],
  },
];
