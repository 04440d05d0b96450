/** What README, CHANGELOG and docs refer to: every page, file and heading that they name exists, and the size and costs that README tells are those that are checked. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const files = readdirSync(".", { recursive: true, encoding: "utf8" }).filter((path) => !/(^|\/)(node_modules|\.\w+)\//.test(path));
const docs = files.filter((path) => /^docs\/[^/]*\.md$/.test(path));
const PAGES = ["README.md", "CHANGELOG.md", ...docs];

/** The text of a page without its code, in which brackets are no links. */
const prose = (page: string): string => readFileSync(page, "utf8").replace(/```[\s\S]*?```/g, "");

/** The anchors of a page's headings, as GitHub makes them. */
const anchors = (page: string): string[] =>
  Array.from(prose(page).matchAll(/^#+ (.+)$/gm), ([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );

/** The links of a page that lead to nothing. */
function broken(page: string): string[] {
  const links = Array.from(prose(page).matchAll(/\]\(([^)\s]+)\)/g), ([, link = ""]) => link);
  return links.filter((link) => {
    if (/^https?:/.test(link)) return false;
    const { pathname, hash } = new URL(link, `file:///${page}`);
    const target = pathname.slice(1);
    return !files.includes(target) || (hash !== "" && !anchors(target).includes(decodeURIComponent(hash.slice(1))));
  });
}

it.each(PAGES)("%s links to what exists", (page) => {
  expect(broken(page)).toEqual([]);
});

it("every page of docs is linked from README", () => {
  const text = prose("README.md");
  expect(docs.filter((path) => !text.includes(`(${path}`))).toEqual([]);
});

it("README tells the limit of the core's size that each build checks", () => {
  const { "size-limit": limits } = JSON.parse(readFileSync("package.json", "utf8")) as { "size-limit": { limit: string }[] };
  expect(/core is at most ([\d.]+ kB)/.exec(prose("README.md"))?.[1]).toBe(limits[0]?.limit);
});

it("README and CHANGELOG tell the costs of a burst that were counted last", () => {
  type Counted = Record<"rowsWritten" | "alarmsSet" | "burst", number> & { readonly entrant: string };
  const { operations } = JSON.parse(readFileSync("docs/performance.json", "utf8")) as { operations: readonly Counted[] };
  const costOf = (name: string): string => {
    const { rowsWritten, alarmsSet } = operations.find(({ entrant, burst }) => entrant === name && burst === 100) as Counted;
    // Without the row of the state, which everybody writes.
    return (rowsWritten - 1 + alarmsSet).toFixed(2);
  };
  const costs = [costOf("Ours"), costOf("HandKv")];
  const [, ours, theirs] = /costs (\d\.\d+) rows, alarm included; a\s+hand-written outbox pays (\d\.\d+)/.exec(prose("README.md")) ?? [];
  expect([ours, theirs]).toEqual(costs);
  const [, said, instead] = /(\d\.\d+) rows a message instead of (\d\.\d+)/.exec(prose("CHANGELOG.md")) ?? [];
  expect([said, instead]).toEqual(costs);
});
