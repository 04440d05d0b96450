/** Emmett's `EventStore` over objects: each stream is the log of one object. The interface is Emmett's, and nothing of it is imported. */

import { expected as mistake } from "../api/errors.js";
import { checkLog, endOf, retried, trimmed } from "./aggregate.js";
import type { EventLog } from "./decider.js";

/** An event as Emmett has them. */
export interface EmmettEvent {
  readonly type: string;
  readonly data: object;
  readonly metadata?: object;
  readonly kind?: "Event";
}

/** A page of a stream. */
export interface StreamPage {
  readonly events: readonly { readonly id: string; readonly position: number; readonly event: EmmettEvent }[];
  readonly next: number;
  readonly upToDate: boolean;
  /** The position of the stream's last event: 0 before the first. */
  readonly version: number;
}

/** What became of an append: `version` is the stream's afterwards. */
export interface Appended {
  readonly version: number;
  /** Set where the stream was not as expected. Nothing was written. */
  readonly conflict?: true;
}

/** One object's log as a stream: what a class passes on in RPC methods of these names. Every message in the log is an event. */
export interface EventStream {
  readEvents(from: number, limit: number): Promise<StreamPage>;
  appendEvents(events: readonly EmmettEvent[], expected?: bigint | string): Promise<Appended>;
}

/** The methods of Emmett's `EventStore`, without its types: name those as the type argument of `emmettEventStore`. */
export interface EmmettStore {
  readStream(
    streamName: string,
    options?: ReadOptions,
  ): Promise<{ currentStreamVersion: bigint; events: unknown[]; streamExists: boolean }>;
  aggregateStream<State>(
    streamName: string,
    options: { evolve(state: State, event: never): State; initialState(): State; read?: ReadOptions },
  ): Promise<{ currentStreamVersion: bigint; state: State; streamExists: boolean }>;
  appendToStream(
    streamName: string,
    events: readonly EmmettEvent[],
    options?: { expectedStreamVersion?: bigint | string; schema?: Schema },
  ): Promise<{ nextExpectedStreamVersion: bigint; createdNewStream: boolean }>;
  streamExists(streamName: string): Promise<boolean>;
}

/** `from` and `to` belong to what is read. */
interface ReadOptions {
  from?: bigint;
  to?: bigint;
  maxCount?: bigint;
  expectedStreamVersion?: bigint | string;
  schema?: Schema;
}

type Cast = (event: never) => { readonly data?: object; readonly metadata?: object };
interface Schema {
  versioning?: { upcast?: Cast; downcast?: Cast };
}

const PAGE = 1000;
const MOST_ATTEMPTS = 5;

/**
 * The log of one object as a stream of events, for its own class.
 *
 * @example
 * class CartBase extends DurableObject<Env> {
 *   destinations = {};
 *   readonly #stream = eventStream(this.env.OUTBOX_MANAGER);
 *   readEvents(...args: Parameters<EventStream["readEvents"]>) {
 *     return this.#stream.readEvents(...args);
 *   }
 *   // The same for appendEvents.
 * }
 */
export function eventStream(outbox: EventLog<EmmettEvent>): EventStream {
  checkLog(outbox);
  return {
    async readEvents(from, limit) {
      // Before the page: a version that is ahead of what was read would let an append pass that was decided on less.
      const { position: version } = await endOf(outbox);
      const { messages, next, upToDate, earliest } = await outbox.read({ from: Math.max(1, from), limit });
      if (earliest > Math.max(1, from) && from <= version) throw trimmed(from, earliest);
      const events = messages.map(({ id, position, msg }) => ({ id, position, event: msg as EmmettEvent }));
      return { events, next, upToDate, version };
    },
    appendEvents: (events, expected) =>
      retried(MOST_ATTEMPTS, () =>
        outbox.transaction(async (txn) => {
          const { position: version, sequence } = await endOf(outbox);
          if (!isAsExpected(version, expected)) return { version, conflict: true };
          for (const [n, event] of events.entries()) await txn.send(event, { expectedSequence: sequence + n });
          return { version: version + events.length };
        }),
      ),
  };
}

/**
 * Emmett's event store, for its `CommandHandler` and `DeciderCommandHandler`. An append is one commit. A conflict is an error that Emmett recognises, and
 * retries where it is told to. What is not in the interface is left out: no global position, no hooks, no list of streams.
 *
 * @param streamOf the object that has a stream: its stub, or within the object itself what `eventStream` returned
 *
 * @example
 * const store = emmettEventStore<EventStore>((streamName) => env.CARTS.getByName(streamName));
 * await handleCommand(store, cartId, (state) => addItem(state, item));
 */
