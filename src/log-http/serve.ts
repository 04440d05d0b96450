/** `serveLog`: answers a request for the log. */

import { expected } from "../api/errors.js";
import { known } from "../api/known.js";
import { within } from "../api/within.js";
import { CLOCK } from "../destinations/clock.js";
import { arrives, type Chunk, chunkAfter, endOfLog, type LogSource, UnreadableMessage } from "./chunk.js";
import { checkContentType, type Form, formOf } from "./content.js";
import { cursorAfter } from "./cursor.js";
import { cursors, eventStream } from "./events.js";
import { type Offset, textOf } from "./offset.js";
import { type Asked, askedIn, BadRequest } from "./request.js";

export type { LogSource } from "./chunk.js";

/** How the log is served. */
export interface ServeLogOptions {
  /** The log: `this.env.OUTBOX_MANAGER` of a class with the option `retain`. */
  source: LogSource;
  /**
   * Whether a request may read the log: called first, with nothing read yet. Only `true` lets it in. A `Response` is the answer; anything else
   * becomes 401 for a request without `Authorization`, and 403 for one with it. There is no default.
   */
  authorize: (request: Request) => boolean | Response | Promise<boolean | Response>;
  /**
   * The media type of the log. Default `"application/json"`: a response is a list of messages. Of any other type messages are strings and bytes, which
   * follow one another without anything in between.
   */
  contentType?: string;
  /** How long a long-poll waits for a message, in seconds. Default 20, up to 300. */
  longPollSeconds?: number;
  /** After how long a stream of server-sent events ends, in seconds: the client connects again. Default 60, up to 3,600. */
  sseSeconds?: number;
}

interface Settings {
  readonly source: LogSource;
  readonly contentType: string;
  readonly longPollMs: number;
  readonly sseMs: number;
}

const OPTIONS = ["source", "authorize", "contentType", "longPollSeconds", "sseSeconds"];

/** What every answer has. */
const HEADERS = { "X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin" };
/** For what is only true at the moment. */
const FLEETING = { ...HEADERS, "Cache-Control": "no-store" };
/** A cache asks each time, with the ETag: so `authorize` decides on each response. */
const CHECKED = { ...HEADERS, "Cache-Control": "private, no-cache", Vary: "Accept" };

/**
 * Answers a GET or HEAD request with the object's log, by the read path of the Durable Streams protocol 1.0: pages from an offset, long-polls
 * (`live=long-poll`) and server-sent events (`live=sse`). See docs/log.md.
 *
 * @throws TypeError when an option is wrong; OutboxError `unsupported` when the log is not kept; what `authorize` throws
 *
 * @example
 * async fetch(request: Request): Promise<Response> {
 *   return serveLog(request, {
 *     source: this.env.OUTBOX_MANAGER,
 *     authorize: (request) => isReader(request.headers.get("Authorization")),
 *   });
 * }
 */
export async function serveLog(request: Request, options: ServeLogOptions): Promise<Response> {
  const settings = settingsOf(options);
  const allowed: unknown = await options.authorize(request);
  if (allowed instanceof Response) return allowed;
  if (allowed !== true) return refusal(request);
  try {
    return await answer(request, settings);
  } catch (error) {
    if (error instanceof BadRequest) return failure(400, error.message);
    if (error instanceof UnreadableMessage) return failure(500, `${error.message} ${(error.cause as Error).message}`);
    throw error;
  }
}

function settingsOf(options: ServeLogOptions): Settings {
  const { source, authorize, contentType = "application/json", longPollSeconds, sseSeconds } = known("options", options, OPTIONS);
  if (typeof source?.read !== "function" || typeof source.tail !== "function") throw expected("options.source", "an OutboxManager", source);
  if (typeof authorize !== "function") throw expected("options.authorize", "a function", authorize);
  return {
    source,
    contentType: checkContentType(contentType),
    longPollMs: within("options.longPollSeconds", longPollSeconds, [20, 0, 300]) * 1000,
    sseMs: within("options.sseSeconds", sseSeconds, [60, 0, 3600]) * 1000,
  };
}

