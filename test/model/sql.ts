/** `ctx.storage.sql`, as far as the outbox and the stories use it: one table of the object's own, whose rows are committed with its keys. */

import type { Layer } from "./layers.ts";

/** The rows stand among the keys, where `get` and `list` do not look. */
const ROWS = "\u0000sql:";

export function sqlKey(n: number): string {
  return ROWS + n;
}

export function isSqlRow(key: string): boolean {
  return key.startsWith(ROWS);
}

/** Adds a row to the object's own table. */
export const INSERT = "INSERT INTO story VALUES (?)";

/** What one statement gives. `layer` is where everything lies that has been written. */
export function execute(layer: () => Layer, statement: string, bindings: readonly unknown[]): readonly object[] {
  if (statement === INSERT) {
    const to = layer();
    to.confirms = true;
    to.put(sqlKey(bindings[0] as number), true);
  }
  if (/^SELECT .* FROM sqlite_master/.test(statement) && bindings[0] === "table") {
    return rowsOf(layer()).length > 0 ? [{ name: "story", sql: "CREATE TABLE story (n INTEGER)" }] : [];
  }
  if (/^DROP TABLE/i.test(statement)) for (const key of rowsOf(layer())) layer().remove(key);
  // What a PRAGMA is asked for stands at 0.
  return /^PRAGMA/.test(statement) ? [{ defer_foreign_keys: 0 }] : [];
}

function rowsOf(layer: Layer): string[] {
  const found = new Map<string, unknown>();
  layer.collect(found, isSqlRow);
  return [...found.keys()];
}
