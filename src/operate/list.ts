/** Listing: pages of what is stored. A cursor names a place in the order of a state, so that it holds when its message has left. */

import { expected } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxListed } from "../api/message.js";
import { within } from "../api/within.js";
import { type OutboxContext, untilWritable } from "../context.js";
import { present, presentDead } from "../storage/message.js";
import { endOf, type Place, Walk } from "../storage/moves.js";
import type { Kind } from "../storage/rows.js";
import { type Found, idOf, placeOf, type Scan } from "../storage/scan.js";
import { tried } from "../subscription/breaker.js";
import type { Delivery } from "../subscription/delivery.js";
import type { Reader } from "../subscription/reader.js";
import { currentIn } from "../subscription/versions.js";

/** What `list` shows. */
export interface OutboxListOptions {
  /**
   * `"pending"` (default): in the queue, waiting for nothing but its turn. `"delayed"`: waiting for a time, or behind a
   * message with the same ordering key. `"dead"`: given up.
   */
  state?: "pending" | "delayed" | "dead";
  /** How many at most. Default 100, from 1 to 1,000. */
  limit?: number;
  /**
   * Continue behind the message with this id, the last of an earlier page: also when it has left the state meanwhile. The last thousand
   * pages are remembered while the object is in memory. After that, a `TypeError` where the message has left.
   */
  after?: string;
  /** The name of one destination: `"default"` is `sendMessages`. Default: those of all, one destination after the other. */
  destination?: string;
}

const OPTIONS = ["state", "limit", "after", "destination"];

/** @throws TypeError that names an option that does not exist. */
export function listOptions(options: OutboxListOptions | undefined): OutboxListOptions {
  return known("options", options ?? {}, OPTIONS);
}

/** The limit of a page. @throws TypeError when it is wrong. */
export function within1000(limit: unknown): number {
  return within("options.limit", limit, [100, 1, 1000, 1]);
}

/** Where a page of a walk ended. */
interface Cursor {
  readonly walk: Walk;
  readonly place: Place | undefined;
}

type State = NonNullable<OutboxListOptions["state"]>;

/** The kinds of rows in which messages of a state are stored. */
const KINDS = { pending: ["t", "s"], delayed: ["t", "k", "s"], dead: ["d"] } as const;
/** So many pages are remembered. */
const MOST_CURSORS = 1000;

/** A message as `list` shows it, which was found in a row of this kind. */
export function listed({ settings }: Pick<OutboxContext, "settings">, reader: Reader, kind: Kind, found: Found, now: number): OutboxListed {
  const current = currentIn(settings.schemas, found);
  if (kind === "d") return presentDead(found, reader.name, current);
  const { due = 0, attempts = 0, error } = found.more;
  const message = present(found, kind === "s" ? tried(reader.breaker, found.position) : attempts, undefined, current);
  return { ...message, destination: reader.name, ...(due > now && { deliverAt: due }), ...(error !== undefined && { error }) };
}

/** `list` of one object. */
export function listerOf(parts: OutboxContext, { reader }: Delivery, scan: Scan): (options?: OutboxListOptions) => Promise<OutboxListed[]> {
  const { store } = parts;
  const { prefix } = reader;
  /** Where pages ended, by state and id. Oldest first. */
  const cursors = new Map<string, Cursor>();

  /** A walk from a place on, or from the beginning. */
  function begin(state: State, place?: Place): Cursor {
    return { walk: new Walk(KINDS[state], store.moves), place };
  }

  function remember(state: State, id: string, place: Cursor): void {
    const name = `${state} ${id}`;
    cursors.delete(name);
    cursors.set(name, place);
    const [oldest = ""] = cursors.keys();
    if (cursors.size > MOST_CURSORS) cursors.delete(oldest);
  }

  /** Where a page ended. */
  async function find(state: State, after: string): Promise<Cursor> {
    const known = cursors.get(`${state} ${after}`);
    if (known) return known;
    const position = await scan.locate(after);
    // The order of dead letters is that of positions.
    if (state === "dead" && position !== undefined) return begin(state, { kind: "d", key: "", position });
    for (const kind of KINDS[state]) {
      const behind = kind === "s" && position !== undefined ? ({ kind, key: "", position: position - 1 } as const) : undefined;
      for await (const found of scan.messages(kind, behind)) if (idOf(found) === after) return begin(state, placeOf(prefix, kind, found));
    }
    throw expected("options.after", "the id of a message that still exists, or that ended a recent page", after);
  }

  return async (options) => {
    const { state = "pending", limit, after } = listOptions(options);
    if (!Object.hasOwn(KINDS, state)) throw expected("options.state", '"pending", "delayed" or "dead"', state);
    const most = within1000(limit);
    await untilWritable(parts);
    const { walk, place } = after === undefined ? begin(state) : await find(state, after);
    const now = store.now();
    const page: OutboxListed[] = [];
    const kinds: readonly Kind[] = KINDS[state];
    /** Whether a message in such a row is in this state. */
    const belongs = (kind: Kind, { more: { due = 0 } }: Found): boolean =>
      kind === "k" || kind === "d" || due > now === (state === "delayed");
    let end = place;
    for (const kind of kinds.slice(place ? kinds.indexOf(place.kind) : 0)) {
      const messages = scan.messages(kind, kind === place?.kind ? place : undefined);
      for (;;) {
        const { done, value } = await messages.next();
        // What is due later comes later.
        if (done || (state === "pending" && kind === "t" && !belongs(kind, value))) {
          walk.pass(done ? value : value.read, endOf(kind));
          break;
        }
        end = placeOf(prefix, kind, value);
        const isNew = belongs(kind, value) && !walk.hasShown(value.position);
        walk.pass(value.read, end);
        if (isNew && page.push(listed(parts, reader, kind, value, now)) >= most) break;
      }
      if (page.length >= most) break;
    }
    const lastKind = kinds.at(-1) ?? "s";
    // It has come through all kinds of rows, though the last had none: the next page does not begin before that.
    if (page.length < most && end?.kind !== lastKind) end = { kind: lastKind, key: "", position: 0 };
    // What was ahead may have moved to where the walk had been.
    if (page.length < most && walk.isDisturbed) {
      for (const kind of kinds.filter((kind) => kind !== "s" && kind !== "d")) {
        for await (const found of scan.messages(kind)) {
          if (!belongs(kind, found) || walk.hasShown(found.position, placeOf(prefix, kind, found))) continue;
          walk.late.add(found.position);
          if (page.push(listed(parts, reader, kind, found, now)) >= most) break;
        }
        if (page.length >= most) break;
      }
    }
    const last = page.at(-1);
    if (last) remember(state, last.id, { walk, place: end });
    return page;
  };
}
