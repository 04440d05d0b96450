/** One destination under one check: makes messages, calls it as the outbox does, and looks at what has arrived at its other end. */

import { expected, kindOf } from "../api/errors.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";

/** A destination, as `sendMessages` or one of `destinations` has it. */
export interface CheckedDestination<M = unknown> {
  (messages: OutboxMessage<M>[], delivery: OutboxDelivery): unknown;
  readonly ordering?: "batch";
}

/** A destination and its other end, made for one check. */
export interface DestinationEnd<M = unknown> {
  readonly destination: CheckedDestination<M>;
  /** The ids of the messages that have arrived at the other end, in the order in which they came. */
  received(): readonly string[] | Promise<readonly string[]>;
  /** Called after the check, however it ended. */
  close?(): unknown;
}

/** The messages of a destination. */
type MessageOf<E> = E extends DestinationEnd<infer M> ? M : never;

/** What is checked. What is left out is not checked: leave out what the other end can't do. */
export interface DestinationSubject<E extends DestinationEnd<never> = DestinationEnd> {
  /** Makes a destination and its other end, which takes everything. Each check has its own. */
  make(): E | Promise<E>;
  /** The `msg` of a message, by its number. Default `{ type: "checked", n }`. */
  message?(n: number): MessageOf<E>;
  /** The `msg` of one that the other end, or the destination itself, refuses, whatever else is well. */
  refused?(n: number): MessageOf<E>;
  /** The other end is down from now on: it can't be reached, or answers that it takes nothing. */
  down?(end: E): unknown;
  /** It is well again. */
  up?(end: E): unknown;
  /** From now on it takes what it gets, and never answers. */
  hang?(end: E): unknown;
  /** How long anything may take, in seconds. Default 10, from 0.1 to 600. */
  patienceSeconds?: number;
}

const LOOK_MS = 10;

type Outcome = "ack" | "retry" | "reject";

/** What a call came to. */
export interface Called {
  readonly threw: boolean;
  readonly error?: unknown;
  /** What was said of messages, by id: the first outcome counts, as in the outbox. */
  readonly outcomes: ReadonlyMap<string, { readonly outcome: Outcome; readonly reason?: unknown }>;
}

/** The beginnings of the ids of all checks. */
const epochs = new Set<string>();

export class Trial<E extends DestinationEnd<never> = DestinationEnd<never>> {
  readonly subject: DestinationSubject<E>;
  readonly end: E;
  readonly patienceMs: number;
  // A receiver may know the ids of another check.
  readonly #epoch = crypto.randomUUID();
  #last = 0;

