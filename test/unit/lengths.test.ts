/** How long files and functions are: short enough that one can be held in mind. */
import { readdirSync, readFileSync } from "node:fs";
import { parseSync } from "vite";
import { expect, it } from "vitest";

const MOST_LINES_OF_A_FILE = 350;
/** Without those of functions in it that have a name: a function that makes an object is as long as what it does by itself. */
const MOST_LINES_OF_A_FUNCTION = 70;

const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));

/** What is read of a node of the syntax tree. */
interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

interface Length {
  readonly name: string;
  readonly lines: number;
}

const isNode = (value: unknown): value is Node => typeof (value as Node | null)?.type === "string";

/** The nodes directly below one. */
const below = (node: Node): Node[] => Object.values(node).flat().filter(isNode);

/** The name that a node gives to a function which is its value. */
function nameIn(node: object): string | undefined {
  const { type, id, key } = node as { type: string; id?: { name?: string } | null; key?: { name?: string } };
  return /^(FunctionDeclaration|VariableDeclarator|Property|PropertyDefinition|MethodDefinition)$/.test(type)
    ? (id ?? key)?.name
    : undefined;
}

/** The functions of a module that have a name, each with its lines. */
function functionsIn(file: string, text: string): Length[] {
  const lineAt = (offset: number): number => text.slice(0, offset).split("\n").length;
  const found: Length[] = [];
  /** Returns how many lines of named functions there are below a node. */
  const walk = (node: Node, name: string | undefined): number => {
    const inner = below(node).reduce((sum, child) => sum + walk(child, nameIn(node)), 0);
    const own = nameIn(node) ?? name;
    if (!/Function(Declaration|Expression)$/.test(node.type) || own === undefined) return inner;
    const lines = lineAt(node.end) - lineAt(node.start) + 1;
    found.push({ name: `${file} ${own}`, lines: lines - inner });
    return lines;
  };
  walk(parseSync(file, text).program as Node, undefined);
  return found;
}

const long = (text: string): Length[] => functionsIn("a.ts", text);

it("counts the lines of a function without those of the named functions in it", () => {
  const text = "function outer(): void {\n  function inner() {\n    run();\n  }\n  call(() => {\n    run();\n  });\n}\n";
  expect(long(text)).toEqual([
    { name: "a.ts inner", lines: 3 },
    { name: "a.ts outer", lines: 5 },
  ]);
  expect(long("const make = (): object => ({\n  method() {\n    run();\n  },\n  arrow: () =>\n    run(),\n});\n")).toEqual([
    { name: "a.ts method", lines: 3 },
    { name: "a.ts arrow", lines: 2 },
    { name: "a.ts make", lines: 2 },
  ]);
  expect(long("class A {\n  method(): void {\n    run();\n  }\n}\n")).toEqual([{ name: "a.ts method", lines: 3 }]);
});

it("no file is longer than can be read at once", () => {
  const lengths = files.map((name): Length => ({ name, lines: readFileSync(`src/${name}`, "utf8").split("\n").length - 1 }));
  expect(lengths.length).toBeGreaterThan(100);
  expect(lengths.filter(({ lines }) => lines > MOST_LINES_OF_A_FILE)).toEqual([]);
});

it("no function is longer than a screen", () => {
  const lengths = files.flatMap((file) => functionsIn(file, readFileSync(`src/${file}`, "utf8")));
  expect(lengths.length).toBeGreaterThan(500);
  expect(lengths.filter(({ lines }) => lines > MOST_LINES_OF_A_FUNCTION)).toEqual([]);
});

/** The example is read from top to bottom by someone who is deciding. */
const MOST_LINES_OF_THE_EXAMPLE = 120;

it("no file of the example is longer than is read at a sitting, and none reaches into the source", () => {
  const example = readdirSync("example-worker", { recursive: true, encoding: "utf8" }).filter((file) => /\.[jt]s$/.test(file));
  const texts = example.map((name) => ({ name, text: readFileSync(`example-worker/${name}`, "utf8") }));
  expect(texts.length).toBeGreaterThan(15);
  expect(texts.filter(({ text }) => text.split("\n").length - 1 > MOST_LINES_OF_THE_EXAMPLE).map(({ name }) => name)).toEqual([]);
  expect(texts.filter(({ text }) => text.includes("/src/")).map(({ name }) => name)).toEqual([]);
});
