/** The object's own alarm, as the outbox keeps it for the object. */

/** The object's own alarm, while the outbox has the platform's one slot. */
export interface OwnAlarm {
  /** When the object asked to be woken, in milliseconds since the Unix epoch. */
  readonly time: number;
  /** When it is to be called: later than `time` only while it is retried. */
  readonly due: number;
  /** How often it has failed. */
  readonly retryCount: number;
  /** Its handler runs: so it is in the header alone, for the next life. */
  readonly running?: true;
}

/** How often the platform retries an alarm that fails (Alarms API documentation). */
const PLATFORM_RETRIES = 6;

/** What an own alarm whose handler runs becomes should that fail: nothing, after as many retries as the platform makes. */
export function retryOf(running: OwnAlarm): OwnAlarm | null {
  return running.retryCount <= PLATFORM_RETRIES ? running : null;
}
