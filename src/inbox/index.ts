/** The public names of the inbox. */

export { envelopeOf, type OutboxEnvelope, readEnvelope } from "../envelope.js";
export { type ConsumeOptions, consumeQueue, type InboxStub } from "./consume.js";
export { type InboxClass, type InboxOutcome, type InboxReceiver, type WithInbox, withTransactionalInbox } from "./inbox.js";
export type { InboxHandler, InboxHandlerSync, InboxManager, InboxReceipt } from "./manager.js";
export type { InboxEvent, InboxOptions } from "./options.js";
