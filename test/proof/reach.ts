/** Which test files depend on a module, by the imports in their source. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Paths, from the project's root, of the test files that import this one, directly or through others. */
export function testsThatReach(path: string): string[] {
  const target = join(root, path);
  const known = new Map<string, boolean>();
  const reaches = (file: string): boolean => {
    const before = known.get(file);
    if (before !== undefined) return before;
    // What imports itself in a circle reaches nothing by that.
    known.set(file, false);
    const found = importsOf(file).some((imported) => imported === target || reaches(imported));
    known.set(file, found);
    return found;
  };
  return readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".test.ts") && !file.includes("node_modules"))
    .map((file) => join(root, "test", file))
    .filter(reaches)
    .map((file) => relative(root, file))
    .sort();
}

/** The files of the tests' own that a file imports. */
function importsOf(file: string): string[] {
  return Array.from(readFileSync(file, "utf8").matchAll(/ from "(\.{1,2}\/[^"]+\.ts)";$/gm), ([, specifier = ""]) =>
    join(dirname(file), specifier),
  ).filter(existsSync);
}
