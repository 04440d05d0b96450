/** The worker's side of a relay: holds the requests of readers that wait, so that the object whose log they read need not. */

import { expected } from "../api/errors.js";
import { known } from "../api/known.js";
import { within } from "../api/within.js";
import { CLOCK } from "../destinations/clock.js";
import { attachingRequest, pageRequest } from "./attach.js";
import { eventDataOf, isBinary, isJson } from "./content.js";
import { cursorAfter } from "./cursor.js";
import { cursors, eventsOf, streamOf, type Written } from "./events.js";
import { type Growth, growthOf } from "./growth.js";
import { textOf } from "./offset.js";
import { type Asked, askedIn } from "./request.js";

/** The object, by its stub. */
export interface RelayedLog {
  fetch(request: Request): Promise<Response>;
}

/** How long a relay holds a request. */
export interface RelayLogOptions {
  /** How long a long-poll waits for a message, in seconds. Default 20, up to 300. */
  longPollSeconds?: number;
  /** After how long a stream of server-sent events ends, in seconds. Default 3,600, up to 86,400: each client that comes back wakes the object. */
  sseSeconds?: number;
}

/** A page of the log, as the object has answered. */
interface Page extends Written {
  readonly contentType: string;
  /** Those of the answer that are not about this page alone: what the object's own code has added is among them. */
  readonly headers: Headers;
}

/** Headers of a page alone. */
const OF_ONE_PAGE = ["Content-Type", "Content-Length", "Content-Encoding", "ETag", "Stream-Next-Offset", "Stream-Up-To-Date"];
/** A stream without messages writes a comment this often: nothing in between takes it for broken, and a client that has gone is noticed. */
const COMMENT_MS = 30_000;
const COMMENT = ":\n\n";

/**
 * Answers a reader's request with the log of an object whose class is wrapped by `withLogRelay`. Long-polls and streams of events are held here, in the
 * worker that calls this, and the object may hibernate meanwhile: it sends a word when its log has grown, and the next page is read then. Every other
 * request goes to the object as it is. Who may read is decided by the `authorize` of the object's `serveLog`, for each page.
 *
 * @param object the object's stub
 * @throws TypeError when an option is wrong, or the object's class is not wrapped by `withLogRelay`; what the stub throws
 *
 * @example
 * export default {
 *   fetch: (request: Request, env: Env) => relayLog(request, env.FEED.getByName("news")),
 * };
 */
export async function relayLog(request: Request, object: RelayedLog, options: RelayLogOptions = {}): Promise<Response> {
  const { longPollSeconds, sseSeconds } = known("options", options, ["longPollSeconds", "sseSeconds"]);
  const longPollMs = within("options.longPollSeconds", longPollSeconds, [20, 0, 300]) * 1000;
  const sseMs = within("options.sseSeconds", sseSeconds, [3600, 0, 86_400]) * 1000;
  const asked = request.method === "GET" ? liveIn(request) : null;
  if (!asked) return object.fetch(request);
  const read: Read = (offset) => pageFrom(object, pageRequest(request, offset));
  const attach: Attach = () => attachedTo(object, request);
  return asked.live === "sse" ? events(request, read, attach, asked, sseMs) : longPoll(read, attach, asked, longPollMs);
}

/** What a request asks for that waits, and `null` for any other. One that is wrong is the object's to refuse, once it has decided who may read. */
function liveIn(request: Request): Asked | null {
  try {
    const asked = askedIn(request);
    return asked.live ? asked : null;
  } catch {
    return null;
  }
}

type Read = (offset: string) => Promise<Page | Response>;
type Attach = () => Promise<Growth | Response>;

async function longPoll(read: Read, attach: Attach, asked: Asked, ms: number): Promise<Response> {
  const end = CLOCK.now() + ms;
  let growth: Growth | undefined;
  try {
    for (let offset = startOf(asked), isLast = false; ; ) {
      const page = await read(offset);
      if (page instanceof Response) return page;
      if (page.data !== null || isLast) return polled(page, asked);
      offset = page.next;
      if (growth) isLast = (await growth.beyond(offset, Math.max(0, end - CLOCK.now()))) !== "grown";
      else {
        // The page is then read once more: something may have been put before there was a socket.
        const attached = await attach();
        if (attached instanceof Response) return attached;
        growth = attached;
      }
    }
  } finally {
    growth?.end();
  }
}

