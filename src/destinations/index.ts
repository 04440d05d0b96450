/** The public names of `do-transactional-outbox/destinations`. */

export { byType, type Routes } from "./by-type.js";
export type { Destination } from "./destination.js";
export { type DurableObjectOptions, type InboxNamespace, type InboxResult, toDurableObject } from "./durable-object.js";
export { type QueueOptions, toQueue } from "./queue.js";
export type { WebhookSecret } from "./signature.js";
export { toWebhook, type WebhookOptions } from "./webhook.js";
