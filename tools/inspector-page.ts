/** Makes src/inspector/assets.ts: the inspector's style and script, from src/inspector/page/. With `--check` it says whether that is what is there. */

import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const FILE = "src/inspector/assets.ts";

/** The bundle of one file, without what could end the element that it is written into. */
async function bundle(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: ["es2022", "chrome111", "firefox115", "safari16.4"],
    charset: "ascii",
    legalComments: "none",
  });
  const text = outputFiles[0]?.text.trim() ?? "";
  if (/<\/(script|style)|<!--/i.test(text)) throw new Error(`${entry} has text that would end its element.`);
  return text;
}

/** The file as it should be. */
export async function assets(): Promise<string> {
  const [style, script] = await Promise.all([bundle("src/inspector/page/style.css"), bundle("src/inspector/page/main.ts")]);
  return `/** Made by \`npm run build:page\` from src/inspector/page/: the style and the script of the page. */
export const STYLE: string = ${JSON.stringify(style)};
export const SCRIPT: string = ${JSON.stringify(script)};
`;
}

if (process.argv[1]?.endsWith("inspector-page.ts")) {
  const wanted = await assets();
  if (!process.argv.includes("--check")) writeFileSync(FILE, wanted);
  else if (readFileSync(FILE, "utf8") !== wanted) {
    console.error(`${FILE} is not what src/inspector/page/ makes: run npm run build:page.`);
    process.exitCode = 1;
  }
}
