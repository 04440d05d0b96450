/** The public names of the package. */

export type { OutboxDestination, OutboxDestinations, OutboxHandler, OutboxPulled } from "./api/destinations.js";
export { OutboxError, type OutboxErrorCode } from "./api/errors.js";
export type { DeadReason, OutboxEvent } from "./api/events.js";
export type { DeadLetterOptions } from "./api/letter-limits.js";
export type {
  OutboxDeadLetter,
  OutboxDelivery,
  OutboxListed,
  OutboxMessage,
  OutboxProcessor,
  OutboxReceipt,
  OutboxRetryOptions,
} from "./api/message.js";
export type { MessageInputsOf, MessageIssue, MessageSchemas, MessagesOf, VersionedSchema } from "./api/messages.js";
export type { OutboxOptions } from "./api/options.js";
export type { OutboxPutOptions } from "./api/put-options.js";
export type { OutboxRetain } from "./api/retain.js";
export type { RetryOptions } from "./api/retry.js";
export type { ValidMessage } from "./api/schemas.js";
export type { SchemaIssue, SchemaResult, StandardSchema } from "./api/standard-schema.js";
export type { TOB_DurableObject, TOB_Env } from "./compat/original.js";
export type {
  OutboxDeadMessageHandler,
  OutboxManager,
  OutboxManagerOf,
  OutboxTransaction,
  OutboxTransactionSync,
  Synchronous,
} from "./manager.js";
export type { OutboxListOptions } from "./operate/list.js";
export type { OutboxLogMessage, OutboxLogPage, OutboxReadOptions, OutboxTailOptions, OutboxTrimOptions } from "./operate/log.js";
export type { DestinationOption } from "./operate/operations.js";
export type { OutboxOutcomes, OutboxReceived, OutboxReceiveOptions } from "./operate/pull.js";
export type { OutboxRewindOptions } from "./operate/rewind.js";
export type { OutboxDestinationStats, OutboxStats } from "./operate/stats.js";
export {
  type DescribesMessages,
  type OutboxBinding,
  type OutboxClass,
  type SendsWhatIsPut,
  type WithOutbox,
  withTransactionalOutbox,
} from "./wrap.js";
