/** Retries of the object's own alarm: the platform's rules, which the outbox keeps while it uses the native alarm. No state. */

/** The object's own alarm, as the outbox keeps it. */
export interface OwnAlarm {
  /** When the object asked to be woken, in milliseconds since the Unix epoch. */
  readonly time: number;
  /** When its handler is to be called. Later than `time` only for a retry, or where the platform could lose an alarm set for `time`. */
  readonly due: number;
  /** How often its handler has failed. */
  readonly retryCount: number;
  /** Its handler is running. Only at rest, for the next life. */
  readonly running?: true;
}

/** How often the platform retries an alarm that fails (Alarms API documentation). */
const PLATFORM_RETRIES = 6;
/** How long the platform waits before the first retry, in milliseconds. The wait doubles each time (Alarms API documentation). */
const PLATFORM_RETRY_MS = 2000;

/** An own alarm that was set for a time and has not failed. */
export function ownAlarmAt(time: number): OwnAlarm {
  return { time, due: time, retryCount: 0 };
}

/** What an own alarm becomes if its running handler fails: `null` after as many retries as the platform makes. */
export function retryOf(running: OwnAlarm): OwnAlarm | null {
  return running.retryCount <= PLATFORM_RETRIES ? running : null;
}

/** How long to wait, in milliseconds, before an alarm is called again that had failed this often before it failed now. */
export function retryDelayMs(failures: number): number {
  return PLATFORM_RETRY_MS * 2 ** failures;
}
