/** Messages as `sendMessages` gets them, and a `delivery` that writes down what becomes of each. */
import type { OutboxDelivery, OutboxMessage } from "../../../src/api/message.ts";

const OBJECT = "0123456789abcdef".repeat(4);
const EPOCH = "b7e6f1c2-3d4a-4f5b-8c6d-9e0f1a2b3c4d";

/** The message with this number: as the outbox would hand it over, but for what is given. */
export function message(sequence: number, more: Partial<OutboxMessage> = {}): OutboxMessage {
  const id = `${EPOCH}-${String(sequence).padStart(15, "0")}`;
  return { id, msg: { n: sequence }, source: `${OBJECT}:${EPOCH}`, sequence, attempts: 1, timestamp: 1_790_000_000_000, ...more };
}

/** So many messages, from 1. */
export function messages(count: number, more: (n: number) => Partial<OutboxMessage> = () => ({})): OutboxMessage[] {
  return Array.from({ length: count }, (_, i) => message(i + 1, more(i + 1)));
}

/** What one call did. */
export interface Recorded {
  /** By sequence, for each message that was settled: `ack`, `retry`, `retry 60`, `wait` (a retry that counts no attempt) or `reject <reason>`. */
  readonly outcomes: Record<number, string>;
  /** What the call threw. */
  error?: { readonly name: string; readonly message: string; readonly retryAfterSeconds?: number };
}

type Send = (messages: OutboxMessage[], delivery: OutboxDelivery) => unknown;

/** Calls a destination as the outbox does: the first outcome of a message counts, and an unknown id is a mistake. */
export async function record(send: Send, messages: OutboxMessage[], signal = new AbortController().signal): Promise<Recorded> {
  const recorded: Recorded = { outcomes: {} };
  const give = (id: string, outcome: string) => {
    const found = messages.find((message) => message.id === id);
    if (!found) throw new TypeError(`no message of this call: ${id}`);
    recorded.outcomes[found.sequence] ??= outcome;
  };
  const delivery: OutboxDelivery = {
    signal,
    ack: (id) => give(id, "ack"),
    retry: (id, { delaySeconds, countAttempt = true } = {}) =>
      give(id, countAttempt ? (delaySeconds === undefined ? "retry" : `retry ${delaySeconds}`) : "wait"),
    reject: (id, reason) => give(id, `reject ${reason}`),
  };
  try {
    await send(messages, delivery);
  } catch (error) {
    const { name, message, retryAfterSeconds } = error as Error & { retryAfterSeconds?: number };
    recorded.error = { name, message, ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) };
  }
  return recorded;
}

/** The same outcome for all messages with these numbers. */
export function all(outcome: string, first: number, last: number): Record<number, string> {
  return Object.fromEntries(Array.from({ length: last - first + 1 }, (_, i) => [first + i, outcome]));
}
