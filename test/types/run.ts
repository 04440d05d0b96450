/**
 * Compiles what users compile, as they do: the code of README and docs, the example, and the tests of types, against the package as it is
 * built and an `Env` that `wrangler types` generates. On TypeScript 5.9 and 7, with and without `skipLibCheck`, with `declaration`.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { availableParallelism, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { type Block, blocksOf, onPages } from "./blocks.ts";

const here = import.meta.dirname;
const root = join(here, "../..");
/** The compilers: the project's own, and that of this workspace. */
const COMPILERS = [join(root, "package.json"), join(here, "package.json")].map((from) => {
  const manifest = createRequire(from).resolve("typescript/package.json");
  return { version: (createRequire(from)(manifest) as { version: string }).version, bin: join(dirname(manifest), "bin/tsc") };
});

/** What the template of `npm create cloudflare` has. */
const OPTIONS = {
  ...{ target: "es2024", lib: ["es2024"], module: "es2022", moduleResolution: "bundler", types: [], strict: true, isolatedModules: true },
  ...{ noEmit: true, forceConsistentCasingInFileNames: true },
};

/** The folder of two projects: the code of the documentation with what goes with it, and the example. */
type World = string;

/** Imports of the source, as users write them. */
function asUsersImport(text: string): string {
  return text
    .replaceAll(/"(?:\.\.\/)+src\/(destinations|event-sourcing|inbox|inspector)\/index\.ts"/g, '"do-transactional-outbox/$1"')
    .replaceAll(/"(?:\.\.\/)+src\/index\.ts"/g, '"do-transactional-outbox"')
    .replaceAll(/ from "(\.\/[\w-]+)\.ts"/g, ' from "$1"');
}

async function copySources(from: string, to: string, except: readonly string[] = [], only?: readonly string[]): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const name of only ?? (await readdir(from))) {
    if (name.endsWith(".ts") && !except.includes(name))
      await writeFile(join(to, name), asUsersImport(await readFile(join(from, name), "utf8")));
  }
}

/** The page whose code needs the frameworks. */
const FRAMEWORKS_PAGE = "docs/agents.md";

/**
 * The code of the pages that users read. That of docs/testing.md is in test/consumer, word for word: there it is run, and the files of that are
 * compiled here.
 */
async function documentation(): Promise<Block[]> {
  const names = (await readdir(join(root, "docs"))).filter((name) => name.endsWith(".md") && name !== "testing.md");
  const pages = ["README.md", ...names.map((name) => `docs/${name}`)];
  return (await Promise.all(pages.map(async (page) => blocksOf(page, await readFile(join(root, page), "utf8"))))).flat();
}

/** The entry of the worker: each class that is bound, from the first file that exports it. */
function entryOf(config: string, files: readonly { readonly path: string; readonly text: string }[]): string {
  const bound = Array.from(config.matchAll(/"class_name": "(\w+)" \}/g), ([, name]) => name ?? "");
  const lines = bound.map((name) => {
    const found = files.find(({ text }) => new RegExp(`^export class ${name}\\b`, "m").test(text));
    if (!found) throw new Error(`No file exports the class ${name}, which wrangler.jsonc binds.`);
    return `export { ${name} } from "./${found.path}";`;
  });
  return `${lines.join("\n")}\nexport default {};\n`;
}

/** Installs the package as npm would: what is built, and nothing of the source. What it is used with is the repository's own. */
async function install(world: World): Promise<void> {
  const modules = join(world, "node_modules");
  const folder = join(modules, "do-transactional-outbox");
  await mkdir(folder, { recursive: true });
  for (const name of ["dist", "package.json"]) await cp(join(root, name), join(folder, name), { recursive: true });
  await mkdir(join(modules, "@cloudflare"));
  for (const name of ["agents", "partyserver", "vitest", "@cloudflare/vitest-pool-workers", "zod", "valibot", "arktype", "@ark"]) {
    const places = ["test/frameworks/node_modules", "node_modules"].map((place) => join(root, place, name));
    const found = places.find((place) => existsSync(place));
    if (!found) throw new Error(`${name} is not installed: run npm ci.`);
    await symlink(found, join(modules, name));
  }
}

/** The tests that use the libraries of schemas, of which one needs the types of Node. */
const OF_SCHEMAS = ["messages.ts"];

/** Writes what `wrangler types` generates: of the env of a project, or of the runtime, which is the same for all because their compatibility date is. */
async function generate(folder: string, config: string, what: "env" | "runtime"): Promise<void> {
  const wrangler = join(root, "node_modules/wrangler/bin/wrangler.js");
  const others = what === "env" ? "--include-runtime=false" : "--include-env=false";
  const args = [wrangler, "types", `${what}.d.ts`, "--config", config, "--strict-vars=false", others];
  await promisify(execFile)(process.execPath, args, { cwd: folder, env: { ...process.env, WRANGLER_SEND_METRICS: "false" } });
}

