/** What stands around the fragments of the documentation when they are compiled: `<!-- compiled in a class -->` before a block names one of these. */

const IMPORTS = `
import { DurableObject } from "cloudflare:workers";
import { type OutboxDeadLetter, type OutboxDelivery, OutboxError, type OutboxManager, type OutboxMessage, type OutboxOptions, type OutboxTransaction, withTransactionalOutbox } from "do-transactional-outbox";
import { byType, type Destination, toDurableObject, toQueue, toWebhook } from "do-transactional-outbox/destinations";
import { consumeQueue, type InboxManager, type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";
`;

/** The messages of the fragments. */
const MESSAGES = `
type OrderMessage =
  | { type: "order_created"; order: string; item: string; quantity: number }
  | { type: "order_paid"; order: string; account: string };
`;

export interface Prelude {
  readonly before: string;
  readonly after: string;
}

export const PRELUDES: Readonly<Record<string, Prelude>> = {
  "a class": {
    before: `${IMPORTS}${MESSAGES}
export class Fragment extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<OrderMessage> }> {
`,
    after: "}\n",
  },
  "the options of the wrapper": {
    before: `${IMPORTS}
declare const alerts: { send(text: string): void };
export const options: OutboxOptions = {
`,
    after: "};\n",
  },
  "a method": {
    before: `${IMPORTS}
export class Fragment extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager; INBOX_MANAGER: InboxManager }> {
  async method(id: string, item: string, amount: number): Promise<void> {
`,
    after: "  }\n}\n",
  },
};
