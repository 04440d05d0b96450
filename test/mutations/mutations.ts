/** Every wrong version of the source: each is one mistake that outboxes are known to make, or a limit that is missing. */
import { ALARMS } from "./alarms.ts";
import { DEAD } from "./dead.ts";
import { DELIVERY } from "./delivery.ts";
import { EVENT_SOURCING } from "./event-sourcing.ts";
import { FLEET } from "./fleet.ts";
import { FOUND } from "./found.ts";
import { INSPECTOR } from "./inspector.ts";
import { LIMITS } from "./limits.ts";
import { LOG } from "./log.ts";
import { LOG_HTTP } from "./log-http.ts";
import { MESSAGES } from "./messages.ts";
import type { Mutation } from "./mutation.ts";
import { PULL } from "./pull.ts";
import { PURE } from "./pure.ts";
import { READERS } from "./readers.ts";
import { REPORTS } from "./reports.ts";
import { PLATFORM, SELDOM, SETTLE } from "./settle.ts";
import { STORE } from "./store.ts";
import { STORIES } from "./stories.ts";

export const MUTATIONS: readonly Mutation[] = [
  ...STORE,
  ...DELIVERY,
  ...DEAD,
  ...ALARMS,
  ...LIMITS,
  ...INSPECTOR,
  ...LOG,
  ...LOG_HTTP,
  ...EVENT_SOURCING,
  ...MESSAGES,
  ...PULL,
  ...PURE,
  ...FLEET,
  ...FOUND,
  ...READERS,
  ...REPORTS,
  ...PLATFORM,
  ...SELDOM,
  ...SETTLE,
  ...STORIES,
];
