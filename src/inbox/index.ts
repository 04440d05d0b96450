/** The public names of the inbox. */

export { envelopeOf, type OutboxEnvelope, readEnvelope } from "../api/envelope.js";
export { type ConsumeFailure, type ConsumeOptions, consumeQueue, type InboxStub, type MessageIn } from "./consume.js";
export {
  type DescribesReceived,
  type InboxBinding,
  type InboxClass,
  type InboxOutcome,
  type InboxReceiver,
  type ReceivesEnvelopes,
  type WithInbox,
  withTransactionalInbox,
} from "./inbox.js";
export type { InboxHandler, InboxHandlerSync, InboxManager, InboxReceipt } from "./manager.js";
export type { InboxEvent, InboxOptions } from "./options.js";
