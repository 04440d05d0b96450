/** One request to a webhook's endpoint, and what its answer means for the messages in it. */

import { expected, told } from "../api/errors.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";
import { isOutOfSubrequests } from "../api/verdict.js";
import { retryLater } from "./destination.js";
import type { Authorize, HeaderValues } from "./own-headers.js";
import { batchId, HIDDEN, headerId, type Sign } from "./signature.js";
import type { StatusOutcome } from "./status.js";

/** A request: one event, or several in a batch. */
export interface Post {
  readonly url: URL;
  readonly events: readonly { readonly message: OutboxMessage; readonly json: string }[];
  /** Headers of the user's own. */
  readonly headers: HeaderValues;
}

/** What the requests of one call have in common. */
export interface Posting {
  readonly batch: boolean;
  readonly sign: Sign;
  readonly authorize: Authorize;
  readonly outcomeOf: (status: number) => StatusOutcome;
  readonly delivery: OutboxDelivery;
}

/** The endpoint is failing, not a message. With `retryAfterSeconds` the outbox waits at least that long, with `pause` until `resume()`. */
export type Trouble = Error & { readonly retryAfterSeconds?: number; readonly pause?: true };

/** Failures of one URL that do not affect others of its origin: the answer concerns its path, or its credentials. */
const ofOneUrl = new WeakSet<Trouble>();

/** Whether only the URL is failing, and not everything of its origin. */
export function isOfOneUrl(trouble: Trouble): boolean {
  return ofOneUrl.has(trouble);
}

/** Where to post. @throws TypeError that shows nothing of it. */
export function endpoint(given: unknown): URL {
  let url: URL;
  try {
    url = new URL(String(given));
  } catch {
    throw expected("url", "an absolute http or https URL", typeof given === "string" ? HIDDEN : given);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") throw expected("url", "an absolute http or https URL", url.protocol);
  if (url.username || url.password) throw expected("url", "a URL without user name and password", HIDDEN);
  return url;
}

/** Posts, and gives each message its outcome. Resolves to the endpoint's failure, if any; then it gives no outcomes. Never rejects. */
export async function settle(post: Post, posting: Posting): Promise<Trouble | null> {
  const { events, url } = post;
  const { batch, delivery } = posting;
  const { value, wrong } = await posting.authorize(url, delivery.signal);
  if (wrong) return trouble(url, `was not asked, because ${wrong}`);
  let response: Response;
  try {
    response = await fetch(url.href, await requestOf(post, posting, value));
  } catch (error) {
    return trouble(url, delivery.signal.aborted ? "did not answer before the timeout" : `did not answer${reasonOf(error)}`);
  }
  const { status } = response;
  const asked = secondsOf(response.headers.get("retry-after"));
  // The body does not matter, and may be endless.
  response.body?.cancel().catch(() => {});
  const outcome = posting.outcomeOf(status);
  if (outcome === "ack") {
    for (const { message } of events) delivery.ack(message.id);
    return null;
  }
  const [first, second] = events;
  if (outcome === "retry" && !batch && first) {
    retryLater(first.message, delivery, `HTTP ${status}`, asked);
    return null;
  }
  if (outcome !== "reject") {
    const redirect = status >= 300 && status < 400 ? ", and redirects are not followed" : "";
    const failed = trouble(url, `answered HTTP ${status}${redirect}`, asked, outcome === "pause");
    if (status === TOO_MANY) Object.assign(failed, { throttled: true });
    if (status >= 400 && status < 500 && !BUSY.has(status)) ofOneUrl.add(failed);
    return failed;
  }
  if (first && !second) {
    delivery.reject(first.message.id, `HTTP ${status}`);
    return null;
  }
  // The endpoint rejects one event, or their number: halving finds out which.
  const half = Math.ceil(events.length / 2);
  const settleHalf = (events: Post["events"]) => settle({ ...post, events }, posting);
  return (await settleHalf(events.slice(0, half))) ?? (await settleHalf(events.slice(half)));
}

/** The endpoint works, and is asked too often. */
const TOO_MANY = 429;
/** The origin accepts nothing at the moment, whatever the path. */
const BUSY: ReadonlySet<number> = new Set([408, 425, 429]);

async function requestOf(
  { events, headers: own }: Post,
  { batch, sign, delivery }: Posting,
  authorization: string | undefined,
): Promise<RequestInit> {
  const texts = events.map(({ json }) => json);
  const ids = events.map(({ message }) => message.id);
  const body = batch ? `[${texts.join(",")}]` : (texts[0] ?? "");
  const id = batch ? await batchId(ids) : headerId(ids[0] ?? "");
  const timestamp = Math.floor(Date.now() / 1000);
  const headers = {
    ...own,
    ...(authorization !== undefined && { authorization }),
    "content-type": `application/cloudevents${batch ? "-batch" : ""}+json; charset=utf-8`,
    "webhook-id": id,
    "webhook-timestamp": String(timestamp),
    "webhook-signature": await sign(id, timestamp, body),
  };
  return { method: "POST", headers, body, redirect: "manual", signal: delivery.signal };
}

/** Names only the origin: a path can be as secret as a query. */
function trouble({ origin }: URL, what: string, retryAfterSeconds?: number, pause = false): Trouble {
  const more = { ...(retryAfterSeconds !== undefined && { retryAfterSeconds }), ...(pause && { pause }) };
  return Object.assign(new Error(told(`${origin} ${what}.`)), more) as Trouble;
}

/** The runtime's reason for a failure, if it certainly contains no part of a URL or of a header. */
function reasonOf(error: unknown): string {
  if (isOutOfSubrequests(error)) return ": Too many subrequests";
  const text = String((error as Error | null | undefined)?.message ?? "").replace(/\.$/, "");
  return /^[\w ,;=-]{1,120}$/.test(text) ? `: ${text}` : "";
}

/** A `Retry-After`, in seconds: a number, or a date from which it is counted. */
function secondsOf(header: string | null): number | undefined {
  if (header === null) return undefined;
  if (/^\d+$/.test(header)) return Number(header);
  // Every form of an HTTP date begins with the name of the day; `Date.parse` accepts more than that.
  const time = /^[A-Z][a-z]/.test(header) ? Date.parse(header) : Number.NaN;
  return Number.isNaN(time) ? undefined : Math.max(0, (time - Date.now()) / 1000);
}
