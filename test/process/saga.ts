/** The example's restaurant seen from outside: guests, tables, messages as they are heard, and a runtime that can be killed. */
import { type Request as MiniflareRequest, Response as MiniflareResponse } from "miniflare";
import { expect } from "vitest";
import type { BookingState, Health, Projected, Report, SlotStatistics, TableEvent, TableState } from "../../example-worker/states.ts";
import { evolve, initialState } from "../../example-worker/table-decider.ts";
import { judge, type Verdict } from "../../example-worker/verdict.ts";
import { PATIENCE_SECONDS } from "../support/patience.ts";
import { bundled, folder, launch, sleep } from "./harness.ts";

/** A message as an object hears it. */
export interface Envelope {
  readonly v: 1;
  readonly id: string;
  readonly msg: {
    readonly type: string;
    readonly bookingId: string;
    readonly table: number;
    readonly slot: string;
    readonly reason?: string;
  };
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a call of `receiveMessages` is told to do: see worker/saga.ts. */
export interface Order {
  readonly fail?: boolean;
  readonly reversed?: boolean;
  readonly twice?: boolean;
  readonly end?: "abort" | "kill";
}

/** One call of `receiveMessages` of an object, as `table 3` or `booking …`. */
export interface Call {
  readonly by: string;
  readonly envelopes: readonly Envelope[];
}

export interface Answer<B = { readonly error?: string }> {
  readonly status: number;
  readonly body: B;
}

const SLOT = "19:00";

export class Restaurant {
  /** Every call of `receiveMessages`, in the order of arrival. */
  readonly calls: Call[] = [];
  /** Decides what each call does. One that is not answered holds the call up. */
  order: (call: Call) => Order | Promise<Order> = () => ({});
  /** How often workerd was killed. */
  kills = 0;
  readonly #folder = folder();
  readonly #bindings: { readonly TABLE_COUNT: number; readonly SLOT_SECONDS: number };
  #world: Awaited<ReturnType<typeof launch>> | null = null;
  #restart: Promise<void> | null = null;
  #tables = 0;

  constructor(tables = 36, slotSeconds = 3600) {
    this.#bindings = { TABLE_COUNT: tables, SLOT_SECONDS: slotSeconds };
  }

  async open(): Promise<this> {
    this.#world = await launch({
      name: "restaurant",
      modules: true,
      script: await bundled("saga.ts"),
      compatibilityDate: "2026-07-01",
      durableObjectsPersist: this.#folder,
      durableObjects: {
        OUTBOX_FLEET: { className: "OutboxFleet", useSQLite: true },
        ...Object.fromEntries(
          ["Booking", "Table", "Ledger", "Projections", "Cart"].map((className) => [
            className.toUpperCase(),
            { className, useSQLite: true },
          ]),
        ),
      },
      d1Databases: { STATISTICS: "statistics" },
      d1Persist: this.#folder,
      queueProducers: { ANNOUNCEMENTS: "announcements" },
      queueConsumers: { announcements: { maxBatchSize: 100, maxBatchTimeout: 0 } },
      bindings: this.#bindings,
      serviceBindings: { WATCH: (request: MiniflareRequest) => this.#watch(request) },
      // What workerd prints when an object dies is what some tests are about.
    });
    return this;
  }

