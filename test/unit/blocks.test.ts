/** The code of the documentation, as it is found and as its errors are led back. */
import { describe, expect, it } from "vitest";
import { blocksOf, onPages } from "../types/blocks.ts";

const page = (...lines: string[]): string => lines.join("\n");

describe("a block of code", () => {
  it("that is a module is compiled as it stands", () => {
    const [block, ...others] = blocksOf("docs/a.md", page("# A", "", "```ts", 'import "b";', "run();", "```", "```sh", "ls", "```"));
    expect(others).toEqual([]);
    expect(block).toMatchObject({ page: "docs/a.md", file: "a-1.ts", text: 'import "b";\nrun();\n' });
  });

  it("without an import or export becomes a module: its names are its own", () => {
    expect(blocksOf("README.md", page("```ts", "const a = 1;", "```"))[0]?.text).toBe("const a = 1;\nexport {};\n");
  });

  it("that is a fragment stands in what the line before it names", () => {
    const [block] = blocksOf("a.md", page("<!-- compiled in a method -->", "```ts", "await here();", "```"));
    expect(block?.text).toMatch(/class Fragment extends .*\n.*async method\(.*\n {0}await here\(\);\n/);
    expect(() => blocksOf("a.md", page("", "<!-- compiled in a bottle -->", "```ts", "```"))).toThrow(
      'a.md:3: There is no prelude "a bottle".',
    );
  });

  it("that has no end is an error", () => {
    expect(() => blocksOf("a.md", page("```ts", "1;"))).toThrow("a.md:1: This block has no end.");
  });

  it.each([
    ["a module", page("# A", "```ts", "", "export {};", "wrong", "```"), 5],
    ["a fragment", page("# A", "<!-- compiled in a class -->", "```ts", "wrong", "```"), 4],
  ])("has its errors on the lines of its page: %s", (_, markdown, line) => {
    const blocks = blocksOf("docs/a.md", markdown);
    const at = (blocks[0]?.text.split("\n").indexOf("wrong") ?? 0) + 1;
    expect(onPages(`pages/a-1.ts(${at},3): error TS1\n  more\npages/b-1.ts(2,1): error TS2`, "pages", blocks)).toBe(
      `docs/a.md:${line}:3: error TS1\n  more\npages/b-1.ts(2,1): error TS2`,
    );
  });
});
