/** What an aggregate is: the functions that say how it behaves, its options, and what it offers. */

import type { OutboxPutOptions } from "../api/put-options.js";
import type { OutboxManager, OutboxTransaction } from "../manager.js";
import type { OutboxLogPage, OutboxReadOptions } from "../operate/log.js";

/** How an aggregate behaves: three pure functions, in the shape of Emmett's `Decider`. None of them may be async. */
export interface Decider<State, Command, Event> {
  /** What has happened because of the command: an event, several, or none (`[]`). Throws an error of your own to refuse it: then nothing is written. */
  decide(command: Command, state: State): Event | readonly Event[];
  /** The state after an event. It may change the state it was given, which nothing else has. */
  evolve(state: State, event: Event): State;
  /** The state before the first event. */
  initialState(): State;
}

/** What `aggregate` needs of the object's manager, which has a log that is kept (`retain`). */
export interface EventLog<Event> {
  read(options?: OutboxReadOptions): Promise<OutboxLogPage<unknown>>;
  transaction: OutboxManager<Event>["transaction"];
}

/** Options of an event's message. Without `id` and `replace`, since each event that was decided is stored, and `expectedSequence`, which is set. */
export type AggregateMessageOptions = Omit<OutboxPutOptions, "id" | "replace" | "expectedSequence">;

export interface AggregateOptions<Event> {
  /** The types of its events, if the object sends other messages as well: those are not its events. Default: every message in the log is one. */
  types?: readonly string[];
  /** A snapshot is stored once this many messages have been put since the last. Default 100, from 1; `Infinity`: never. */
  snapshotEvery?: number;
  /** The key of the snapshot, in the object's own storage. Default `"snapshot"`. */
  snapshotKey?: string;
  /** Change it together with `evolve` or the shape of the state: a snapshot with another number is not used, and the state is folded anew. Default 1. */
  snapshotVersion?: number;
  /** How often a command is decided at most, when others write between reading and writing. Default 5, from 1 to 100. */
  maxAttempts?: number;
  /** The options with which an event is sent: its ordering key or headers, say. */
  messageOptions?(event: Event): AggregateMessageOptions;
}

/** The state of an aggregate at a moment. */
export interface AggregateState<State> {
  readonly state: State;
  /** Whether it has had an event: false is an aggregate that does not exist yet. */
  readonly exists: boolean;
  /** How many events it has had. */
  readonly version: number;
  /** The position of the last message in the log that is taken into account. */
  readonly position: number;
}

export interface HandledCommand<State, Event> extends AggregateState<State> {
  /** The events of this command, as they are stored. */
  readonly events: readonly Event[];
}

export interface HandleOptions<Event> {
  /** A transaction to take part in, as that of `receiveMessage`. Then a conflict is not retried: let the transaction fail. */
  txn?: OutboxTransaction<Event>;
}

export interface Aggregate<State, Command, Event> {
  /**
   * The current state, read from the snapshot and the events after it.
   *
   * @param txn where to find the snapshot: the transaction that is open, or `ctx.storage` to read without one. Default: a transaction of its own
   */
  load(txn?: Pick<OutboxTransaction<Event>, "get">): Promise<AggregateState<State>>;
  /**
   * Decides a command, or several in order as if they were one, and stores all events, and a snapshot if one is due, in one commit.
   *
   * @throws what `decide` throws; OutboxError `sequence_conflict` after `maxAttempts`, `history_trimmed`, and whatever `send` rejects with. In each case
   * nothing was written.
   */
  handle(command: Command | readonly Command[], options?: HandleOptions<Event>): Promise<HandledCommand<State, Event>>;
  /**
   * Stores a snapshot now, whatever `snapshotEvery` says. What is before its `position` is then not needed any more, and may be trimmed.
   *
   * @param begin takes the place of all that has been so far: for an object that had a state before it had events, or that has lost events
   */
  snapshot(begin?: Pick<AggregateState<State>, "state" | "version">): Promise<AggregateState<State>>;
}
