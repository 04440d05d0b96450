/**
 * The consumer: a project as a user has it, with the packed package in its `node_modules`. Its types are checked, its tests run, and every sample of
 * docs/testing.md must be in it, word for word. Then the newcomer, who has nothing but the first screen of README: its worker is written into an
 * empty project, compiled against what `wrangler types` generates, served by `wrangler dev` until its first message is delivered, and tested.
 *
 *     npm run test:consumer -- [OPTIONS OF VITEST…]
 *
 * Nothing is fetched: the toolchain is the repository's own. TEST_RESULTS: a file that gets the results as JSON.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");
const { TEST_RESULTS } = process.env;

/** Without what npm has set for the script that runs this: the commands below begin anew. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.toLowerCase().startsWith("npm_")));

function run(command: string, args: readonly string[], cwd: string): void {
  execFileSync(command, args, { cwd, env, stdio: "inherit" });
}

/** The text of code, whatever its indentation and its line breaks. */
const words = (code: string): string => code.replace(/\s+/g, " ").trim();

function checkSamples(): void {
  const docs = readFileSync(join(root, "docs/testing.md"), "utf8");
  const files = ["src", "test", "."].flatMap((folder) => readdirSync(join(here, folder)).map((name) => join(here, folder, name)));
  const sources = files.filter((file) => /\.(ts|jsonc)$/.test(file)).map((file) => words(readFileSync(file, "utf8")));
  const samples = [...docs.matchAll(/```(?:ts|jsonc)\n([\s\S]*?)```/g)].map(([, code = ""]) => code);
  const missing = samples.filter((sample) => !sources.some((source) => source.includes(words(sample))));
  if (samples.length === 0 || missing.length > 0) {
    throw new Error(`These samples of docs/testing.md are not in test/consumer:\n\n${missing.join("\n---\n")}`);
  }
  console.log(`${samples.length} samples of docs/testing.md are in the consumer`);
}

/** How long the first message may take from the start of `wrangler dev`. */
const DELIVERED_WITHIN_MS = 120_000;

/** Writes the first screen of README into the newcomer's project. */
function writeFirstScreen(folder: string): void {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  rmSync(join(folder, ".wrangler"), { recursive: true, force: true });
  const written = ["wrangler.jsonc", "src/index.ts"].map((name) => {
    const code = [...readme.matchAll(/```(?:ts|jsonc)\n([\s\S]*?)```/g)]
      .map(([, code = ""]) => code)
      .find((code) => code.startsWith(`// ${name}\n`));
    if (code === undefined) throw new Error(`README has no block that begins with "// ${name}".`);
    rmSync(join(folder, name), { force: true });
    mkdirSync(join(folder, name, ".."), { recursive: true });
    writeFileSync(join(folder, name), code);
    return `${name}: ${code.trimEnd().split("\n").length} lines`;
  });
  console.log(`README: ${written.join(", ")}`);
}

/** Serves the worker as README does, asks it once, and waits for what it prints when the queue has delivered the message. */
async function firstMessage(folder: string): Promise<void> {
  const wrangler = join(root, "node_modules/wrangler/bin/wrangler.js");
  const args = ["dev", "--ip", "127.0.0.1", "--port", "0", "--inspector-port", "0", "--show-interactive-dev-session=false"];
  const child = spawn(process.execPath, [wrangler, ...args], {
    cwd: folder,
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...env, NO_COLOR: "1", CLOUDFLARE_CF_FETCH_ENABLED: "false", WRANGLER_SEND_METRICS: "false" },
  });
  const late = setTimeout(() => child.kill("SIGTERM"), DELIVERED_WITHIN_MS);
  let output = "";
  let delivered = false;
  for await (const line of createInterface(child.stdout)) {
    output += `${line}\n`;
    const [, url] = /Ready on (http:\/\/127\.0\.0\.1:\d+)/.exec(line) ?? [];
    if (url) console.log(`README: ${url}/1007 answers ${await (await fetch(`${url}/1007`)).text()}`);
    if (delivered || !line.includes("delivered:")) continue;
    delivered = true;
    child.kill("SIGTERM");
  }
  clearTimeout(late);
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  if (!delivered) throw new Error(`wrangler dev has delivered no message:\n${output}`);
  console.log("README: its first message is delivered");
}

checkSamples();
const modules = join(here, "node_modules");
rmSync(modules, { recursive: true, force: true });
const packed = execFileSync("npm", ["pack", "--json", "--pack-destination", here], { cwd: root, env, encoding: "utf8" });
const [{ filename }] = JSON.parse(packed.slice(packed.indexOf("[\n")));
const tarball = join(here, filename);
try {
  run("npm", ["install", "--offline", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", tarball], here);
} finally {
  rmSync(tarball, { force: true });
}
run("npx", ["tsc", "-p", here], root);
const reporters = (name: string): string[] =>
  TEST_RESULTS ? ["--reporter=default", "--reporter=json", `--outputFile=${TEST_RESULTS}${name}`] : [];
run("npx", ["vitest", "run", "--root", here, "--dir", join(here, "test"), ...reporters(""), ...process.argv.slice(2)], root);

const newcomer = join(here, "newcomer");
writeFirstScreen(newcomer);
run("npx", ["wrangler", "types", "--cwd", newcomer], root);
run("npx", ["tsc", "-p", newcomer], root);
await firstMessage(newcomer);
run("npx", ["vitest", "run", "--root", newcomer, ...reporters(".newcomer")], root);
