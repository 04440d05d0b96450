/** Installs what only the benchmarks need: the frameworks that they compare with, in `bench/node_modules`. */
import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Runs `npm ci` in this folder, unless what is installed is newer than the lock file. */
export function install(): void {
  // npm writes the second when it has installed everything.
  const [locked, installed] = ["package-lock.json", "node_modules/.package-lock.json"].map(writtenAt) as [number, number];
  if (installed > locked) return;
  const folder = fileURLToPath(new URL(".", import.meta.url));
  // No package here needs its install script.
  const args = ["ci", "--prefix", folder, "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"];
  const { status, error, stderr } = spawnSync("npm", args, { encoding: "utf8" });
  if (status !== 0)
    throw new Error(`[bench] npm ci failed, so there is nobody to compare with:\n${error?.message ?? stderr}`, { cause: error });
}

/** In milliseconds since the Unix epoch, and 0 for a file that is missing. */
function writtenAt(file: string): number {
  return statSync(new URL(file, import.meta.url), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
