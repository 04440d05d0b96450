/** One table of the restaurant: the Durable Object that has an outbox. This file is the whole use of the package. */

import { DurableObject } from "cloudflare:workers";
import { type OutboxDelivery, type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../src/index.ts";
import { type Ledger, theLedger } from "./ledger.ts";
import type { Booking, Reservation, ReservationEvent, ReservationMessage } from "./reservation.ts";

interface TableEnv {
  OUTBOX_MANAGER: OutboxManager<ReservationMessage>;
  RESERVATIONS: Queue<ReservationEvent>;
  RECEIVER_URL: string;
  LEDGER: DurableObjectNamespace<Ledger>;
}

/** What one table shows of itself. */
export interface TableState {
  readonly reservations: Reservation[];
  /** How many messages wait. */
  readonly pending: number;
  /** How many attempts have failed in a row. */
  readonly failures: number;
}

export const Table = withTransactionalOutbox(
  class Table extends DurableObject<TableEnv> {
    /** Resolves to `null` when somebody else has the table at that time. */
    async book(table: number, booking: Booking): Promise<Reservation | null> {
      // Nobody can book between this `get` and the `put`: while a Durable Object reads its storage, it takes no other call.
      if ((await this.ctx.storage.get(key(booking.slot))) !== undefined) return null;
      const reservation: Reservation = { id: crypto.randomUUID(), ...booking, bookedAt: Date.now() };
      // One write. There is no moment at which the table is booked and nobody will be told, nor the other way round.
      await this.env.OUTBOX_MANAGER.put(key(booking.slot), reservation, { type: "booked", table, reservation });
      return reservation;
    }

    /** Resolves to `null` when there is nothing to cancel. */
    async cancel(table: number, slot: string): Promise<Reservation | null> {
      const reservation = await this.ctx.storage.get<Reservation>(key(slot));
      if (reservation === undefined) return null;
      await this.env.OUTBOX_MANAGER.delete(key(slot), { type: "cancelled", table, reservation });
      return reservation;
    }

    /** Called by the outbox, never over RPC. When it throws, the same messages come again after a backoff. */
    async sendMessages(messages: OutboxMessage<ReservationMessage>[], { signal }: OutboxDelivery): Promise<void> {
      // The id stays the same on every attempt. It travels along, because a receiver may see a message twice.
      const events = messages.map(({ id, msg }) => ({ id, ...msg }));
      if (this.env.RECEIVER_URL !== "") return post(this.env.RECEIVER_URL, events, signal);
      // A local queue is never down. The page can pretend that it is, so that one can watch messages wait.
      if (await theLedger(this.env).isDown()) throw new Error("The queue is down. (It only pretends.)");
      await this.env.RESERVATIONS.sendBatch(events.map((body) => ({ body })));
    }

    async state(): Promise<TableState> {
      const reservations = await this.ctx.storage.list<Reservation>({ prefix: "slot:" });
      const { pending, failures } = await this.env.OUTBOX_MANAGER.stats();
      return { reservations: [...reservations.values()], pending, failures };
    }
  },
  // Somebody is watching: try again sooner than the defaults would.
  { retry: { minDelaySeconds: 1, maxDelaySeconds: 4 } },
);

export type Table = InstanceType<typeof Table>;

function key(slot: string): string {
  return `slot:${slot}`;
}

/**
 * The destination of `npm run demo`, which kills the runtime. Locally a queue lives in the memory of that same process
 * and dies with it, messages that it has already accepted included. The real one does not. So that the demo counts
 * the outbox's losses and not those of the simulator, its receiver is another process.
 */
async function post(url: string, events: ReservationEvent[], signal: AbortSignal): Promise<void> {
  const response = await fetch(url, { method: "POST", body: JSON.stringify(events), signal });
  if (!response.ok) throw new Error(`The receiver answered ${response.status}.`);
}
