/**
 * The mutation proof: applies each wrong version of the core to a copy of the project and runs the tests that must find it.
 *
 *     npm run test:mutations -- [--only TEXT]… [--seed N] [--check]
 *
 * A mutation is found when a test fails, by name; a run that ends in any other way finds nothing. Prints for each the layer and
 * the test that found it. With --check it only tells, in a second, which mutations no longer apply to the source. The exit code is 0
 * only if none survives and all of those tests pass without a mutation.
 */
import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { mutated } from "./anchor.ts";
import type { Finder, Mutation } from "./mutation.ts";
import { MUTATIONS } from "./mutations.ts";
import { type Layer, type Options, type Tests, type Verdict, Vitest } from "./vitest.ts";

const { values } = parseArgs({
  options: { only: { type: "string", multiple: true, default: [""] }, seed: { type: "string", default: "1" }, check: { type: "boolean" } },
});
const { seed } = values;
const root = fileURLToPath(new URL("../../", import.meta.url));
const COPIED = ["src", "test", "example-worker", "package.json", "tsconfig.json", "vitest.config.ts", "wrangler.toml"];

/** This many mutations are tried at a time, each in a copy of its own: some wait for what does not come, and leave a core to another. */
const TOGETHER = 6;

interface Found {
  readonly finder: Finder;
  /** The full title of the test that failed. */
  readonly title: string;
}

interface Result {
  readonly mutation: Mutation;
  readonly seconds: number;
  readonly found: Found | undefined;
  /** Runs that ended without a verdict. */
  readonly broken: readonly string[];
}

function copyOf(): string {
  const copy = realpathSync(mkdtempSync(join(tmpdir(), "mutations-")));
  process.on("exit", () => rmSync(copy, { recursive: true, force: true }));
  for (const name of COPIED)
    cpSync(join(root, name), join(copy, name), { recursive: true, filter: (path) => !path.includes("node_modules") });
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  return copy;
}

const escaped = (title: string): string => title.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

async function tried(vitest: Vitest, mutation: Mutation): Promise<Result> {
  const { name, file, within, find, replace, finders } = mutation;
  const start = performance.now();
  const path = join(vitest.copy, "src", file);
  const text = readFileSync(path, "utf8");
  const broken: string[] = [];
  const result = (found?: Found): Result => ({ mutation, seconds: (performance.now() - start) / 1000, found, broken });
  try {
    vitest.write(path, mutated(text, within, find, replace));
  } catch (error) {
    broken.push(`${name}: it does not apply to src/${file}: ${(error as Error).message}`);
    return result();
  }
  try {
    for (const finder of finders) {
      const { layer, file: tests, title } = finder;
      const verdict = await vitest.run({ layer, files: [tests], ...(title !== undefined && { titles: escaped(title) }) });
      if (verdict.type === "failed") return result({ finder, title: verdict.title });
      if (verdict.type === "broken") broken.push(`${name}: ${finder.file}: ${verdict.reason}`);
    }
    return result();
  } finally {
    vitest.write(path, text);
  }
}

/** Gives each item to one of the copies that is free, on which a vitest of these options runs until the last is done. */
async function shared<T>(items: readonly T[], options: Options, work: (vitest: Vitest, item: T) => Promise<void>): Promise<void> {
  const waiting = [...items];
  const lane = async (copy: string): Promise<void> => {
    const vitest = new Vitest(copy, options);
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await work(vitest, next);
    vitest.end();
  };
  await Promise.all(copies.map(lane));
}

const chosen = MUTATIONS.filter(({ name }) => values.only.some((part) => name.includes(part)));
if (values.check) {
  const lost = chosen.flatMap(({ name, file, within, find, replace }) => {
    try {
      mutated(readFileSync(join(root, "src", file), "utf8"), within, find, replace);
      return [];
    } catch (error) {
      return [`${name}: it does not apply to src/${file}: ${(error as Error).message}`];
    }
  });
  for (const reason of lost) console.log(`${reason}\n`);
  console.log(`${chosen.length} mutations, ${lost.length} of which do not apply.`);
  process.exit(lost.length > 0 ? 1 : 0);
}

const copies = Array.from({ length: TOGETHER }, copyOf);
const results = new Map<Mutation, Result>();
await shared(chosen, { seed }, async (vitest, mutation) => {
  const result = await tried(vitest, mutation);
  results.set(mutation, result);
  console.log(`${result.found ? "found" : "NOT FOUND"}: ${mutation.name} (${result.seconds.toFixed(1)} s)`);
});

// A test that fails without a mutation finds nothing: all that have found one run once more, on the source as it is.
const used = new Map<Layer, Found[]>();
for (const { found } of results.values()) if (found) used.set(found.finder.layer, [...(used.get(found.finder.layer) ?? []), found]);
const controls: Tests[] = Array.from(used, ([layer, found]) => ({
  layer,
  files: [...new Set(found.map(({ finder }) => finder.file))],
  titles: `^(${[...new Set(found.map(({ title }) => escaped(title)))].join("|")})$`,
}));
const sound = new Map<Layer, Verdict>();
await shared(controls, { seed, patient: true }, async (vitest, tests) => void sound.set(tests.layer, await vitest.run(tests)));

/** Why the test that failed proves nothing, if it does not. */
function doubt({ finder: { layer }, title }: Found): string | undefined {
  const verdict = sound.get(layer);
  if (verdict?.type === "passed") return verdict.titles.includes(title) ? undefined : "its finder did not run without the mutation";
  if (verdict?.type === "failed") return verdict.title === title ? "its finder fails without the mutation as well" : undefined;
  return "its finder could not run without the mutation";
}

const widest = Math.max(...chosen.map(({ name }) => name.length));
const row = (name: string, layer: string, seconds: string, found: string): void =>
  console.log(`${name.padEnd(widest)}  ${layer.padEnd(5)}  ${seconds.padStart(7)}  ${found}`);
console.log();
row("mutation", "layer", "seconds", "found by");
row("-".repeat(widest), "-----", "-------", "-".repeat(60));
const byLayer = new Map<Layer, number>();
for (const mutation of chosen) {
  const { found, seconds } = results.get(mutation) as Result;
  const layer = found?.finder.layer;
  const why = found ? doubt(found) : "SURVIVED";
  if (layer && !why) byLayer.set(layer, (byLayer.get(layer) ?? 0) + 1);
  const shown = found && `${found.finder.file.replace(/^test\/|\.test\.ts$/g, "")}: ${found.title}`;
  row(mutation.name, layer ?? "", seconds.toFixed(1), [why && `NOT FOUND: ${why}`, shown].filter(Boolean).join(": "));
}
for (const verdict of sound.values()) {
  if (verdict.type === "failed") console.log(`\nWithout a mutation: ${verdict.title} fails: ${verdict.error}`);
  if (verdict.type === "broken") console.log(`\nWithout a mutation: ${verdict.reason}`);
}
for (const { broken } of results.values()) for (const reason of broken) console.log(`\n${reason}`);
const count = [...byLayer.values()].reduce((sum, each) => sum + each, 0);
const layers = Array.from(byLayer, ([layer, found]) => `${found} by the ${layer} tests`).join(", ");
console.log(
  `\n${chosen.length} mutations, ${count} found (${layers}), ${chosen.length - count} not, in ${Math.round(performance.now() / 1000)} s.`,
);
process.exitCode = count === chosen.length && chosen.length > 0 ? 0 : 1;
