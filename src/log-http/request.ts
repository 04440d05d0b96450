/** What a request asks for. */

import { type Offset, offsetIn } from "./offset.js";

/** A request that the protocol does not know. */
export class BadRequest extends Error {}

export interface Asked {
  /** Where to begin: the end of the log, or behind a message. `undefined`: with all that is kept. */
  readonly offset: Offset | "now" | undefined;
  readonly live: "long-poll" | "sse" | null;
  /** The cursor of the client's last response. */
  readonly cursor: string | null;
}

/** @throws BadRequest that names what is wrong. */
export function askedIn({ url, headers }: Request): Asked {
  const { searchParams } = new URL(url);
  const live = searchParams.get("live");
  if (live !== null && live !== "long-poll" && live !== "sse") throw new BadRequest('Expected `live` to be "long-poll" or "sse".');
  const [given = null, ...more] = searchParams.getAll("offset");
  if (more.length > 0) throw new BadRequest("Expected one `offset`.");
  // An EventSource that connects again does so at the same address.
  const text = (live === "sse" && headers.get("Last-Event-ID")) || given;
  if (live !== null && text === null) throw new BadRequest("Expected an `offset` beside `live`: -1, now or one of this log.");
  return { offset: offsetOf(text), live, cursor: searchParams.get("cursor") };
}

function offsetOf(text: string | null): Asked["offset"] {
  if (text === null || text === "-1") return undefined;
  if (text === "now") return text;
  const offset = offsetIn(text);
  if (!offset) throw new BadRequest("Expected `offset` to be -1, now or one of this log.");
  return offset;
}
