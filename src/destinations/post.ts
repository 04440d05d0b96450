/** One request to a webhook's endpoint, and what its answer says of the messages in it. */

import { expected, told } from "../errors.js";
import type { OutboxDelivery, OutboxMessage } from "../message.js";
import { retryLater } from "./destination.js";
import { batchId, HIDDEN, headerId, type Sign } from "./signature.js";

/** A request: one event, or several in a batch. */
export interface Post {
  readonly url: URL;
  readonly events: readonly { readonly message: OutboxMessage; readonly json: string }[];
}

/** What the requests of one call have in common. */
export interface Posting {
  readonly batch: boolean;
  readonly sign: Sign;
  readonly delivery: OutboxDelivery;
}

/** The endpoint is in trouble, no message is. With `retryAfterSeconds` the outbox waits at least so long. */
export type Trouble = Error & { retryAfterSeconds?: number };

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

/** Posts, and gives each message its outcome. Resolves to what is wrong with the endpoint, and then gives none. Never rejects. */
export async function settle(post: Post, posting: Posting): Promise<Trouble | null> {
  const { events, url } = post;
  const { batch, delivery } = posting;
  let response: Response;
  try {
    response = await fetch(url.href, await requestOf(post, posting));
  } catch (error) {
    return trouble(url, delivery.signal.aborted ? "did not answer before the timeout" : `did not answer${reasonOf(error)}`);
  }
  const { status } = response;
  const asked = secondsOf(response.headers.get("retry-after"));
  // What it says is of no interest, and may be without end.
  response.body?.cancel().catch(() => {});
  if (status >= 200 && status < 300) {
    for (const { message } of events) delivery.ack(message.id);
    return null;
  }
  const [first, second] = events;
  if (!batch && first && (status === 408 || status === 425)) {
    retryLater(first.message, delivery, asked);
    return null;
  }
  if (status < 400 || status >= 500 || status === 408 || status === 425 || status === 429) {
    const redirect = status >= 300 && status < 400 ? ", and redirects are not followed" : "";
    return trouble(url, `answered HTTP ${status}${redirect}`, asked);
  }
  if (first && !second) {
    delivery.reject(first.message.id, `HTTP ${status}`);
    return null;
  }
  // One event, or their number, is not to the endpoint's liking: halves find out.
  const half = Math.ceil(events.length / 2);
  return (await settle({ url, events: events.slice(0, half) }, posting)) ?? (await settle({ url, events: events.slice(half) }, posting));
}

async function requestOf({ events }: Post, { batch, sign, delivery }: Posting): Promise<RequestInit> {
  const texts = events.map(({ json }) => json);
  const ids = events.map(({ message }) => message.id);
  const body = batch ? `[${texts.join(",")}]` : (texts[0] ?? "");
  const id = batch ? await batchId(ids) : headerId(ids[0] ?? "");
  const timestamp = Math.floor(Date.now() / 1000);
  const headers = {
    "content-type": `application/cloudevents${batch ? "-batch" : ""}+json; charset=utf-8`,
    "webhook-id": id,
    "webhook-timestamp": String(timestamp),
    "webhook-signature": await sign(id, timestamp, body),
  };
  return { method: "POST", headers, body, redirect: "manual", signal: delivery.signal };
}

/** Tells the origin only: a path can be as secret as a query. */
function trouble({ origin }: URL, what: string, retryAfterSeconds?: number): Trouble {
  return Object.assign(new Error(told(`${origin} ${what}.`)), retryAfterSeconds !== undefined && { retryAfterSeconds });
}

/** What the runtime says of a failure, where it surely is no part of a URL or of a header. */
function reasonOf(error: unknown): string {
  const text = String((error as Error | null | undefined)?.message ?? "").replace(/\.$/, "");
  return /^[\w ,;=-]{1,120}$/.test(text) ? `: ${text}` : "";
}

/** A `Retry-After`, in seconds: a number, or a date from which it is counted. */
function secondsOf(header: string | null): number | undefined {
  if (header === null) return undefined;
  if (/^\d+$/.test(header)) return Number(header);
  // Every form of an HTTP date begins with the day's name; `Date.parse` takes more than that.
  const time = /^[A-Z][a-z]/.test(header) ? Date.parse(header) : Number.NaN;
  return Number.isNaN(time) ? undefined : Math.max(0, (time - Date.now()) / 1000);
}
