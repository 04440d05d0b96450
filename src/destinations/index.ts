/** The public names of `do-transactional-outbox/destinations`. */

export { byType, type Routes } from "./by-type.js";
export type { Destination } from "./destination.js";
export { type DurableObjectOptions, toDurableObject } from "./durable-object.js";
export type { HasInbox, InboxNamespace, InboxObject, InboxResult, MessagesTo } from "./namespace.js";
export type { WebhookAuthorization, WebhookHeaders } from "./own-headers.js";
export { type QueueOptions, toQueue } from "./queue.js";
export type { WebhookSecret } from "./signature.js";
export type { StatusOutcome, StatusOutcomes } from "./status.js";
export { toWebhook, type WebhookOptions } from "./webhook.js";
