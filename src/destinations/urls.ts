/** The URLs of one webhook that fail on their own, while others of their origin work: a wrong path or secret, or one that is gone. */

import { CLOCK, type Clock } from "./clock.js";
import { DAY_SECONDS, HOUR_SECONDS, secondsUntil } from "./destination.js";
import type { Trouble } from "./post.js";
import { remember } from "./remember.js";

export interface Urls {
  /** How long no request is to be made there, in seconds, and why: `null` when one may be. */
  held(href: string): { readonly seconds: number; readonly error: Error } | null;
  /** It answered that it takes nothing: it is left alone for 2 s, doubling up to an hour; one that is gone from an hour up to a day. */
  failed(href: string, error: Trouble): void;
  well(href: string): void;
}

export function urlsOf({ now }: Clock = CLOCK): Urls {
  const troubled = new Map<string, { readonly failures: number; readonly until: number; readonly error: Error }>();
  return {
    held(href) {
      const known = troubled.get(href);
      const seconds = known ? secondsUntil(known.until, now()) : 0;
      return known && seconds > 0 ? { seconds, error: known.error } : null;
    },

    failed(href, error) {
      // Requests that were in flight together count once.
      if (this.held(href)) return;
      const failures = (troubled.get(href)?.failures ?? 0) + 1;
      const backoff = error.pause ? Math.min(HOUR_SECONDS * 2 ** (failures - 1), DAY_SECONDS) : Math.min(2 ** failures, HOUR_SECONDS);
      const seconds = Math.max(backoff, Math.min(error.retryAfterSeconds ?? 0, DAY_SECONDS));
      remember(troubled, href, { failures, until: now() + seconds * 1000, error });
    },

    well(href) {
      troubled.delete(href);
    },
  };
}
