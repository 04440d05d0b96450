/** The destination of the demo: a small HTTP server that writes down every message it is handed. It is never killed. */

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import type { ReservationEvent } from "../reservation.ts";

/** One message, and how often it came. */
export interface Arrival {
  readonly event: ReservationEvent;
  copies: number;
}

export class Receiver {
  /** What arrived, by message id. */
  readonly arrivals = new Map<string, Arrival>();
  readonly #server: Server;

  /** @param random decides how late each answer is. */
  constructor(random: () => number) {
    this.#server = createServer(async (request, response) => {
      try {
        await this.#record(request);
        // Written down, but not yet answered: a kill at this moment is why "exactly once" can't be had.
        await pause(random() * 10);
        response.end();
      } catch {
        response.destroy();
      }
    });
  }

  /** Starts on a free port of the loopback interface and returns the URL. */
  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  async #record(request: IncomingMessage): Promise<void> {
    for (const event of (await json(request)) as ReservationEvent[]) {
      const arrival = this.arrivals.get(event.id) ?? { event, copies: 0 };
      arrival.copies++;
      this.arrivals.set(event.id, arrival);
    }
  }

  /** Drops what a dead sender still has on the wire, so that from now on nothing of it can arrive. */
  hangUp(): void {
    this.#server.closeAllConnections();
  }

  stop(): void {
    this.#server.close();
    this.hangUp();
  }
}
