/** The destination that is an HTTP endpoint: posts CloudEvents, signed as Standard Webhooks. */

import { expected, textOf, told } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";
import { within } from "../api/within.js";
import { CLOCK } from "./clock.js";
import { cloudEvent } from "./cloud-event.js";
import { checkDelivery, type Destination, limiter, waitFor } from "./destination.js";
import { authorizeBy, headersFor, type WebhookAuthorization, type WebhookHeaders } from "./own-headers.js";
import { endpoint, isOfOneUrl, type Post, type Posting, settle, type Trouble } from "./post.js";
import { keysOf, signer, type WebhookSecret } from "./signature.js";
import { type StatusOutcomes, statusesOf } from "./status.js";
import { type TargetGroup, targetsOf } from "./targets.js";
import { type Urls, urlsOf } from "./urls.js";

/** Options of `toWebhook`. Only `secret` is required. */
export interface WebhookOptions<M = unknown> {
  /**
   * The secret with which requests are signed. Several while they are being rotated: each adds a signature. While one is missing, because the
   * environment has no such variable, nothing is posted: messages wait as for a failing endpoint.
   */
  secret: WebhookSecret | readonly WebhookSecret[];
  /**
   * `"single"` (default): one request per message, `application/cloudevents+json`. `"batch"`: one for all messages of
   * the call that go to the same URL, in order, `application/cloudevents-batch+json`.
   */
  mode?: "single" | "batch";
  /** How many requests are in flight at a time. Default 6, from 1 to 100. With more than 1, only messages with one ordering key arrive in order. */
  concurrency?: number;
  /**
   * How long one request may take, in seconds. Default 10, from 0.001 to 600. Keep it below the wrapper's `timeoutSeconds`, which applies to the
   * whole call.
   */
  timeoutSeconds?: number;
  /**
   * The request's `authorization` header, or a function that returns it, which may be async and is called for each request with its URL. While it throws,
   * or returns no string, the endpoint counts as failing and messages wait. No error or event shows what it returns or throws.
   */
  authorization?: WebhookAuthorization;
  /**
   * Further headers of each request, or a function that returns those for a message (not with `mode: "batch"`). Headers that the webhook itself sets
   * (`content-type`, `authorization`, `webhook-*`) are a TypeError. A message for which it throws, or returns headers that HTTP does not allow, becomes
   * a dead letter.
   */
  headers?: WebhookHeaders<M>;
  /**
   * What a response status means, over the defaults: `{ 409: "ack" }` for an endpoint that answers 409 to an event that it already has. From 200
   * to 599. `"throw"`: the endpoint is failing. `"pause"`: it is, and delivery is paused until `resume()`.
   */
  statuses?: StatusOutcomes;
  /** The events' `source`, a URI reference. Default: `/durable-objects/<object id>/<epoch>`. */
  source?: string;
  /** The events' `type` if `msg.type` is not a string. Default `"message"`. */
  type?: string;
}

/**
 * Posts messages to an HTTP endpoint. 2xx is delivered. 408 and 425 are retried. 401, 403, 404, 429, 5xx, a redirect and no answer
 * within `timeoutSeconds` mean that the endpoint is failing: no further request starts, and an error is thrown, with `retryAfterSeconds` if the answer
 * had a `Retry-After`. 410 pauses delivery until `resume()`: the endpoint is gone. Every other 4xx makes a dead letter; in a batch of several, its halves
 * are posted again, until the bad message is alone. `statuses` changes that. Redirects are not followed.
 *
 * @param url http or https, without user name and password; or a function that returns one for each message. Then each origin, and each URL,
 * fails independently, and 410 pauses only its URL: see docs/destinations.md.
 * @throws TypeError when an argument is wrong. No error, reason or event contains any part of a secret, a path or a query.
 *
 * @example
 * class Orders extends DurableObject<Env> {
 *   sendMessages = toWebhook("https://example.com/hooks/orders", { secret: this.env.WEBHOOK_SECRET });
 * }
 */
