/** Expectations: what an object has sent, and whether anything is left. */

import { told } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxMessage } from "../api/message.js";
import { inside, type TestStub } from "./inside.js";
import { watched } from "./probe.js";

/** Selects messages. */
export interface SentOptions {
  /** Those of one destination: `"default"` is `sendMessages`. Default: all. */
  destination?: string;
}

/**
 * The messages that have been delivered, in order, across restarts of the object.
 *
 * @throws TypeError when the stub or an option is wrong.
 */
export async function sent<M = unknown>(stub: TestStub, options: SentOptions = {}): Promise<OutboxMessage<M>[]> {
  const { destination } = known("options", options, ["destination"]);
  // An object that has never started has sent nothing, and is asked all the same: is it one?
  await inside(stub, () => {});
  const { delivered } = watched(stub.id);
  const meant = delivered.filter((each) => destination === undefined || each.destination === destination);
  return meant.map(({ message }) => structuredClone(message) as OutboxMessage<M>);
}

/**
 * @throws Error that lists the messages, if any were delivered (with `destination`, to that one), are waiting or are dead letters (of any destination);
 * TypeError when the stub or an option is wrong.
 */
export async function expectNothing(stub: TestStub, options: SentOptions = {}): Promise<void> {
  const messages = await sent(stub, options);
  const left = await inside(stub, ({ store }) => ({
    waiting: store.undelivered(),
    dead: store.memory.readers.reduce((sum, { deadCount }) => sum + deadCount, 0),
  }));
  const found = [
    messages.length > 0 && `${messages.length} delivered: ${messages.map(({ msg }) => shown(msg)).join(", ")}`,
    left.waiting > 0 && `${left.waiting} waiting`,
    left.dead > 0 && `${left.dead} dead letters`,
  ].filter(Boolean);
  if (found.length > 0) throw new Error(told(`Expected no message, found ${found.join("; ")}.`));
}

function shown(msg: unknown): string {
  try {
    return (JSON.stringify(msg) ?? String(msg)).slice(0, 200);
  } catch {
    return String(msg);
  }
}

/** Whether everything that was put has been delivered or is a dead letter. */
export async function caughtUp(stub: TestStub): Promise<boolean> {
  return inside(stub, ({ store }) => store.undelivered() === 0);
}
