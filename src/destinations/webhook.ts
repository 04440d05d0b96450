/** The destination that is an HTTP endpoint: posts CloudEvents, signed as Standard Webhooks. */

import { textOf } from "../call.js";
import { expected } from "../errors.js";
import type { OutboxDelivery, OutboxMessage } from "../message.js";
import { within } from "../options.js";
import { cloudEvent } from "./cloud-event.js";
import { checkDelivery, type Destination, known, limiter, settleGroups } from "./destination.js";
import { endpoint, type Post, type Posting, settle, type Trouble } from "./post.js";
import { keysOf, signer, type WebhookSecret } from "./signature.js";

/** Options of `toWebhook`. Only `secret` is required. */
export interface WebhookOptions {
  /** The secret with which requests are signed. Several, while they are rotated: each gives a signature of its own. */
  secret: WebhookSecret | readonly WebhookSecret[];
  /**
   * `"single"` (default): a request for each message, `application/cloudevents+json`. `"batch"`: one for all messages of
   * the call that go to the same URL, in order, `application/cloudevents-batch+json`.
   */
  mode?: "single" | "batch";
  /** How many requests are under way at a time. Default 6, from 1 to 100. With more than 1 they may arrive in another order, but for those of one ordering key. */
  concurrency?: number;
  /** The events' `source`, a URI reference. Default: `/durable-objects/<object id>/<epoch>`. */
  source?: string;
  /** The events' `type`, where `msg.type` is no text. Default `"message"`. */
  type?: string;
}

/**
 * Posts messages to an HTTP endpoint. 2xx is delivered. 408 and 425 are retried. 429, 5xx, a redirect and no answer at
 * all tell of the endpoint: no further request is begun, and an error is thrown, with `retryAfterSeconds` where the
 * answer had a `Retry-After`. Every other 4xx makes a dead letter; in a batch of several, its halves are posted again,
 * until the message stands alone. Redirects are not followed.
 *
 * @param url http or https, without user name and password; or a function that gives one for each message. Messages to
 * several origins fail by origin: see docs/destinations.md.
 * @throws TypeError when an argument is wrong. No error, reason or event has any text of a secret or of a path or query.
 *
 * @example
 * class Orders extends DurableObject<Env> {
 *   sendMessages = toWebhook("https://example.com/hooks/orders", { secret: this.env.WEBHOOK_SECRET });
 * }
 */
export function toWebhook<M = unknown>(
  url: string | URL | ((message: OutboxMessage<M>) => string | URL),
  options: WebhookOptions,
): Destination<M> {
  const fixed = typeof url === "function" ? null : endpoint(url);
  const { secret, mode = "single", concurrency, source, type } = known(options, "secret", "mode", "concurrency", "source", "type");
  const keys = keysOf("options.secret", secret);
  if (mode !== "single" && mode !== "batch") throw expected("options.mode", '"single" or "batch"', mode);
  const batch = mode === "batch";
  const limit = within("options.concurrency", concurrency, [6, 1, 100, 1]);
  for (const [name, value] of Object.entries({ source, type })) {
    if (value !== undefined && !(typeof value === "string" && value)) throw expected(`options.${name}`, "a text", value);
  }

  /** The requests of a call, by origin. A message that can't be posted is rejected alone. */
  function posts(messages: OutboxMessage<M>[], delivery: OutboxDelivery): Post[][] {
    const origins = new Map<string, { url: URL; events: Post["events"][number][] }[]>();
    for (const message of messages) {
      try {
        const target = typeof url === "function" ? endpoint(given(url, message)) : (fixed as URL);
        const event = { message, json: cloudEvent(message, source, type) };
        const group = origins.get(target.origin) ?? [];
        origins.set(target.origin, group);
        const post = batch && group.find(({ url }) => url.href === target.href);
        if (post) post.events.push(event);
        else group.push({ url: target, events: [event] });
      } catch (error) {
        delivery.reject(message.id, textOf(error));
      }
    }
    return [...origins.values()];
  }

  async function send(messages: OutboxMessage<M>[], delivery: OutboxDelivery): Promise<void> {
    checkDelivery(delivery);
    const posting = { batch, delivery, sign: await signer(keys) };
    const turn = limiter(limit);
    const groups = posts(messages, delivery).map((group) => ({
      messages: group.flatMap(({ events }) => events.map(({ message }) => message)),
      send: () => sendAll(group, posting, turn),
    }));
    await settleGroups(groups, delivery);
  }

  // A batch to one place sets nothing aside, so it declares one parameter and gets full batches; see `toQueue`.
  if (batch && fixed) return (messages, ...[delivery]) => send(messages, delivery);
  return (messages, delivery) => send(messages, delivery);
}

/** Posts to one origin until it is in trouble, and throws what tells most: the error that asks for the longest wait. */
async function sendAll(posts: readonly Post[], posting: Posting, turn: (task: () => Promise<void>) => Promise<void>): Promise<void> {
  const troubles: Trouble[] = [];
  const one = async (post: Post): Promise<void> => {
    const trouble = troubles.length === 0 ? await settle(post, posting) : null;
    if (trouble) troubles.push(trouble);
  };
  await Promise.all(posts.map((post) => turn(() => one(post))));
  troubles.sort((a, b) => (b.retryAfterSeconds ?? 0) - (a.retryAfterSeconds ?? 0));
  if (troubles[0]) throw troubles[0];
}

/** What `url` gives for a message. What it throws is not told: it may hold the URL. */
function given<M>(url: (message: OutboxMessage<M>) => unknown, message: OutboxMessage<M>): unknown {
  try {
    return url(message);
  } catch {
    throw new Error("`url` threw for this message.");
  }
}
