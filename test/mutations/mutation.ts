/** What a mutation is: one mistake in one declaration, and the tests that must find it. */
import { readdirSync } from "node:fs";
import { basename } from "node:path";
import type { Layer } from "./vitest.ts";

export interface Mutation {
  readonly name: string;
  /** Below `src/`. */
  readonly file: string;
  /** The declaration that it changes: a function, a method or a constant; `outer.inner` where the name is declared twice. */
  readonly within: string;
  /** Occurs there exactly once. */
  readonly find: string;
  readonly replace: string;
  /** Where to look for it, in this order. The first that fails has found it. */
  readonly finders: readonly Finder[];
}

/** Tests of one file; with a title, those whose full title contains it. */
export interface Finder {
  readonly layer: Layer;
  readonly file: string;
  readonly title?: string;
}

/** Every file of tests by its name, wherever below its project's folder it is. */
const files = new Map<string, string>();
for (const layer of ["unit", "model", "runtime"] satisfies Layer[])
  for (const path of readdirSync(new URL(`../${layer}/`, import.meta.url), { recursive: true, encoding: "utf8" }))
    files.set(`${layer} ${basename(path, ".test.ts")}`, `test/${layer}/${path}`);

const finder =
  (layer: Layer) =>
  (name: string, title?: string): Finder => {
    const file = files.get(`${layer} ${name}`);
    if (file === undefined) throw new Error(`There is no ${name}.test.ts below test/${layer}.`);
    return { layer, file, ...(title !== undefined && { title }) };
  };

/** A unit test, in plain Node. */
export const unit: (name: string, title?: string) => Finder = finder("unit");
/** A test on the model of the platform, in Node. */
export const model: (name: string, title?: string) => Finder = finder("model");
/** A test on the runtime. */
export const runtime: (name: string, title?: string) => Finder = finder("runtime");
/** Every crash in one scenario. */
export const crashes = (scenario: string): Finder => model("crash-sqlite", scenario);
/** The random stories. */
export const stories: Finder = model("commands");
