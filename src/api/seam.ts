/**
 * The seam for `do-transactional-outbox/testing`: what a test replaces the clock with, and what it observes. Only that subpath knows the symbol;
 * without it an object uses the runtime's clock and is not observed.
 */

import type { OutboxEvent } from "./events.js";
import type { OutboxDelivery, OutboxMessage } from "./message.js";

/** What a test has put in place for an object, from one start to the next. */
export interface Probe {
  /** The object's clock, in milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** How far that is ahead of the runtime's, in milliseconds. */
  readonly aheadMs: () => number;
  /** Replaces the class's own listener. */
  readonly listener: (own: Listener | undefined) => Listener;
  /** Calls a handler. */
  readonly around: Around;
  /** Gets the parts of the outbox, before any of the object's own code runs. */
  readonly attach: (parts: object) => void;
}

type Listener = (event: OutboxEvent) => unknown;
type Handler = (messages: never[], delivery: OutboxDelivery) => unknown;

/** Calls the handler of a destination, in the turn in which it is called itself. */
export type Around = (messages: OutboxMessage[], delivery: OutboxDelivery, handler: Handler, destination: string) => unknown;

/** Where the testing subpath leaves the factory of probes. */
export const SEAM: unique symbol = Symbol.for("do-transactional-outbox testing") as never;

/** What is stored there. */
export interface Seam {
  /** Called as an object's outbox is made, before it touches storage. */
  probe(ctx: object): Probe;
  /** How far tests have moved clocks in this isolate, in milliseconds: for what belongs to no object. */
  elapsedMs: number;
}

/** In production there is none. */
export function seam(): Seam | undefined {
  return (globalThis as { [SEAM]?: Seam })[SEAM];
}
