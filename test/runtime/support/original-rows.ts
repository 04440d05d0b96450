/** The rows that version 0.1.0 of the package left behind, laid down exactly as it wrote them, and what is asserted of those who adopt them. */
import { evictDurableObject } from "cloudflare:test";
import { expect } from "vitest";
import type { OutboxOptions } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { again, type Backend, declared, inside, native, redeclared, type Stub } from "./harness.ts";
import { Box, type Form, options } from "./worker.ts";

/** The two task managers that it used: the first kept one row a task, the later one an index by time beside it. */
export const VERSIONS = ["first", "later"] as const;
export type Version = (typeof VERSIONS)[number];

/** A ULID: ten characters of time in milliseconds, and sixteen that tell apart what came in one, and sort by `order`. */
export function ulid(time: number, order = 0): string {
  const text = (number: number, length: number) =>
    Array.from({ length }, (_, n) => "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[Math.floor(number / 32 ** (length - 1 - n)) % 32]).join("");
  return `${text(time, 10)}${text(order, 8)}Z0Y1X2W3`;
}

/** When the first of its messages was put: in the past, a second apart each. */
export const FIRST_AT = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

export const putAt = (n: number): number => FIRST_AT + Math.floor(n / 3) * 1000;

export interface Left {
  readonly version: Version;
  /** Its messages, in put order. */
  readonly messages?: readonly unknown[];
  /** The time of the object's own alarm, in milliseconds since the Unix epoch. */
  readonly own?: number;
  /** Rows of the object's own. */
  readonly state?: Record<string, unknown>;
}

/** The task that had the outbox send. */
const sending = (id: string) => ({ id, attempt: 0, type: "SINGLE", context: "transactional_outbox", scheduledAt: 1 });

/** Everything that it has stored in one object. */
export function rowsLeft({ version, messages = [], own, state = {} }: Left): Record<string, unknown> {
  const rows: Record<string, unknown> = { ...state };
  for (const [n, msg] of messages.entries()) rows[`__outgoing_msg::id::${ulid(putAt(n), n)}`] = msg;
  if (version === "first") {
    if (messages.length > 0) {
      const id = ulid(FIRST_AT);
      rows[`$$_tasks::${id}`] = sending(id);
    }
    if (own !== undefined) {
      const id = ulid(FIRST_AT + 1);
      rows[`$$_tasks::${id}`] = { id, attempt: 0, type: "ALARM", context: undefined, scheduledAt: own };
      rows.$$_tasks_alarm = own;
    }
    return rows;
  }
  if (messages.length > 0) {
    const id = "5a0b9ff4-3c6f-4b52-9a77-0d2d9a2a3c11";
    rows[`$$_tasks::id::${id}`] = sending(id);
    rows[`$$_tasks::alarm::1::id::${id}`] = id;
  }
  if (own !== undefined) {
    rows["$$_tasks::id::alarm"] = { id: "alarm", attempt: 0, type: "ALARM", context: undefined, scheduledAt: own };
    rows[`$$_tasks::alarm::${own}::id::alarm`] = "alarm";
  }
  return rows;
}

/** An object in which these rows and this alarm stand, that lives no more, and whose next life is of the class `next`. */
export async function laidDown(backend: Backend, rows: Record<string, unknown>, next: Form, alarm?: number): Promise<Stub> {
  const stub = declared(
    backend,
    class extends Box {
      // The alarm is the next life's: should it fire before this one has ended, it comes again.
      override async alarm(): Promise<void> {
        await this.ctx.storage.setAlarm(Date.now() + 50);
      }
    },
  );
  await inside(stub, async (_, __, { storage }) => {
    const all = Object.entries(rows);
    for (let n = 0; n < all.length; n += 128) await storage.put(Object.fromEntries(all.slice(n, n + 128)));
    redeclared(stub, next);
    if (alarm !== undefined) await storage.setAlarm(alarm);
    await storage.sync();
  });
  await evictDurableObject(stub);
  return again(stub);
}

/** The class of today. */
export function upgraded(chosen: OutboxOptions<"OUTBOX_MANAGER"> = {}): Form {
  return withTransactionalOutbox(class extends Box {}, { ...options, ...chosen });
}

/** Every key that is not of the outbox of today. */
export const keysOf = (stub: Stub): Promise<string[]> =>
  inside(stub, async (_, __, state) => [...(await native(state).list({ end: "\u{10FFFF}" })).keys()]);

/** Asserts that nothing of the original's is left, but for these keys. */
export async function expectClean(stub: Stub, left: string[] = []): Promise<void> {
  const theirs = (await keysOf(stub)).filter((key) => key.startsWith("$$_tasks") || key.startsWith("__outgoing_msg"));
  expect(theirs.sort()).toEqual([...left].sort());
}