export function toWebhook<M = unknown>(
  url: string | URL | ((message: OutboxMessage<M>) => string | URL),
  options: WebhookOptions<NoInfer<M>>,
): Destination<M> {
  const fixed = typeof url === "function" ? null : endpoint(url);
  const {
    secret,
    mode = "single",
    concurrency,
    timeoutSeconds,
    authorization,
    headers,
    statuses,
    source,
    type,
  } = known("options", options, OPTIONS);
  const keys = keysOf("options.secret", secret);
  if (mode !== "single" && mode !== "batch") throw expected("options.mode", '"single" or "batch"', mode);
  const batch = mode === "batch";
  const limit = within("options.concurrency", concurrency, [6, 1, 100, 1]);
  const seconds = within("options.timeoutSeconds", timeoutSeconds, [10, 0.001, 600]);
  const ownHeaders = headersFor<M>(headers, batch);
  const common = { batch, authorize: authorizeBy(authorization), outcomeOf: statusesOf(statuses) };
  const targets = fixed ? null : targetsOf(limit, seconds);
  const urls = urlsOf();
  for (const [name, value] of Object.entries({ source, type })) {
    if (value !== undefined && !(typeof value === "string" && value)) throw expected(`options.${name}`, "a string", value);
  }

  /** The requests of a call, by origin. A message that can't be posted is rejected alone. */
  function posts(messages: OutboxMessage<M>[], delivery: OutboxDelivery): Map<string, readonly Post[]> {
    const origins = new Map<string, (Post & { events: Post["events"][number][] })[]>();
    for (const message of messages) {
      if (targets?.settleKnown(message, delivery)) continue;
      try {
        const target = typeof url === "function" ? endpoint(given(url, message)) : (fixed as URL);
        if (targets && isHeld(urls, target.href, [message], delivery)) continue;
        const event = { message, json: cloudEvent(message, source, type) };
        const headers = ownHeaders(message);
        const group = origins.get(target.origin) ?? [];
        origins.set(target.origin, group);
        const post = batch && group.find(({ url }) => url.href === target.href);
        if (post) post.events.push(event);
        else group.push({ url: target, headers, events: [event] });
      } catch (error) {
        delivery.reject(message.id, textOf(error));
      }
    }
    return origins;
  }

  async function send(messages: OutboxMessage<M>[], delivery: OutboxDelivery): Promise<void> {
    checkDelivery(delivery);
    if (!keys) throw new Error(told(NO_SECRET));
    const posting = { ...common, sign: await signer(keys) };
    const origins = posts(messages, delivery);
    if (targets)
      return await targets.send(
        Array.from(origins, ([target, posts]) => groupOf(target, posts, posting, urls)),
        delivery,
      );
    const turn = limiter(limit);
    for (const all of origins.values()) await sendAll(all, posting, delivery, seconds * 1000, turn);
  }

  // A batch to one place sets nothing aside.
  return batch && fixed ? Object.assign(send, { ordering: "batch" as const }) : send;
}

const OPTIONS = ["secret", "mode", "concurrency", "timeoutSeconds", "authorization", "headers", "statuses", "source", "type"] as const;

/** The messages wait until it is there. */
const NO_SECRET = "toWebhook() has no secret: options.secret is missing. Is the secret set for this environment (`wrangler secret put`)?";

/** Whether a URL is failing on its own. Then its messages wait for it. */
function isHeld(urls: Urls, href: string, messages: readonly OutboxMessage[], delivery: OutboxDelivery): boolean {
  const held = urls.held(href);
  if (held) for (const message of messages) waitFor(message, delivery, held.error, held.seconds);
  return held !== null;
}

function groupOf(target: string, posts: readonly Post[], posting: Omit<Posting, "delivery">, urls: Urls): TargetGroup {
  const requests = posts.map((post) => {
    const messages = post.events.map(({ message }) => message);
    const { href } = post.url;
    const send = async (delivery: OutboxDelivery): Promise<void> => {
      if (isHeld(urls, href, messages, delivery)) return;
      const trouble = await settle(post, { ...posting, delivery });
      if (!trouble) urls.well(href);
      else if (!isOfOneUrl(trouble)) throw trouble;
      else {
        urls.failed(href, trouble);
        isHeld(urls, href, messages, delivery);
      }
    };
    return { messages, send };
  });
  return { target, requests, inOrder: false };
}

/** Posts to one endpoint until it fails, and throws the most informative error: the one that asks for the longest wait. */
async function sendAll(
  posts: readonly Post[],
  posting: Omit<Posting, "delivery">,
  delivery: OutboxDelivery,
  timeoutMs: number,
  turn: (task: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const troubles: Trouble[] = [];
  const one = async (post: Post): Promise<void> => {
    if (troubles.length > 0) return;
    const late = new AbortController();
    // Cancelled with the answer: an isolate may have 10,000 timers, and `AbortSignal.timeout` keeps its own to the end.
    const cancel = CLOCK.after(timeoutMs, () => late.abort(new DOMException("The request took too long.", "TimeoutError")));
    const signal = AbortSignal.any([delivery.signal, late.signal]);
    const trouble = await settle(post, { ...posting, delivery: { ...delivery, signal } }).finally(cancel);
    if (trouble) troubles.push(trouble);
  };
  await Promise.all(posts.map((post) => turn(() => one(post))));
  troubles.sort((a, b) => (b.retryAfterSeconds ?? 0) - (a.retryAfterSeconds ?? 0));
  if (troubles[0]) throw troubles[0];
}

/** What `url` returns for a message. What it throws is not shown, because it may contain the URL. */
function given<M>(url: (message: OutboxMessage<M>) => unknown, message: OutboxMessage<M>): unknown {
  try {
    return url(message);
  } catch {
    throw new Error("`url` threw for this message.");
  }
}
