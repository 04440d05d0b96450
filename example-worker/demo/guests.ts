/** The guests of the demo, and the one who kills the runtime while they book. */

import { setTimeout as pause } from "node:timers/promises";
import { SLOTS } from "../input.ts";
import type { Wish } from "../states.ts";
import type { Runtime } from "./runtime.ts";

/** How many guests ask for the same slot. */
export const RIVALS = 2;
/** How many bookings are requested at the same time. */
const CONCURRENCY = 8;
/** A kill happens up to this long after the answer that it waited for. */
const KILL_WITHIN_MS = 50;

export function wish(index: number): Wish {
  const place = Math.floor(index / RIVALS);
  const slot = SLOTS[place % SLOTS.length] ?? "";
  const table = Math.floor(place / SLOTS.length) + 1;
  return { bookingId: crypto.randomUUID(), table, slot, guest: `Guest ${index + 1}`, seats: 2 };
}

export class Guests {
  /** How many requests were answered. */
  answers = 0;
  readonly #runtime: Runtime;
  readonly #signal: AbortSignal;

  constructor(runtime: Runtime, signal: AbortSignal) {
    this.#runtime = runtime;
    this.#signal = signal;
  }

  /** Books with several requests at a time. */
  async bookAll(wishes: readonly Wish[]): Promise<void> {
    const queue = [...wishes];
    const next = async (): Promise<void> => {
      for (let wanted = queue.shift(); wanted; wanted = queue.shift()) await this.#book(wanted);
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, next));
  }

  /** A request that got no answer is repeated: the booking recognises its id. */
  async #book({ bookingId, ...wanted }: Wish): Promise<void> {
    const signal = this.#signal;
    for (;;) {
      const request = { method: "PUT", body: JSON.stringify(wanted), signal };
      const response = await this.#runtime.fetch(`/bookings/${bookingId}`, request).catch(() => null);
      signal.throwIfAborted();
      // A proxy in front of a killed runtime answers 5xx.
      if (response !== null && response.status < 500) {
        if (response.status !== 202) throw new Error(`Booking ${bookingId}: ${response.status} ${await response.text()}`);
        this.answers++;
        return;
      }
      await pause(20, undefined, { signal });
    }
  }

  /** Kills soon after answers that the seed has chosen, while the messages of the bookings before them are in flight. */
  async killAgainAndAgain(kills: number, bookings: number, random: () => number, killed: (nth: number) => void): Promise<void> {
    const signal = this.#signal;
    const after = Array.from({ length: kills }, () => Math.ceil(random() * bookings)).sort((a, b) => a - b);
    for (const [index, wanted] of after.entries()) {
      while (this.answers < wanted) await pause(1, undefined, { signal });
      await pause(random() * KILL_WITHIN_MS, undefined, { signal });
      this.#runtime.kill();
      await this.#runtime.ready(signal);
      killed(index + 1);
    }
  }
}
