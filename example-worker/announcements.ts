/** The route of the announcements: a queue, which the page can pretend is down. */

import { type Destination, toQueue } from "do-transactional-outbox/destinations";
import { type Ledger, theLedger } from "./ledger.ts";
import type { Announcement } from "./messages.ts";

export interface AnnouncementsEnv {
  ANNOUNCEMENTS: Queue;
  LEDGER: DurableObjectNamespace<Ledger>;
}

/** A local queue is never down. This one can pretend to be, so that you can watch messages wait: after a throw they are sent again. */
export function toAnnouncements(env: AnnouncementsEnv): Destination<Announcement> {
  const send = toQueue<Announcement>(env.ANNOUNCEMENTS);
  return async (messages, delivery) => {
    if (await theLedger(env).isDown()) throw new Error("The queue is down. (It only pretends.)");
    await send(messages, delivery);
  };
}
