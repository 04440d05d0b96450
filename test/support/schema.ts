/** Schemas of our own, which do what no library does. */
import type { StandardSchema } from "../../src/index.ts";

/** A schema that says this of every message, at once or later. */
export function schemaOf(validate: (value: unknown) => unknown): StandardSchema {
  return { "~standard": { version: 1, vendor: "test", validate: validate as StandardSchema["~standard"]["validate"] } };
}

/** A schema that accepts every message as it is. */
export const accepting: StandardSchema = schemaOf((value) => ({ value }));
