/** Loading: what an object's outbox reads when the object starts. */

import { linesOf } from "./lines.js";
import { type LaneState, NEVER } from "./memory.js";
import { positionOf, readMessage } from "./message.js";
import { decode, HEADER, type HeaderRow, keyNumber, LANES, LAST_NUMBER, type LaneRow, laneName, numberedKey, rowsOf } from "./rows.js";
import { PAGE_ROWS, type Store } from "./store.js";
import { CALM } from "./trouble.js";

/** So many headers in a row may be unreadable before storage itself counts as unreadable. */
const MOST_LOST_HEADERS = 8;
/** Rows read at once where each is a few bytes. */
const SMALL_ROWS = 1000;

/** Reads what the object left behind: one read where nothing waits. Resolves to whether there may be rows of the original package. */
export async function load(store: Store, object: string): Promise<boolean> {
  const { memory } = store;
  const row = await header(store);
  if (!row && memory.key === HEADER) return true;
  const { messages = [], ...rest } = row ?? {};
  Object.assign(memory, rest);
  memory.trouble ??= CALM;
  memory.newest = linesOf(messages);
  const [head] = await store.page("s", numberedKey("s", memory.first), memory.last, 1);
  memory.first = head ? keyNumber(head.key) : memory.last + 1;
  const [oldest] = head?.data.messages ?? messages;
  memory.done = (oldest ? positionOf(oldest) : memory.position + 1) - 1;
  memory.main = row?.main ?? memory.position - memory.done;
  // What the header alone holds is a few messages; with segments, a run finds out.
  memory.next = head ? 0 : Math.min(NEVER, ...messages.map((stored) => readMessage(memory, stored).more.due ?? 0));
  if (memory.aside) {
    const [timer] = await store.page("t", numberedKey("t", 0), LAST_NUMBER, 1);
    memory.due = timer ? keyNumber(timer.key) : NEVER;
  }
  if (memory.laned) await lanes(store);
  if (!row || row.object === object) return memory.adopting;
  // A copy. Its messages keep the identity they had. The platform does not restore an alarm with a copy, so the
  // original's own alarm is not the copy's either.
  memory.own = null;
  await store.newEpoch();
  return memory.adopting;
}

/** The header. One that can't be read is kept as it is, and what it counted is found again. */
async function header(store: Store): Promise<HeaderRow | undefined> {
  const { memory } = store;
  for (;;) {
    try {
      const value = await store.native.get(memory.key);
      return value === undefined ? value : decode(value);
    } catch (error) {
      // Storage as a whole is out of reach: the object has been reset, say.
      if (memory.key.length > HEADER.length + MOST_LOST_HEADERS) throw error;
      // The numbers are lost with it. The next one goes on in a new epoch, beyond any number that can have been used.
      store.unreadable(memory.key, error);
      memory.key += "-";
      memory.last = Date.now();
      memory.base = memory.position = memory.last * 1024;
      memory.aside = await count(store, "t");
      memory.dead = await count(store, "d");
      memory.laned = await count(store, "k");
    }
  }
}

/** What only the header knew, counted again. */
async function count(store: Store, kind: "t" | "d" | "k"): Promise<number> {
  let messages = 0;
  for (let start = rowsOf(kind, 0); ; ) {
    const rows = kind === "k" ? await store.list({ start, end: LANES, limit: PAGE_ROWS }) : await store.page(kind, start, LAST_NUMBER);
    const last = rows.at(-1);
    if (!last) return messages;
    for (const { data } of rows) messages += data.messages.length;
    start = `${last.key}\0`;
  }
}

/** The ordering keys of which messages wait. */
async function lanes(store: Store): Promise<void> {
  const { memory } = store;
  const lanes = new Map<string, LaneState>();
  for (let start = LANES; ; ) {
    const found = await store.native.list<LaneRow>({ start, end: `${LANES}\u{10FFFF}`, limit: SMALL_ROWS });
    for (const [key, row] of found) {
      const due = typeof row === "number" ? row : row[0];
      lanes.set(laneName(key), { due, mixed: typeof row !== "number" });
      memory.due = Math.min(memory.due, due);
      start = `${key}\0`;
    }
    if (found.size < SMALL_ROWS) break;
  }
  memory.lanes = lanes;
}
