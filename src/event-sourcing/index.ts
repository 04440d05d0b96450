/** The public names of event sourcing. */

export { aggregate } from "./aggregate.js";
export type {
  Aggregate,
  AggregateMessageOptions,
  AggregateOptions,
  AggregateState,
  Decider,
  EventLog,
  HandledCommand,
  HandleOptions,
} from "./decider.js";
export { type EmmettEvent, type EmmettStore, type EventStream, emmettEventStore, eventStream } from "./emmett.js";
