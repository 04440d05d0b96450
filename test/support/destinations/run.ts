/** What a test asks the worker for: one call of one destination. */

import type { OutboxMessage } from "../../../src/api/message.ts";
import type { WebhookOptions } from "../../../src/destinations/webhook.ts";

export interface Run {
  readonly messages: OutboxMessage[];
  /** With `own`, each message's text is its URL. */
  readonly webhook?: { readonly url: string; readonly options: WebhookOptions; readonly own?: boolean };
  readonly queue?: { readonly contentType?: "json" | "v8" | "text" };
  readonly inbox?: true;
  readonly timeoutMs?: number;
}
