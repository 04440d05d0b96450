/**
 * Emmett's event store over objects: what the tests of its own event stores ask, its command handlers on it, and random stories beside its in-memory store.
 * Left out of the former: listing streams, which objects can't be, and hooks after a commit, in whose place destinations deliver at least once.
 */
import {
  CommandHandler,
  type Decider,
  DeciderCommandHandler,
  type Event,
  type EventStore,
  getInMemoryEventStore,
  isExpectedVersionConflictError,
  type ReadEventMetadataWithoutGlobalPosition,
} from "@event-driven-io/emmett";
import fc from "fast-check";
import { expect, it } from "vitest";
import { type EmmettEvent, type EventLog, type EventStream, emmettEventStore, eventStream } from "../../../src/event-sourcing/index.ts";
import { SEED, size } from "../../support/random.ts";
import { boxWith } from "../support/batches.ts";
import { type Backend, drained, inside, onEitherBackend, type Stub } from "../support/harness.ts";

type Store = EventStore<ReadEventMetadataWithoutGlobalPosition>;

interface Item {
  readonly sku: string;
  readonly count: number;
  readonly price: number;
}
type CartEvent = Event<"ItemAdded", { item: Item }> | Event<"Discounted", { percent: number }>;
type CartCommand =
  | { type: "AddItem"; data: { item: Item }; metadata?: { now: Date } }
  | { type: "Discount"; data: { percent: number }; metadata?: { now: Date } };
interface Cart {
  readonly items: Item[];
  readonly total: number;
}

const cart: Decider<Cart, CartCommand, CartEvent> = {
  initialState: () => ({ items: [], total: 0 }),
  evolve: ({ items, total }, { type, data }) =>
    type === "ItemAdded"
      ? { items: [...items, data.item], total: total + data.item.count * data.item.price }
      : { items, total: (total * (100 - data.percent)) / 100 },
  decide({ type, data }, { items }) {
    if (type === "AddItem") return { type: "ItemAdded", data };
    if (items.length === 0) throw new Error("An empty cart has no discount.");
    return { type: "Discounted", data };
  },
};
const item: Item = { sku: "p1", count: 10, price: 3 };
const added: CartEvent = { type: "ItemAdded", data: { item } };

/** A store whose streams are objects, each started when it is first asked for. */
function storeOn(backend: Backend): { store: Store; stubOf: (name: string) => Stub } {
  const stubs = new Map<string, Stub>();
  const stubOf = (name: string): Stub => {
    const stub = stubs.get(name) ?? boxWith(backend, { retain: "all" });
    stubs.set(name, stub);
    return stub;
  };
  const within = <R>(name: string, call: (stream: EventStream) => Promise<R>) =>
    inside(stubOf(name), (_, outbox) => call(eventStream(outbox as EventLog<EmmettEvent>)));
  const store = emmettEventStore<Store>((name) => ({
    readEvents: (...args: [number, number]) => within(name, (stream) => stream.readEvents(...args)),
    appendEvents: (...args: [EmmettEvent[]]) => within(name, (stream) => stream.appendEvents(...args)),
  }));
  return { store, stubOf };
}

const positions = ({ events }: { events: readonly { metadata: { streamPosition: bigint } }[] }) =>
  events.map(({ metadata }) => Number(metadata.streamPosition));