export function emmettEventStore<Store = EmmettStore>(
  streamOf: (streamName: string) => { [K in keyof EventStream]: (...args: never[]) => PromiseLike<unknown> },
): Store {
  if (typeof streamOf !== "function") throw mistake("streamOf", "a function", streamOf);
  const streamFor = (name: string): EventStream => streamOf(name) as EventStream;

  async function* read(streamName: string, { from = 1n, to, maxCount }: ReadOptions): AsyncGenerator<StreamPage> {
    const stream = streamFor(streamName);
    let left = Number(maxCount ?? Number.POSITIVE_INFINITY);
    for (let next = Number(from); ; ) {
      const limit = Math.min(PAGE, Math.max(1, left), to === undefined ? PAGE : Math.max(1, Number(to) - next + 1));
      const page = await stream.readEvents(next, limit);
      const events = page.events.filter(({ position }) => to === undefined || position <= to).slice(0, left);
      yield { ...page, events };
      left -= events.length;
      ({ next } = page);
      if (page.upToDate || left <= 0 || (to !== undefined && next > to)) return;
    }
  }

  const store: EmmettStore = {
    async readStream(streamName, options = {}) {
      const events: unknown[] = [];
      let version = 0;
      for await (const page of read(streamName, options)) {
        ({ version } = page);
        for (const { id, position, event } of page.events) {
          const metadata = { ...event.metadata, streamName, messageId: id, streamPosition: BigInt(position) };
          events.push(cast({ ...event, kind: event.kind ?? "Event", metadata }, options.schema?.versioning?.upcast));
        }
      }
      if (!isAsExpected(version, options.expectedStreamVersion)) throw conflict(version, options.expectedStreamVersion);
      return { currentStreamVersion: BigInt(version), events, streamExists: version > 0 };
    },

    async aggregateStream(streamName, { evolve, initialState, read: options }) {
      const { events, currentStreamVersion, streamExists } = await store.readStream(streamName, options);
      const state = events.reduce((before: ReturnType<typeof initialState>, event) => evolve(before, event as never), initialState());
      // The version of the state: with `to`, say, that of an earlier time.
      const { to, maxCount } = options ?? {};
      const seen = (events.at(-1) as { metadata: { streamPosition: bigint } } | undefined)?.metadata.streamPosition;
      const isPart = to !== undefined || maxCount !== undefined;
      return { state, streamExists, currentStreamVersion: isPart ? (seen ?? 0n) : currentStreamVersion };
    },

    async appendToStream(streamName, events, { expectedStreamVersion, schema } = {}) {
      const stored = events.map((event) => cast(event, schema?.versioning?.downcast));
      const { version, conflict: isConflict } = await streamFor(streamName).appendEvents(stored, expectedStreamVersion);
      if (isConflict) throw conflict(version, expectedStreamVersion);
      return { nextExpectedStreamVersion: BigInt(version), createdNewStream: events.length > 0 && version === events.length };
    },

    streamExists: async (streamName) => (await streamFor(streamName).readEvents(1, 1)).version > 0,
  };
  return store as Store;
}

function isAsExpected(version: number, expected: bigint | string = "NO_CONCURRENCY_CHECK"): boolean {
  if (expected === "NO_CONCURRENCY_CHECK") return true;
  if (expected === "STREAM_DOES_NOT_EXIST") return version === 0;
  return expected === "STREAM_EXISTS" ? version > 0 : BigInt(expected) === BigInt(version);
}

/** As Emmett's own has it: `isExpectedVersionConflictError` goes by this code. */
function conflict(version: number, expected: bigint | string = ""): Error {
  const error = new Error(`The stream's version is ${version}, and ${expected} was expected.`);
  return Object.assign(error, { errorCode: 412, current: String(version), expected: String(expected) });
}

/** An event as another version of the code has it: what `change` returns is its data, and is added to its metadata. */
function cast<E extends EmmettEvent>(event: E, change: Cast | undefined): E {
  if (!change) return event;
  const { data, metadata } = change(event as never);
  return { ...event, ...(data && { data }), ...((event.metadata ?? metadata) && { metadata: { ...event.metadata, ...metadata } }) };
}
