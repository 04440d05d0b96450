/** The public names of the package. */

export { OutboxError, type OutboxErrorCode } from "./errors.js";
export type { DeadReason, OutboxEvent } from "./events.js";
export type { OutboxManager, OutboxStats, OutboxTransaction, OutboxTransactionSync } from "./manager.js";
export type { OutboxDeadLetter, OutboxDelivery, OutboxListed, OutboxMessage, OutboxProcessor, OutboxReceipt } from "./message.js";
export type { OutboxListOptions } from "./operations.js";
export type { OutboxOptions } from "./options.js";
export type { TOB_DurableObject, TOB_Env } from "./original.js";
export type { OutboxPutOptions } from "./put-options.js";
export type { RetryOptions } from "./retry.js";
export { type OutboxClass, type SendsWhatIsPut, withTransactionalOutbox } from "./wrapper.js";
