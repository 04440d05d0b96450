/** The code of the documentation: finds its TypeScript, completes the fragments, and leads an error back to its line. */
import { PRELUDES, type Prelude } from "./preludes.ts";

/** A block of code, as it is compiled. */
export interface Block {
  /** The page that it is from. */
  readonly page: string;
  /** The name of its file. */
  readonly file: string;
  readonly text: string;
  /** The line of the page before the line of the file with this number, both from 1: add the number. */
  readonly offset: number;
}

const ALONE: Prelude = { before: "", after: "" };

/**
 * The blocks of a page. One that is no module of its own says what it is compiled in: `<!-- compiled in a class -->` on the line before it.
 *
 * @throws Error that names the line of a block whose surroundings are not known.
 */
export function blocksOf(page: string, markdown: string): Block[] {
  const lines = markdown.split("\n");
  const name = page.replace(/^.*\//, "").replace(/\.md$/, "");
  const blocks: Block[] = [];
  for (let i = 0; i < lines.length; i++) {
    if (!/^\s*```(ts|typescript)\b/.test(lines[i] ?? "")) continue;
    const end = lines.findIndex((line, j) => j > i && /^\s*```\s*$/.test(line));
    const within = /^\s*<!-- compiled in (.+) -->\s*$/.exec(lines[i - 1] ?? "")?.[1];
    const prelude = within === undefined ? ALONE : PRELUDES[within];
    if (!prelude || end < 0)
      throw new Error(`${page}:${i + 1}: ${end < 0 ? "This block has no end." : `There is no prelude "${within}".`}`);
    const code = lines.slice(i + 1, end).join("\n");
    const module = /^\s*(import|export) /m.test(code) || prelude !== ALONE ? "" : "export {};\n";
    blocks.push({
      page,
      file: `${name}-${blocks.length + 1}.ts`,
      text: `${prelude.before}${code}\n${prelude.after}${module}`,
      offset: i + 1 - (prelude.before.split("\n").length - 1),
    });
    i = end;
  }
  return blocks;
}

/** What a compiler says of these files, with the lines of the pages in place of those of the files. */
export function onPages(output: string, folder: string, blocks: readonly Block[]): string {
  return output.replace(/^(\S+?)\((\d+),(\d+)\)/gm, (all, path: string, line: string, column: string) => {
    const block = blocks.find(({ file }) => path === `${folder}/${file}`);
    return block ? `${block.page}:${Number(line) + block.offset}:${column}` : all;
  });
}