function polled({ data, next, isUpToDate, contentType, headers }: Page, { cursor }: Asked): Response {
  const answer = headersOf(headers, {
    "Cache-Control": data === null ? "no-store" : "private, no-cache",
    ...(data !== null && { "Content-Type": contentType }),
    "Stream-Next-Offset": next,
    "Stream-Cursor": cursorAfter(cursor, CLOCK.now(), CLOCK.random()),
    ...(isUpToDate && { "Stream-Up-To-Date": "true" }),
  });
  return new Response(data, { status: data === null ? 204 : 200, headers: answer });
}

async function events(request: Request, read: Read, attach: Attach, asked: Asked, ms: number): Promise<Response> {
  const growth = await attach();
  if (growth instanceof Response) return growth;
  const end = (): void => growth.end();
  request.signal?.addEventListener("abort", end);
  try {
    const first = await read(startOf(asked));
    if (first instanceof Response) {
      end();
      return first;
    }
    const headers = headersOf(first.headers, {
      "Cache-Control": "no-cache",
      "Content-Type": "text/event-stream",
      ...(isBinary(first.contentType) && { "Stream-SSE-Data-Encoding": "base64" }),
    });
    return new Response(streamOf(textsOf(read, growth, first, cursors(asked.cursor), CLOCK.now() + ms), end), { headers });
  } catch (error) {
    end();
    throw error;
  }
}

/** A stream of events, as strings. It ends with its time, with the socket, and where the object does not answer with a page. */
async function* textsOf(
  read: Read,
  growth: Growth,
  first: Page,
  cursor: () => string,
  end: number,
): AsyncGenerator<string, void, undefined> {
  yield eventsOf(writtenOf(first), cursor());
  for (let { next, isUpToDate } = first; ; ) {
    const left = end - CLOCK.now();
    if (left <= 0) return;
    if (isUpToDate) {
      const outcome = await growth.beyond(next, Math.min(COMMENT_MS, left));
      if (outcome === "over") return;
      if (outcome === "late") {
        yield COMMENT;
        continue;
      }
    }
    const page = await read(next);
    if (page instanceof Response) return;
    if (page.next !== next) yield eventsOf(writtenOf(page), cursor());
    ({ next, isUpToDate } = page);
  }
}

function writtenOf({ data, contentType, ...page }: Page): Written {
  return { ...page, data: data && eventDataOf(data, contentType) };
}

async function pageFrom(object: RelayedLog, request: Request): Promise<Page | Response> {
  const response = await object.fetch(request);
  const next = response.headers.get("Stream-Next-Offset");
  if (response.status !== 200 || next === null) return response;
  const contentType = response.headers.get("Content-Type") ?? "";
  const data = isJson(contentType) ? await response.text() : new Uint8Array(await response.arrayBuffer());
  const isEmpty = data.length === 0 || (data === "[]" && isJson(contentType));
  const headers = new Headers(response.headers);
  const isUpToDate = headers.get("Stream-Up-To-Date") === "true";
  for (const name of OF_ONE_PAGE) headers.delete(name);
  return { data: isEmpty ? null : data, next, isUpToDate, contentType, headers };
}

async function attachedTo(object: RelayedLog, request: Request): Promise<Growth | Response> {
  const response = await object.fetch(attachingRequest(request));
  if (response.webSocket) return growthOf(response.webSocket);
  if (response.status !== 200 || !response.headers.has("Stream-Next-Offset")) return response;
  await response.body?.cancel();
  throw expected("object", "one whose class is wrapped withLogRelay()", object);
}

function headersOf(given: Headers, own: Readonly<Record<string, string>>): Headers {
  const headers = new Headers(given);
  for (const [name, value] of Object.entries(own)) headers.set(name, value);
  return headers;
}

/** What the first page is asked for with. */
function startOf({ offset }: Asked): string {
  if (offset === "now") return offset;
  return offset ? textOf(offset) : "-1";
}