/** Lays out both projects, and returns the documentation's code. */
async function layOut(world: World): Promise<Block[]> {
  await install(world);
  const blocks = await documentation();
  const docs = join(world, "docs");
  await mkdir(join(docs, "pages"), { recursive: true });
  await mkdir(join(docs, "frameworks"));
  for (const { page, file, text } of blocks) await writeFile(join(docs, page === FRAMEWORKS_PAGE ? "frameworks" : "pages", file), text);
  for (const folder of ["src", "test"]) await cp(join(root, "test/consumer", folder), join(world, "consumer", folder), { recursive: true });
  await copySources(join(here, "worker"), join(docs, "worker"));
  await copySources(here, join(docs, "tests"), ["run.ts", "blocks.ts", "preludes.ts", ...OF_SCHEMAS]);
  await copySources(here, join(docs, "schemas"), [], OF_SCHEMAS);
  const config = await readFile(join(here, "worker/wrangler.jsonc"), "utf8");
  await writeFile(join(docs, "wrangler.jsonc"), config);
  const objects = await readFile(join(docs, "worker/objects.ts"), "utf8");
  const files = blocks.map(({ file, text }) => ({ path: `pages/${file.slice(0, -3)}`, text }));
  await writeFile(join(docs, "index.ts"), entryOf(config, [...files, { path: "worker/objects", text: objects }]));

  const example = join(world, "example");
  await copySources(join(root, "example-worker"), join(example, "example-worker"), ["demo.ts", "start.ts"]);
  await cp(join(root, "wrangler.toml"), join(example, "wrangler.toml"));
  await mkdir(join(example, "example-worker/public"));
  await writeFile(join(example, "written.ts"), EXAMPLE_ENV);

  await cp(join(root, "test/consumer/wrangler.jsonc"), join(world, "consumer/wrangler.jsonc"));
  await Promise.all([
    generate(docs, "wrangler.jsonc", "runtime"),
    generate(docs, "wrangler.jsonc", "env"),
    generate(example, "wrangler.toml", "env"),
    generate(join(world, "consumer"), "wrangler.jsonc", "env"),
  ]);
  return blocks;
}

/** The example writes its own `Env`: it must be the one that is generated. */
const EXAMPLE_ENV = `import type { Env as Written } from "./example-worker/index";
export const written: Written = {} as Cloudflare.Env;
`;

interface Check {
  readonly name: string;
  readonly folder: string;
  readonly files: readonly string[];
  readonly options: object;
  /** Its dependencies have declarations that do not compile beside the generated types of the runtime: only `skipLibCheck` does. */
  readonly skipLibCheck?: true;
}

/** The tests of docs/testing.md say where their types are as users do. */
const CONSUMER = { allowImportingTsExtensions: true };

/** What is compiled. A constant that holds a class expression has no declaration (TS4094): what has some is compiled without any. */
const CHECKS: readonly Check[] = [
  { name: "documentation", folder: "docs", files: ["index.ts", "pages/*.ts", "worker/objects.ts"], options: { declaration: true } },
  { name: "documentation of frameworks", folder: "docs", files: ["index.ts", "frameworks/*.ts"], options: {}, skipLibCheck: true },
  { name: "documentation of tests", folder: "consumer", files: ["src/*.ts", "test/*.ts"], options: CONSUMER, skipLibCheck: true },
  { name: "example", folder: "example", files: ["written.ts", "example-worker/hello-outbox.ts"], options: { declaration: true } },
  { name: "tests", folder: "docs", files: ["worker/constants.ts", "tests/*.ts"], options: {} },
  { name: "tests of schemas", folder: "docs", files: ["schemas/*.ts"], options: {}, skipLibCheck: true },
];

/** Returns what the compiler finds wrong, or nothing. */
async function compile(world: World, { name, folder, files, options }: Check, bin: string, skipLibCheck: boolean): Promise<string> {
  const config = join(world, folder, `${name}-${skipLibCheck}-${basename(dirname(dirname(dirname(bin))))}.json`);
  const compilerOptions = { ...OPTIONS, ...options, skipLibCheck };
  await writeFile(config, JSON.stringify({ compilerOptions, include: ["../docs/runtime.d.ts", "env.d.ts", ...files] }));
  return new Promise((done) => {
    const cwd = join(world, folder);
    execFile(process.execPath, [bin, "-p", config, "--pretty", "false"], { cwd, maxBuffer: 2 ** 26 }, (error, stdout, stderr) =>
      done(error ? stdout + stderr || String(error) : ""),
    );
  });
}

const world = await mkdtemp(join(tmpdir(), "types-"));
try {
  const blocks = await layOut(world);
  const runs = CHECKS.flatMap((check) =>
    COMPILERS.flatMap((compiler) => (check.skipLibCheck ? [true] : [true, false]).map((skip) => ({ check, compiler, skip }))),
  );
  const next = runs.values();
  const work = async (): Promise<void> => {
    for (const { check, compiler, skip } of next) {
      const output = await compile(world, check, compiler.bin, skip);
      const title = `${check.name}, TypeScript ${compiler.version}${skip ? ", skipLibCheck" : ""}`;
      console.log(
        output
          ? `types: ${title}: FAILED\n${onPages(output, check.name.endsWith("frameworks") ? "frameworks" : "pages", blocks)}`
          : `types: ${title}: ok`,
      );
      if (output) process.exitCode = 1;
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work));
  console.log(`types: ${blocks.length} blocks of the documentation`);
} finally {
  await rm(world, { recursive: true, force: true });
}
