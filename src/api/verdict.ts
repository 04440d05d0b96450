/** What an error of a handler asks for, or says of the platform, whatever it is: no getter of it may throw at us. */

/** So many causes are looked at. */
const MOST_CAUSES = 4;

function read(error: unknown, name: string): unknown {
  try {
    return (error as Record<string, unknown> | null | undefined)?.[name];
  } catch {
    return undefined;
  }
}

/** How long it asks to wait, in seconds; 0 where it does not. */
export function askedSeconds(error: unknown): number {
  try {
    return Number(read(error, "retryAfterSeconds")) || 0;
  } catch {
    return 0;
  }
}

/** Whether it asks that delivery be paused. */
export function isPause(error: unknown): boolean {
  return read(error, "pause") === true;
}

/** Whether it says that the destination works and is asked too often: then no message is to blame. The platform's own errors of objects say `overloaded`. */
export function isThrottled(error: unknown): boolean {
  return read(error, "throttled") === true || read(error, "overloaded") === true;
}

/**
 * Whether the invocation has made as many subrequests as the platform lets it (50 on the free plan, 1,000 or more on the paid one; Workers limits page):
 * nothing that it still tries can succeed, and the next invocation may.
 */
export function isOutOfSubrequests(error: unknown): boolean {
  for (let at = error, depth = 0; at !== undefined && at !== null && depth < MOST_CAUSES; depth++) {
    const message = typeof at === "string" ? at : read(at, "message");
    if (typeof message === "string" && /too many subrequests/i.test(message)) return true;
    at = read(at, "cause");
  }
  return false;
}
