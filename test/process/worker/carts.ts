/** A cart with Emmett's command handler in the worker, and its stream in an object: so that a command goes through RPC. */
import { DurableObject } from "cloudflare:workers";
import {
  DeciderCommandHandler,
  type Event,
  type EventStore,
  isExpectedVersionConflictError,
  type ReadEventMetadataWithoutGlobalPosition,
} from "@event-driven-io/emmett";
import { type EmmettEvent, type EventStream, emmettEventStore, eventStream } from "../../../src/event-sourcing/index.ts";
import { type OutboxManager, withTransactionalOutbox } from "../../../src/index.ts";

class CartBase extends DurableObject<{ OUTBOX_MANAGER: OutboxManager<EmmettEvent> }> {
  destinations = {};
  readonly #stream = eventStream(this.env.OUTBOX_MANAGER);
  readEvents(...args: Parameters<EventStream["readEvents"]>): ReturnType<EventStream["readEvents"]> {
    return this.#stream.readEvents(...args);
  }
  appendEvents(...args: Parameters<EventStream["appendEvents"]>): ReturnType<EventStream["appendEvents"]> {
    return this.#stream.appendEvents(...args);
  }
}
export class Cart extends withTransactionalOutbox(CartBase, { retain: "all" }) {}

type Store = EventStore<ReadEventMetadataWithoutGlobalPosition>;
type Added = Event<"Added", { count: number }>;

const handle = DeciderCommandHandler<number, { type: "Add"; data: { count: number } }, Added>({
  initialState: () => 0,
  evolve: (total, { data }) => total + data.count,
  decide({ data: { count } }, total) {
    if (total + count > 10) throw new Error("The cart is full.");
    return { type: "Added", data: { count } };
  },
});

/** Adds so many at once to one cart, and says what became of each, and of the cart. */
export async function addTo(carts: DurableObjectNamespace<Cart>, name: string, counts: readonly number[]): Promise<unknown> {
  const store = emmettEventStore<Store>((streamName) => carts.getByName(streamName));
  const add = (count: number): Promise<string> =>
    handle(store, name, { type: "Add", data: { count } }, { retry: { onVersionConflict: 20 } }).then(
      ({ nextExpectedStreamVersion }) => `version ${nextExpectedStreamVersion}`,
      (error: Error) => error.message,
    );
  const ends = await Promise.all(counts.map(add));
  const conflict = await store
    .appendToStream<Added>(name, [{ type: "Added", data: { count: 1 } }], { expectedStreamVersion: 0n })
    .catch(isExpectedVersionConflictError);
  const { currentStreamVersion, events } = await store.readStream<Added>(name);
  return { ends: ends.sort(), conflict, version: Number(currentStreamVersion), counts: events.map(({ data }) => data.count) };
}
