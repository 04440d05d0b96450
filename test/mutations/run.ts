/**
 * The mutation proof: applies each wrong version of the core to a copy of the project and runs the tests that must find it.
 *
 *     npm run test:mutations -- [--only TEXT] [--seed N]
 *
 * Prints for each by which layer it was found. The exit code is 0 only if the tests pass without a mutation and none survives.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { MUTATIONS, type Mutation } from "./mutations.ts";

const { values } = parseArgs({ options: { only: { type: "string" }, seed: { type: "string", default: "1" } } });
const root = fileURLToPath(new URL("../../", import.meta.url));
const COPIED = ["src", "test", "example-worker", "package.json", "tsconfig.json", "vitest.config.ts", "wrangler.toml"];
/** Random stories in one run: enough for these mistakes, and quick. */
const STORIES = "400";
/** No run takes longer, in milliseconds: one that does hangs, and that is a failure that was found. */
const LONGEST_MS = 120_000;

/** So many are tried at a time, each in a copy of its own: one for each core of the smallest machine. */
const TOGETHER = 2;

function copyOf(): string {
  const copy = mkdtempSync(join(tmpdir(), "mutations-"));
  process.on("exit", () => rmSync(copy, { recursive: true, force: true }));
  for (const name of COPIED)
    cpSync(join(root, name), join(copy, name), { recursive: true, filter: (path) => !path.includes("node_modules") });
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  return copy;
}

/** Whether the tests pass. */
async function passes(copy: string, [layer, ...args]: readonly string[]): Promise<boolean> {
  const vitest = join(root, "node_modules/vitest/vitest.mjs");
  const child = spawn(process.execPath, [vitest, "run", "--project", layer ?? "", "--bail", "1", "--reporter", "dot", ...args], {
    cwd: copy,
    env: { ...process.env, VITE_SEED: values.seed, VITE_RUNS: STORIES, TEST_RESULTS: "" },
    stdio: "ignore",
    // A group of its own, so that what it has started ends with it.
    detached: true,
  });
  const end = (): void => {
    try {
      process.kill(-(child.pid ?? 0), "SIGKILL");
    } catch {
      // Nothing of it is left.
    }
  };
  const timer = setTimeout(end, LONGEST_MS);
  const [code] = await once(child, "exit");
  clearTimeout(timer);
  end();
  return code === 0;
}

/** The first of its tests that fails, or `undefined` if it survives. */
async function finderOf(copy: string, { name, file, find, replace, found }: Mutation): Promise<string | undefined> {
  const path = join(copy, "src", file);
  const text = readFileSync(path, "utf8");
  if (text.split(find).length !== 2) throw new Error(`${name}: expected its text to stand in src/${file} exactly once.`);
  writeFileSync(
    path,
    text.replace(find, () => replace),
  );
  try {
    for (const args of found) if (!(await passes(copy, args))) return args.join(" ");
    return undefined;
  } finally {
    writeFileSync(path, text);
  }
}

const chosen = MUTATIONS.filter(({ name }) => name.includes(values.only ?? ""));
// What fails without a mutation finds nothing.
const used = [...new Map(chosen.flatMap(({ found }) => found.map((args) => [args.join(" "), args] as const))).values()];
const needed = new Map<string, Promise<boolean>>();
const sound = (copy: string, args: readonly string[]): Promise<boolean> => {
  const key = args.join(" ");
  const known = needed.get(key) ?? passes(copy, args);
  needed.set(key, known);
  return known;
};

let survived = 0;
const byLayer = new Map<string, number>();
async function tried(copy: string, mutation: Mutation): Promise<void> {
  const finder = await finderOf(copy, mutation);
  const args = used.find((each) => each.join(" ") === finder);
  const honest = args !== undefined && (await sound(copy, args));
  if (!honest) survived++;
  const layer = args?.[0] ?? "";
  if (honest) byLayer.set(layer, (byLayer.get(layer) ?? 0) + 1);
  const verdict = honest ? `found by the ${layer}: ${args.slice(1).join(" ")}` : args ? "its finder fails without it as well" : "SURVIVED";
  console.log(`${mutation.name.padEnd(66)} ${verdict}`);
}
const waiting = [...chosen];
const lane = async (): Promise<void> => {
  const copy = copyOf();
  for (let next = waiting.shift(); next; next = waiting.shift()) await tried(copy, next);
};
await Promise.all(Array.from({ length: TOGETHER }, lane));
const layers = Array.from(byLayer, ([layer, count]) => `${count} by the ${layer}`).join(", ");
console.log(`\n${chosen.length} mutations, ${chosen.length - survived} found (${layers}), ${survived} not.`);
process.exitCode = survived > 0 ? 1 : 0;
