/** The wake-up, as delivery needs it: whatever waits, an alarm is set no later than it is due. */
export interface Wake {
  /** The time, in milliseconds since the Unix epoch: never before the alarm that is being handled, whatever the clock says. */
  now(): number;
  /**
   * Sets the wake-up, in the turn in which the rows are written. `NEVER` where nothing waits.
   *
   * @param isForced set it although the platform would repeat the call under way
   */
  setWake(wakeAt: number, isForced?: boolean): unknown;
}
