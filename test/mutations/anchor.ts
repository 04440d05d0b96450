/** Anchors: finds the declaration in which a mutation applies by its name, so that a change elsewhere in the file does not move it. */

/** Lines of a text, from the first up to and without the last. */
interface Extent {
  readonly from: number;
  readonly to: number;
}

/** What may stand before a declared name at the beginning of its line. */
const MODIFIERS = "(?:export |async |static |readonly |override |get |#)*(?:function\\*? |class |const |let )";

/**
 * The lines of a declaration: a function, a class, a constant, or a member of a class or of an object literal. Relies on
 * the formatter: a declaration ends on its own line, or on the first line of its indentation that only closes brackets.
 */
function extentOf(lines: readonly string[], { from, to }: Extent, name: string): Extent {
  const declared = new RegExp(String.raw`^( *)(?:${MODIFIERS}${name}\b|(?:async )?${name}(?:\(.*\{$|\($|: ))`);
  let found: { line: number; indent: string }[] = [];
  for (let line = from; line < to; line++) {
    const indent = declared.exec(lines[line] ?? "")?.[1];
    if (indent === undefined) continue;
    // The outermost declaration of a name is meant. The inner one is named with its parent: `outer.inner`.
    const shortest = found[0]?.indent.length ?? indent.length;
    if (indent.length < shortest) found = [];
    if (indent.length <= shortest) found.push({ line, indent });
  }
  const [only, second] = found;
  if (!only || second) throw new Error(`expected one declaration of ${name}, found ${found.length}`);
  if (/[;,]$/.test(lines[only.line] ?? "")) return { from: only.line, to: only.line + 1 };
  const closes = new RegExp(String.raw`^${only.indent}[\])}]+[;,]?$`);
  const end = lines.findIndex((line, at) => at > only.line && closes.test(line));
  return { from: only.line, to: end < 0 ? to : end + 1 };
}

/** The text with `find` replaced in the declaration that `within` names: `outer.inner` for one that is nested. */
export function mutated(text: string, within: string, find: string, replace: string): string {
  const lines = text.split("\n");
  let extent: Extent = { from: 0, to: lines.length };
  for (const name of within.split(".")) extent = extentOf(lines, extent, name);
  const part = lines.slice(extent.from, extent.to).join("\n");
  const count = part.split(find).length - 1;
  if (count !== 1) throw new Error(`expected "${find}" once in ${within}, found it ${count} times in:\n${part}`);
  return [...lines.slice(0, extent.from), part.replace(find, () => replace), ...lines.slice(extent.to)].join("\n");
}
