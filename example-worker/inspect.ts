/** The inspector, at /outbox: what the outbox of a table or a booking is doing, and what can be done about it. */

import { fleet } from "do-transactional-outbox/fleet";
import { inspector } from "do-transactional-outbox/inspector";
import type { Env } from "./restaurant.ts";
import { FLEET } from "./settings.ts";

/** This worker runs on the machine of the one who looks at it. One that is deployed has no such name: there, ask who it is instead. */
const LOCAL = ["localhost", "127.0.0.1", "[::1]"];

export function inspect(request: Request, env: Env): Promise<Response> {
  const look = inspector({
    namespaces: { TABLE: env.TABLE, BOOKING: env.BOOKING },
    fleet: fleet(env.OUTBOX_FLEET, { shards: FLEET.shards }),
    authorize: ({ url }) => (LOCAL.includes(new URL(url).hostname) ? "all" : null),
  });
  return look(request);
}
