/** The public names of the package. */

export { OutboxError, type OutboxErrorCode } from "./errors.js";
export type { OutboxEvent } from "./events.js";
export type { OutboxListOptions, OutboxManager, OutboxPutOptions, OutboxStats } from "./manager.js";
export type { OutboxDelivery, OutboxMessage, OutboxProcessor, OutboxReceipt } from "./message.js";
export type { OutboxOptions } from "./options.js";
export type { TOB_DurableObject, TOB_Env } from "./original.js";
export type { RetryOptions } from "./retry.js";
export { type OutboxClass, type SendsWhatIsPut, withTransactionalOutbox } from "./wrapper.js";
