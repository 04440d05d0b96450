/**
 * The newest toolchain: a part of the tests of each topic on the newest published wrangler, workerd and @cloudflare/vitest-plugin, at the
 * newest compatibility date. The versions that package.json pins stay the promised ones; here differences are seen before users meet them.
 *
 *     npm run test:newest -- [FILE…]
 *
 * Installs into this folder, which is no part of the root's install. Without a registry it says so in one line that begins with "skipped",
 * and ends well. The exit code is 1 if a test fails that is not in `known.ts`.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KNOWN } from "./known.ts";
import { type Results, resultsOf } from "./results.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");
const COPIED = ["src", "test", "example-worker", "package.json", "tsconfig.json", "vitest.config.ts", "wrangler.toml"];
/** A registry that has not answered after this long, in milliseconds, does not. */
const REGISTRY_MS = 30_000;

const RUNTIME = readdirSync(join(root, "test/runtime"), { recursive: true, encoding: "utf8" });
/** One file of each topic, or a few. */
const FILES = [
  ...[
    "alarm",
    "alarm-no-info",
    "alarm-retry",
    "atomic",
    "breaker",
    "conformance",
    "core",
    "dead-letters",
    "delete-all",
    "delete-all-sql",
    "delivery",
  ],
  ...["destinations-durable-object", "destinations-queue", "envelope", "handlers", "identity", "idle", "immediate", "inbox-once"],
  ...[
    "inbox-rpc",
    "itself",
    "limits",
    "no-alarm",
    "ordering",
    "outcomes",
    "same-turn",
    "testing-clock",
    "testing-crash",
    "time",
    "transaction",
    "transaction-sync",
    "wakeup",
  ],
].map((name) => `test/runtime/${RUNTIME.find((path) => path.endsWith(`/${name}.test.ts`))}`);
/** On workerd and wrangler themselves: Miniflare's own options are different in its version 5, which the other tests of this kind would need. */
const OUTSIDE = ["kill-loop", "demo"].map((name) => `test/process/${name}.test.ts`);

/** Runs a command, and gives its exit code. One that takes too long is ended. */
async function run(
  command: string,
  args: readonly string[],
  options: { cwd: string; env?: object; ms?: number; quiet?: boolean },
): Promise<number> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: options.quiet ? "ignore" : "inherit",
  });
  const timer = options.ms === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), options.ms);
  const [code] = await once(child, "exit");
  clearTimeout(timer);
  return code ?? 1;
}

/** Installs what is newest today. Gives why it could not. */
async function install(): Promise<string | undefined> {
  const args = ["view", "wrangler", "version", "--fetch-retries=0", "--prefer-online"];
  if ((await run("npm", args, { cwd: here, ms: REGISTRY_MS, quiet: true })) !== 0) return "the npm registry can't be reached";
  const code = await run("npm", ["install", "--no-package-lock", "--prefer-online", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: here,
  });
  return code === 0 ? undefined : "the newest versions can't be installed";
}

const manifest = (name: string): { version: string } => JSON.parse(readFileSync(join(here, "node_modules", name, "package.json"), "utf8"));

/** A copy of the project that finds the newest packages, and whose configuration names the plugin's new name. */
function copyOf(): string {
  const copy = mkdtempSync(join(tmpdir(), "newest-"));
  process.on("exit", () => rmSync(copy, { recursive: true, force: true }));
  const filter = (path: string): boolean => !path.includes("node_modules");
  for (const name of COPIED) cpSync(join(root, name), join(copy, name), { recursive: true, filter });
  symlinkSync(join(here, "node_modules"), join(copy, "node_modules"));
  const config = join(copy, "vitest.config.ts");
  writeFileSync(config, readFileSync(config, "utf8").replaceAll("@cloudflare/vitest-pool-workers", "@cloudflare/vitest-plugin"));
  return copy;
}

async function results(copy: string, file: string, date: string, files: readonly string[]): Promise<Results> {
  const env = { TEST_RESULTS: file, TEST_COMPATIBILITY_DATE: date, VITE_PROOF: "" };
  const vitest = join(here, "node_modules/vitest/vitest.mjs");
  await run(
    process.execPath,
    [vitest, "run", "--reporter=dot", "--reporter=json", "--silent=true", `--outputFile.json=${file}`, ...files],
    {
      cwd: copy,
      env,
    },
  );
  if (!existsSync(file)) throw new Error("The tests did not run on the newest versions.");
  return resultsOf(file);
}

const missing = await install();
if (missing !== undefined) console.log(`skipped: ${missing}.`);
else {
  const { compatibilityDate } = await import(join(here, "node_modules/workerd/lib/main.js")).then(({ default: lib }) => lib);
  const versions = ["wrangler", "workerd", "miniflare", "@cloudflare/vitest-plugin", "vitest"].map(
    (name) => `${name} ${manifest(name).version}`,
  );
  console.log(`newest: ${versions.join(", ")}; compatibility date ${compatibilityDate}`);
  const copy = copyOf();
  const file = process.env.TEST_RESULTS || join(copy, "results.json");
  const chosen = process.argv.slice(2);
  const { passed, failed } = await results(copy, file, compatibilityDate, chosen.length > 0 ? chosen : [...FILES, ...OUTSIDE]);
  const whyOf = (title: string): string | undefined => KNOWN.find((one) => title.includes(one.title))?.why;
  for (const { title, message } of failed)
    console.log(`${whyOf(title) ? "known" : "NEW"} difference: ${title}\n  ${whyOf(title) ?? message}`);
  const known = failed.filter(({ title }) => whyOf(title));
  console.log(`newest: ${passed} passed, ${known.length} known differences, ${failed.length - known.length} new ones`);
  process.exitCode = failed.length > known.length ? 1 : 0;
}