onEitherBackend("Emmett's event store on objects", (backend) => {
  it("refuses what is no manager, and what finds no stream, when it is made", () => {
    expect(() => eventStream(undefined as never)).toThrow("Expected `outbox` to be an OutboxManager");
    expect(() => emmettEventStore({} as never)).toThrow("Expected `streamOf` to be a function");
  });

  it("goes back in time with `to`, with events and with their metadata", async () => {
    const { store } = storeOn(backend);
    await store.appendToStream("cart-1", [added]);
    await store.appendToStream("cart-1", [added]);
    await store.appendToStream("cart-1", [{ type: "Discounted", data: { percent: 10 } }]);
    const withMetadata = (state: Cart, event: CartEvent & { metadata: { streamName: string; messageId: string } }) => {
      expect([event.metadata.streamName, event.metadata.messageId.length > 20]).toEqual(["cart-1", true]);
      return cart.evolve(state, event);
    };
    for (const evolve of [cart.evolve, withMetadata as typeof cart.evolve]) {
      const at = (to: bigint) =>
        store.aggregateStream<Cart, CartEvent>("cart-1", { evolve, initialState: cart.initialState, read: { to } });
      expect(await at(1n)).toEqual({ currentStreamVersion: 1n, streamExists: true, state: { items: [item], total: 30 } });
      expect(await at(2n)).toMatchObject({ currentStreamVersion: 2n, state: { total: 60 } });
      expect(await at(3n)).toMatchObject({ currentStreamVersion: 3n, state: { total: 54 } });
    }
  });

  it("says which streams exist", async () => {
    const { store } = storeOn(backend);
    expect(await store.streamExists("a")).toBe(false);
    expect(await store.appendToStream("a", [added])).toEqual({ nextExpectedStreamVersion: 1n, createdNewStream: true });
    expect(await store.appendToStream("a", [added, added])).toEqual({ nextExpectedStreamVersion: 3n, createdNewStream: false });
    expect([await store.streamExists("a"), await store.streamExists("b")]).toEqual([true, false]);
    const read = await store.readStream("b", { from: 2n, maxCount: 2n });
    expect(read).toEqual({ events: [], currentStreamVersion: 0n, streamExists: false });
  });

  it("reads ranges, whose ends belong to them, and says how long the stream is", async () => {
    const { store } = storeOn(backend);
    await store.appendToStream(
      "a",
      Array.from({ length: 10 }, () => added),
    );
    const read = async (range: { from?: bigint; to?: bigint; maxCount?: bigint }) => {
      const { events, ...rest } = await store.readStream("a", range);
      expect(rest).toEqual({ currentStreamVersion: 10n, streamExists: true });
      return positions({ events });
    };
    expect(await read({})).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(await read({ from: 4n })).toEqual([4, 5, 6, 7, 8, 9, 10]);
    expect(await read({ to: 6n })).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await read({ from: 3n, to: 7n })).toEqual([3, 4, 5, 6, 7]);
    expect(await read({ maxCount: 3n })).toEqual([1, 2, 3]);
    expect(await read({ from: 3n, to: 9n, maxCount: 3n })).toEqual([3, 4, 5]);
    expect(await read({ from: 21n })).toEqual([]);
    expect(await read({ maxCount: 0n })).toEqual([]);
    expect(await read({ to: 0n })).toEqual([]);
  });

  it("reads a stream of many pages, and appends many events as one", async () => {
    const { store, stubOf } = storeOn(backend);
    await store.appendToStream(
      "long",
      Array.from({ length: 1300 }, () => added),
    );
    const whole = await store.aggregateStream<Cart, CartEvent>("long", cart);
    expect([whole.currentStreamVersion, whole.state.items.length]).toEqual([1300n, 1300]);
    expect(positions(await store.readStream("long", { from: 999n, maxCount: 3n }))).toEqual([999, 1000, 1001]);
    const bad = { type: "Bad", data: { toString: () => "can't be cloned" } } as unknown as CartEvent;
    await expect(store.appendToStream("long", [added, added, bad])).rejects.toThrow();
    expect((await store.readStream("long", { maxCount: 1n })).currentStreamVersion).toBe(1300n);
    await drained(stubOf("long"));
    await inside(stubOf("long"), (_, outbox) => outbox.trim({ before: 500 }));
    await expect(store.readStream("long")).rejects.toMatchObject({ code: "history_trimmed" });
    expect(positions(await store.readStream("long", { from: 1299n }))).toEqual([1299, 1300]);
  });

  it("refuses another version than the expected one, with an error that Emmett knows, and writes nothing", async () => {
    const { store } = storeOn(backend);
    const refused = async (expectedStreamVersion: bigint | "STREAM_EXISTS" | "STREAM_DOES_NOT_EXIST") => {
      for (const call of [
        () => store.appendToStream("a", [added], { expectedStreamVersion }),
        () => store.readStream("a", { expectedStreamVersion }),
      ]) {
        const error = await call().then(
          () => expect.fail("it was not refused"),
          (error: unknown) => error,
        );
        expect(isExpectedVersionConflictError(error), String(error)).toBe(true);
      }
    };
    await refused("STREAM_EXISTS");
    await refused(1n);
    await store.appendToStream("a", [added], { expectedStreamVersion: "STREAM_DOES_NOT_EXIST" });
    await refused("STREAM_DOES_NOT_EXIST");
    await refused(0n);
    await store.appendToStream("a", [added], { expectedStreamVersion: 1n });
    await store.appendToStream("a", [added], { expectedStreamVersion: "STREAM_EXISTS" });
    await store.appendToStream("a", [added], { expectedStreamVersion: "NO_CONCURRENCY_CHECK" });
    expect(positions(await store.readStream("a"))).toEqual([1, 2, 3, 4]);
  });

  it("takes events in the version of the code that writes, and gives them in that of the code that reads", async () => {
    const { store } = storeOn(backend);
    type Old = Event<"Priced", { cents: number }>;
    type New = Event<"Priced", { price: string }>;
    const downcast = ({ type, data }: New): Old => ({ type, data: { cents: Number(data.price) * 100 } });
    const upcast = ({ type, data }: Old): New => ({ type, data: { price: String(data.cents / 100) } });
    await store.appendToStream<New, Old>("a", [{ type: "Priced", data: { price: "5" } }], { schema: { versioning: { downcast } } });
    expect((await store.readStream("a")).events).toMatchObject([{ kind: "Event", data: { cents: 500 } }]);
    const { events } = await store.readStream<New, Old>("a", { schema: { versioning: { upcast } } });
    expect(events).toMatchObject([{ data: { price: "5" }, metadata: { streamName: "a", streamPosition: 1n } }]);
  });

  it("carries Emmett's command handlers, which try again after a conflict where they are told to", async () => {
    const { store } = storeOn(backend);
    const handle = DeciderCommandHandler(cart);
    const first = await handle(store, "c", { type: "AddItem", data: { item } });
    expect(first).toMatchObject({ nextExpectedStreamVersion: 1n, createdNewStream: true, newState: { total: 30 } });
    await handle(store, "c", { type: "Discount", data: { percent: 50 } }, { expectedStreamVersion: 1n });
    await expect(handle(store, "empty", { type: "Discount", data: { percent: 5 } })).rejects.toThrow("An empty cart");

    const retrying = CommandHandler<Cart, CartEvent>({ ...cart, retry: { onVersionConflict: true } });
    let tries = 0;
    await retrying(store, "c", async () => {
      // Another one is faster, once.
      if (++tries === 1) await store.appendToStream("c", [added]);
      return added;
    });
    expect(tries).toBe(2);
    let once = 0;
    const hasty = CommandHandler<Cart, CartEvent>(cart)(store, "c", async () => {
      once++;
      await store.appendToStream("c", [added]);
      return added;
    });
    expect(isExpectedVersionConflictError(await hasty.catch((error: unknown) => error))).toBe(true);
    expect(once).toBe(1);
    expect((await store.aggregateStream<Cart, CartEvent>("c", cart)).state).toEqual({ items: [item, item, item, item], total: 105 });
    const many = await Promise.allSettled(Array.from({ length: 8 }, () => handle(store, "d", { type: "AddItem", data: { item } })));
    const won = many.filter(({ status }) => status === "fulfilled").length;
    expect((await store.readStream("d")).currentStreamVersion).toBe(BigInt(won));
    expect(won).toBeGreaterThan(0);
  });

  it("answers as Emmett's in-memory store does, whatever is asked", async () => {
    const version = fc.oneof(
      fc.bigInt({ min: 0n, max: 4n }),
      fc.constantFrom("STREAM_EXISTS", "STREAM_DOES_NOT_EXIST", "NO_CONCURRENCY_CHECK"),
    );
    const step = fc.record({
      call: fc.constantFrom("append", "read", "aggregate", "exists"),
      stream: fc.constantFrom("a", "b"),
      count: fc.integer({ min: 1, max: 3 }),
      expected: fc.option(version, { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 15 }), async (steps) => {
        const answersOf = async (store: Store) => {
          const answers: unknown[] = [];
          for (const { call, stream, count, expected } of steps) {
            const options = expected === undefined ? {} : { expectedStreamVersion: expected as bigint };
            const answer = async (): Promise<unknown> => {
              if (call === "append")
                return await store.appendToStream(
                  stream,
                  Array.from({ length: count }, () => added),
                  options,
                );
              if (call === "exists") return await store.streamExists(stream);
              if (call === "aggregate") return await store.aggregateStream<Cart, CartEvent>(stream, { ...cart, read: options });
              const { events, ...rest } = await store.readStream(stream, options);
              return {
                ...rest,
                events: events.map(({ metadata: { messageId: _, ...metadata }, ...event }) => ({ ...event, at: metadata.streamPosition })),
              };
            };
            answers.push(await answer().catch((error) => isExpectedVersionConflictError(error) && "conflict"));
          }
          return answers;
        };
        expect(await answersOf(storeOn(backend).store)).toEqual(await answersOf(inMemory()));
      }),
      { seed: SEED, numRuns: size(10, 100), endOnFailure: true },
    );
  });
});

/** Emmett's in-memory store, whose `readStream` throws a conflict where others reject with it. */
function inMemory(): Store {
  const store = getInMemoryEventStore();
  return {
    ...store,
    aggregateStream: store.aggregateStream,
    readStream: async (...args: Parameters<typeof store.readStream>) => store.readStream(...args),
  } as unknown as Store;
}
