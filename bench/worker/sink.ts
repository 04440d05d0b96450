/** Another object as a destination: it takes everything and keeps a count. */
import { DurableObject } from "cloudflare:workers";
import type { Message } from "./work.ts";

export class Sink extends DurableObject {
  #received = 0;

  receive(messages: Message[]): number {
    this.#received += messages.length;
    return this.#received;
  }
}
