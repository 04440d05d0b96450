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
export {
  type Appended,
  type EmmettEvent,
  type EmmettStore,
  type EventStream,
  emmettEventStore,
  eventStream,
  type StreamPage,
} from "./emmett.js";
