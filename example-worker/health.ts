/** What an object reports about its outbox. */

import type { OutboxManager } from "do-transactional-outbox";
import type { Health } from "./states.ts";

export async function healthOf(outbox: OutboxManager<{ readonly type: string; readonly bookingId?: string }>): Promise<Health> {
  const [due, aside, { dead, breaker }] = await Promise.all([outbox.list(), outbox.list({ state: "delayed" }), outbox.stats()]);
  const waiting = [...due, ...aside].filter(({ msg }) => msg.type !== "slot_passed");
  return { waiting: waiting.map(({ id, msg: { type, bookingId = "" }, attempts }) => ({ id, type, bookingId, attempts })), dead, breaker };
}
