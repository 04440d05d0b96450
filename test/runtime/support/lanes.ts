/** Lanes: messages that carry their ordering key in their name, what is done with them, and what became of them. */
import { expect } from "vitest";
import { type OutboxEvent, type OutboxMessage, type OutboxOptions, type OutboxStats, withTransactionalOutbox } from "../../../src/index.ts";
import { boxWith, callsOf } from "./batches.ts";
import { forwardTo } from "./clock.ts";
import { again, type Backend, declared, eventually, inside, native, type Stub, type TestBox } from "./harness.ts";
import { counted, type Ledger } from "./ledger.ts";
import { statsOf } from "./standing.ts";
import { Box, type BoxEnv, options, type Sent, type Stage, stageOf } from "./worker.ts";

export { forward, forwardTo } from "./clock.ts";

export type Step = Stage["rest"];
type MessageOptions = NonNullable<Parameters<TestBox["outbox"]["send"]>[1]>;

/** The ordering key of a message with this name: its first letter. A name that begins with a dot has none. */
const keyed = (name: string): { key?: string } => (name.startsWith(".") ? {} : { key: name.slice(0, 1) });

/** Sends messages with these names in one turn, before any of them can be handed over. */
export function sendNamed(stub: Stub, names: string, chosen: MessageOptions = {}): Promise<{ id: string }[]> {
  return inside(stub, (_, outbox) => Promise.all(names.split(" ").map((name) => outbox.send(name, { ...keyed(name), ...chosen }))));
}

/** The calls of `sendMessages`, each as the names of its messages. */
export const namesOf = (stub: Stub): string[] => callsOf(stub).map((call) => call.join(" "));

/** A step that does this to the messages with these names and takes the others. */
function toNamed(names: string, outcome: (message: OutboxMessage, delivery: Parameters<Step>[1]) => void): Step {
  const meant = names.split(" ");
  return (messages, delivery) => {
    for (const message of messages) if (meant.includes(message.msg as string)) outcome(message, delivery);
  };
}

/** A step that sets the messages with these names aside for so long, and takes the others. */
export const retrying = (names: string, delaySeconds: number): Step =>
  toNamed(names, ({ id }, delivery) => delivery.retry(id, { delaySeconds }));

/** A step that makes dead letters of the messages with these names, and takes the others. */
export const rejecting = (names: string): Step => toNamed(names, ({ id }, delivery) => delivery.reject(id, "refused by the test"));

export const flush = (stub: Stub): Promise<void> => inside(stub, (_, outbox) => outbox.flush());

/** Waits until the outbox says exactly this of itself. */
export async function stats(stub: Stub, wanted: Partial<OutboxStats>): Promise<void> {
  let last: OutboxStats | undefined;
  const says = async () => {
    const seen = await statsOf(stub);
    last = seen;
    return Object.entries(wanted).every(([name, value]) => seen[name as keyof OutboxStats] === value);
  };
  await eventually(says).catch(() => expect(last).toMatchObject(wanted));
}

/** Starts the object's next life, if it was aborted, and returns a stub that works. */
export async function alive(stub: Stub): Promise<Stub> {
  const next = again(stub);
  await statsOf(next);
  return next;
}

/**
 * Jumps to the outbox's next attempt and does what the platform does when an alarm is due: the alarm is gone, and its
 * handler is called. Asserts that one stands, no later than the attempt. One that stands earlier costs a call of the handler.
 */
export async function ring(stub: Stub): Promise<void> {
  const { nextAttemptAt } = await statsOf(stub);
  for (let due = 0; due < (nextAttemptAt ?? 0); ) {
    due =
      (await inside(stub, (_, __, state) => native(state).getAlarm())) ??
      expect.fail(`no alarm stands, the next attempt is at ${nextAttemptAt}`);
    expect(due).toBeLessThanOrEqual(Math.max(nextAttemptAt ?? 0, Date.now()) + 10);
    if (due > Date.now()) forwardTo(due);
    await ringAt(stub, due);
  }
}

/** Calls the alarm handler as the platform would for an alarm of this time, whatever stands. */
export function ringAt(stub: Stub, scheduledTime: number): Promise<void> {
  return inside(stub, async (box, _, state) => {
    await native(state).deleteAlarm();
    await box.alarm({ scheduledTime, retryCount: 0, isRetry: false });
  });
}

/** What `onEvent` was told, and after how many calls of `sendMessages`. */
export type Told = OutboxEvent & { calls: number };

/** A box with these options over the usual ones, and everything that its `onEvent` is told. */
export function telling(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): { stub: Stub; told: Told[] } {
  const told: Told[] = [];
  const onEvent = (event: OutboxEvent) => void told.push({ ...event, calls: stageOf(stub).calls.length });
  const stub = boxWith(backend, { ...chosen, onEvent });
  return { stub, told };
}

/** A box with these options over the usual ones whose `sendMessages` fails as a whole: a call may hold several messages of one key. */
export function simple(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Stub {
  class Simple extends Box {
    override async sendMessages(messages: Sent): Promise<void> {
      await super.sendMessages(messages, undefined as never);
    }
  }
  return declared(backend, withTransactionalOutbox(Simple, { ...options, ordering: "batch", ...chosen }));
}

/** A box with these options over the usual ones that counts its storage calls. */
export function ledgered(backend: Backend, chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Stub {
  return declared(
    backend,
    class extends withTransactionalOutbox(class extends Box {}, { ...options, ...chosen }) {
      ledger: Ledger;
      constructor(ctx: DurableObjectState, env: BoxEnv) {
        const ledger = counted(ctx.storage);
        super(ctx, env);
        this.ledger = ledger;
      }
    },
  );
}

/** Watches the calls that a step makes of its object: how many were under way at once, at most. */
export function watched(stub: Stub, step: Step): { readonly most: number } {
  const seen = { active: 0, most: 0 };
  stageOf(stub).rest = async (messages, delivery) => {
    seen.most = Math.max(seen.most, ++seen.active);
    try {
      await step(messages, delivery);
    } finally {
      seen.active--;
    }
  };
  return seen;
}
