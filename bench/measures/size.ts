/** Bundle sizes: each entry point of the package alone, as a worker that imports all of it would carry it. */
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import type { Size } from "../results.ts";

const ENTRIES = {
  "do-transactional-outbox": "../../src/index.ts",
  "do-transactional-outbox/destinations": "../../src/destinations/index.ts",
  "do-transactional-outbox/inbox (with the core)": "../../src/inbox/index.ts",
} as const;

export async function sizes(): Promise<Size[]> {
  const found: Size[] = [];
  for (const [name, entry] of Object.entries(ENTRIES)) {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL(entry, import.meta.url))],
      bundle: true,
      minify: true,
      write: false,
      format: "esm",
      target: "es2022",
      external: ["cloudflare:*"],
    });
    const code = outputFiles[0]?.contents ?? new Uint8Array();
    found.push({ name, minified: code.length, gzipped: gzipSync(code, { level: 9 }).length });
  }
  return found;
}