  constructor(subject: DestinationSubject<E>, end: E, patienceMs: number) {
    this.subject = subject;
    this.end = end;
    this.patienceMs = patienceMs;
    epochs.add(this.#epoch);
  }

  get destination(): CheckedDestination {
    return this.end.destination as CheckedDestination<never> as CheckedDestination;
  }

  message(more: Partial<OutboxMessage> = {}): OutboxMessage {
    const sequence = ++this.#last;
    const { message = (n: number) => ({ type: "checked", n }) } = this.subject;
    const id = `${this.#epoch}-${String(sequence).padStart(15, "0")}`;
    const source = `${"0123456789abcdef".repeat(4)}:${this.#epoch}`;
    return { id, msg: message(sequence), source, sequence, attempts: 1, timestamp: Date.now(), ...more };
  }

  messages(count: number): OutboxMessage[] {
    return Array.from({ length: count }, () => this.message());
  }

  /** Calls the destination, and resolves once it has ended. What it says of an id that is not in its call is a mistake, as in the outbox. */
  async call(messages: OutboxMessage[], signal: AbortSignal = new AbortController().signal): Promise<Called> {
    const ids = new Set(messages.map(({ id }) => id));
    const outcomes = new Map<string, { outcome: Outcome; reason?: unknown }>();
    const unknown: unknown[] = [];
    const give = (id: string, outcome: Outcome, reason?: unknown): void => {
      if (!ids.has(id)) {
        unknown.push(id);
        throw expected("id", "the id of a message of this call", id);
      }
      if (!outcomes.has(id)) outcomes.set(id, { outcome, reason });
    };
    const delivery: OutboxDelivery = {
      signal,
      ack: (id) => give(id, "ack"),
      retry: (id, options) => give(id, "retry", options?.reason),
      reject: (id, reason) => give(id, "reject", reason),
    };
    const ended = (async () => void (await this.destination([...messages], delivery)))().then(
      () => ({ threw: false }),
      (error: unknown) => ({ threw: true, error }),
    );
    const called = await this.#inTime(ended, "The call has not ended");
    check(unknown.length === 0, `It gave an outcome for ${shown(unknown)}, which is not the id of a message of its call.`);
    return { ...called, outcomes };
  }

  /** Calls it with messages of which all must be delivered. */
  async deliver(messages: OutboxMessage[]): Promise<void> {
    const { threw, error, outcomes } = await this.call(messages);
    check(!threw, `It threw although all was well: ${shown(error)}`);
    const others = [...outcomes.values()].filter(({ outcome }) => outcome !== "ack");
    check(
      others.length === 0,
      `It did not deliver ${others.length} of ${messages.length} messages: ${others[0]?.outcome}, ${shown(others[0]?.reason)}`,
    );
  }

  /** Calls it until each of these is delivered. It may look first whether the other end is well, and let messages wait meanwhile. */
  async deliverInTime(messages: readonly OutboxMessage[]): Promise<void> {
    const until = Date.now() + this.patienceMs;
    let rest = messages;
    for (let attempts = 2; rest.length > 0; attempts++) {
      const { threw, error, outcomes } = await this.call(rest.map((message) => ({ ...message, attempts })));
      rest = rest.filter(({ id }) => (outcomes.get(id)?.outcome ?? (threw ? "retry" : "ack")) !== "ack");
      const [first] = rest;
      const said = first && outcomes.get(first.id);
      check(said?.outcome !== "reject", `It rejected a message because of what was wrong before: ${shown(said)}`);
      check(!first || Date.now() < until, `It did not deliver ${rest.length} of ${messages.length} messages: ${shown(said ?? error)}`);
      if (first) await pause();
    }
  }

  /**
   * Waits until all of these have arrived, and gives the order in which each was first there.
   *
   * @param sent what else may have arrived
   */
  async arrived(messages: readonly OutboxMessage[], sent: readonly OutboxMessage[] = messages): Promise<string[]> {
    const until = Date.now() + this.patienceMs;
    for (;;) {
      const ids = [...new Set(await this.#inTime(Promise.resolve(this.end.received()), "received() has not ended"))];
      const missing = messages.filter(({ id }) => !ids.includes(id));
      if (missing.length === 0) {
        const known = new Set(sent.map(({ id }) => id));
        // What another check has sent may come late, where they share their other end.
        const strange = ids.filter(
          (id) => !known.has(id) && (id.startsWith(this.#epoch) || ![...epochs].some((epoch) => id.startsWith(epoch))),
        );
        check(strange.length === 0, `Something arrived under an id that no message has: ${shown(strange[0])}`);
        return ids;
      }
      check(
        Date.now() < until,
        `${missing.length} of ${messages.length} messages were said to be delivered, and have not arrived under their ids.`,
      );
      await pause();
    }
  }

  async #inTime<T>(work: Promise<T>, what: string): Promise<T> {
    let stop = (): void => {};
    const tooLong = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} after ${this.patienceMs / 1000} s.`)), this.patienceMs);
      stop = () => clearTimeout(timer);
    });
    try {
      return await Promise.race([work, tooLong]);
    } finally {
      stop();
    }
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}

export function check(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise);
}

/** Whether two messages are the same, as far as structured data can be told apart by what it holds. */
export function isEqual(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true;
  if (Object(one) !== one || Object(other) !== other || kindOf(one) !== kindOf(other)) return false;
  if (one instanceof Map || one instanceof Set) return isEqual([...one], [...(other as Iterable<unknown>)]);
  if (one instanceof Date) return isEqual(one.getTime(), (other as Date).getTime());
  const [a, b] = [Object.entries(one as object), Object.entries(other as object)];
  return a.length === b.length && a.every(([name, value], i) => b[i]?.[0] === name && isEqual(value, b[i]?.[1]));
}

export function shown(value: unknown): string {
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  try {
    return (JSON.stringify(value) ?? String(value)).slice(0, 300);
  } catch {
    return String(value);
  }
}