  async #watch(request: MiniflareRequest): Promise<MiniflareResponse> {
    if (new URL(request.url).pathname === "/kill") {
      void this.killAndRestart();
      return new MiniflareResponse();
    }
    const call = (await request.json()) as Call;
    this.calls.push(call);
    return MiniflareResponse.json(await this.order(call));
  }

  /** SIGKILL, and a new workerd on the same storage. Requests meanwhile wait for it. */
  killAndRestart(): Promise<void> {
    this.#restart ??= (async () => {
      const world = this.#world;
      try {
        if (world) process.kill(world.pid, "SIGKILL");
      } catch (error) {
        // Miniflare has started it anew, on the same storage. What must hold after a kill must hold then as well.
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
        console.warn("This workerd had died by itself.");
      }
      this.kills++;
      await world?.miniflare.dispose();
      await this.open();
      this.#restart = null;
    })();
    return this.#restart;
  }

  async close(): Promise<void> {
    await this.#restart;
    await this.#world?.miniflare.dispose();
  }

  /** A table that no other test has. */
  newTable(): number {
    return ++this.#tables;
  }

  /** Repeats a request that had no answer, as a guest would. */
  async request<B = { readonly error?: string }>(method: string, path: string, body?: unknown): Promise<Answer<B>> {
    const init = { method, ...(body !== undefined && { body: JSON.stringify(body) }) };
    for (const end = Date.now() + PATIENCE_SECONDS * 1000; ; ) {
      await this.#restart;
      // A kill ends the connection before the answer, or in the middle of it.
      const answer = await fetch(new URL(path, this.#world?.url), init)
        .then(async (response) => ({ status: response.status, text: await response.text() }))
        .catch((error) => ({ status: 599, text: String(error) }));
      // 5xx is said in the place of an object that has died.
      if (answer.status < 500) return { status: answer.status, body: JSON.parse(answer.text) as B };
      if (Date.now() > end) expect.fail(`no answer to ${method} ${path}: ${answer.status} ${answer.text}`);
      await sleep(20);
    }
  }

  /** Gives the booking's id, as soon as it is initiated. */
  async book(table: number, slot: string = SLOT, id: string = crypto.randomUUID()): Promise<string> {
    const { status } = await this.request("PUT", `/bookings/${id}`, { table, slot, guest: "Ada", seats: 2 });
    expect(status).toBe(202);
    return id;
  }

  cancel(id: string): Promise<Answer> {
    return this.request("POST", `/bookings/${id}/cancel`);
  }

  change(table: number, action: "add" | "open" | "close" | "remove"): Promise<Answer> {
    return this.request("POST", `/tables/${table}/${action}`);
  }

  /** Hands messages to an inbox, and gives what became of them. */
  async inject(object: string, ...envelopes: unknown[]): Promise<string[]> {
    const { body } = await this.request<{ status: string }[]>("POST", `/inject/${object}`, envelopes);
    return body.map(({ status }) => status);
  }

  async booking(id: string): Promise<BookingState & Health> {
    return (await this.request<BookingState & Health>("GET", `/bookings/${id}`)).body;
  }

  async table(number: number): Promise<TableState & Health> {
    const found = (await this.report()).tables.find(({ table }) => table === number);
    if (!found) throw new Error(`There is no table ${number} in the report.`);
    return found;
  }

  /** All events of a table, from its first. */
  async history(table: number): Promise<TableEvent[]> {
    return (await this.request<TableEvent[]>("GET", `/history/${table}`)).body;
  }

  async projections(action: "drop" | "rebuild"): Promise<Projected> {
    return (await this.request<Projected>("POST", `/projections/${action}`)).body;
  }

  async report(): Promise<Report> {
    return (await this.request<Report>("GET", "/report")).body;
  }

  /** Waits until these bookings, and all others, have ended and no message waits: twice in a row, for a report is no snapshot. */
  async settled(bookings: readonly string[] = []): Promise<Report & { readonly verdict: Verdict }> {
    let last = "";
    for (const end = Date.now() + PATIENCE_SECONDS * 1000; ; ) {
      const report = await this.report();
      const verdict = judge(report);
      const known = new Set(report.bookings.map(({ bookingId }) => bookingId));
      const ended = verdict.waiting === 0 && verdict.count.initiated === 0 && bookings.every((id) => known.has(id));
      const text = JSON.stringify(report);
      if (ended && text === last) return { ...report, verdict };
      if (Date.now() > end) expect.fail(`not settled within ${PATIENCE_SECONDS} s: ${JSON.stringify(verdict)}`);
      last = ended ? text : "";
      await sleep(60);
    }
  }

  /** The messages that were heard about a booking. */
  heardOf(id: string): Envelope[] {
    return this.calls.flatMap(({ envelopes }) => envelopes).filter(({ msg }) => msg.bookingId === id);
  }
}

/** What must hold whenever everything has settled, whatever has happened. */
export function expectSound({ verdict, tables }: Report & { readonly verdict: Verdict }): void {
  expect(verdict).toMatchObject({ doubleBooked: [], atOdds: [], projectionErrors: [], waiting: 0, dead: 0 });
  expect(tables.filter(({ status, locks }) => status === "removed" && locks.length > 0)).toEqual([]);
}

/** What must hold of these tables as well: each is what its events make of it, and each of its events was counted once. */
export async function expectFolded(restaurant: Restaurant, tables: readonly number[]): Promise<void> {
  const report = await restaurant.report();
  for (const number of tables) {
    const events = await restaurant.history(number);
    const { status, locks } = events.reduce(evolve, initialState());
    const table = report.tables.find(({ table }) => table === number);
    expect(table).toMatchObject({ status, locks: expect.any(Array) });
    expect(Object.fromEntries(table?.locks.map(({ slot, ...lock }) => [slot, lock]) ?? [])).toEqual(locks);
    const bySlot = ({ slot: a }: { slot: string }, { slot: b }: { slot: string }) => a.localeCompare(b);
    expect(report.statistics.filter(({ table }) => table === number)).toEqual(statisticsOf(number, events).sort(bySlot));
  }
}

/** How often each slot of a table was locked and freed, by its events. */
export function statisticsOf(table: number, events: readonly TableEvent[]): SlotStatistics[] {
  const slots = new Map<string, { locked: number; cancelled: number; passed: number }>();
  for (const event of events) {
    if (event.type !== "table_lock_placed" && event.type !== "slot_unlocked") continue;
    const counts = slots.get(event.slot) ?? { locked: 0, cancelled: 0, passed: 0 };
    counts[event.type === "slot_unlocked" ? event.reason : "locked"]++;
    slots.set(event.slot, counts);
  }
  return Array.from(slots, ([slot, counts]) => ({ table, slot, ...counts }));
}

/** A message as a table or a booking would hear it, under an id of its own. */
export function message(type: string, bookingId: string, table: number, more: object = {}): Envelope {
  return { v: 1, id: crypto.randomUUID(), msg: { type, bookingId, table, slot: SLOT, ...more } };
}