async function answer(request: Request, settings: Settings): Promise<Response> {
  const { source, contentType } = settings;
  const form = formOf(contentType, request.headers.get("Accept"));
  if (request.method === "HEAD") {
    const headers = { ...FLEETING, "Content-Type": form.contentType, "Stream-Next-Offset": textOf(await endOfLog(source)) };
    return new Response(null, { headers });
  }
  if (request.method !== "GET") return failure(405, "The log is read with GET and HEAD.", { Allow: "GET, HEAD" });
  const asked = askedIn(request);
  const end = asked.offset === "now" ? await endOfLog(source) : undefined;
  const offset = asked.offset === "now" ? end : asked.offset;
  const chunk: Chunk | null = end ? { parts: [], next: end, isUpToDate: true } : await chunkAfter(source, offset, form);
  if (!chunk) return failure(410, "What follows this offset is not in the log any more: begin again at -1.");
  if (asked.live === "sse") return events(request, settings, form, chunk, asked);
  if (asked.live === "long-poll") return longPoll(request, settings, form, chunk, asked);
  return end ? page(form, chunk, FLEETING) : await cached(request, form, chunk, offset);
}

/** A page of the log, or 304 where the client has it. */
async function cached(request: Request, form: Form, chunk: Chunk, offset: Offset | undefined): Promise<Response> {
  const text = form.join(chunk.parts);
  const body = typeof text === "string" ? new TextEncoder().encode(text) : text;
  // Between the same two places the log may have other contents: its beginning is trimmed, and a deployment makes new versions of what it has.
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body), 0, 8);
  const variant = form.contentType.replace(/[^\w.+/-]/g, "");
  const tag = `"${offset ? textOf(offset) : -1}:${textOf(chunk.next)}:${chunk.isUpToDate ? "end:" : ""}${variant}:${btoa(String.fromCharCode(...digest))}"`;
  const headers = { ...CHECKED, ETag: tag };
  const known = (request.headers.get("If-None-Match") ?? "").split(",").map((each) => each.trim().replace(/^W\//, ""));
  if (!known.includes(tag) && !known.includes("*")) return page(form, chunk, headers, body);
  return new Response(null, { status: 304, headers: { ...headers, ...placeOf(chunk) } });
}

async function longPoll(request: Request, settings: Settings, form: Form, chunk: Chunk, { cursor }: Asked): Promise<Response> {
  const { source, longPollMs } = settings;
  let found: Chunk | null = chunk;
  if (chunk.parts.length === 0) {
    const { signal, end } = limitOf(request, longPollMs);
    if (await arrives(source, chunk.next.position, signal)) found = await chunkAfter(source, chunk.next, form);
    end();
  }
  if (!found) return failure(410, "What follows this offset is not in the log any more: begin again at -1.");
  const headers = { "Stream-Cursor": cursorAfter(cursor, CLOCK.now(), CLOCK.random()) };
  if (found.parts.length > 0) return page(form, found, { ...CHECKED, ...headers });
  return new Response(null, { status: 204, headers: { ...FLEETING, ...headers, ...placeOf(found) } });
}

function events(request: Request, { source, sseMs }: Settings, form: Form, chunk: Chunk, { cursor }: Asked): Response {
  const { signal, end } = limitOf(request, sseMs);
  const headers = {
    ...HEADERS,
    "Cache-Control": "no-cache",
    "Content-Type": "text/event-stream",
    ...(form.isBinary && { "Stream-SSE-Data-Encoding": "base64" }),
  };
  return new Response(eventStream(source, form, chunk, cursors(cursor), signal, end), { headers });
}

/** A signal that is aborted after a time, when the client has gone, and by `end`. */
function limitOf(request: Request, ms: number): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const end = (): void => {
    cancel();
    request.signal?.removeEventListener("abort", end);
    controller.abort();
  };
  const cancel = CLOCK.after(ms, end);
  request.signal?.addEventListener("abort", end);
  return { signal: controller.signal, end };
}

function page(form: Form, chunk: Chunk, headers: Record<string, string>, body = form.join(chunk.parts)): Response {
  return new Response(body, { headers: { ...headers, "Content-Type": form.contentType, ...placeOf(chunk) } });
}

function placeOf({ next, isUpToDate }: Chunk): Record<string, string> {
  return { "Stream-Next-Offset": textOf(next), ...(isUpToDate && { "Stream-Up-To-Date": "true" }) };
}

function refusal(request: Request): Response {
  if (request.headers.has("Authorization")) return failure(403, "You may not read this log.");
  return failure(401, "Only for those who may read this log.", { "WWW-Authenticate": "Bearer" });
}

function failure(status: number, text: string, headers: Record<string, string> = {}): Response {
  return new Response(text, { status, headers: { ...FLEETING, ...headers } });
}
