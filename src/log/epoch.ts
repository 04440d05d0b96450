/** Epochs: ids that sort in the order in which an object's epochs began, also where a restore has undone some of them. */

/** The time of an epoch: so many hexadecimal digits, in milliseconds since the Unix epoch. */
const TIME_DIGITS = 12;

/**
 * A new id: a UUID of version 7, whose time is `now`, and in any case later than that of the epoch before.
 *
 * @param before the id of the epoch before, if there is one
 */
export function epochAfter(before: string, now: number): string {
  const time = Math.max(now, Number.parseInt(epochTime(before), 16) + 1);
  const digits = time.toString(16).padStart(TIME_DIGITS, "0");
  return `${digits.slice(0, 8)}-${digits.slice(8)}-7${crypto.randomUUID().slice(15)}`;
}

/** When an epoch began, in hexadecimal digits of fixed width, so that text sorts as times do. Ids of releases before 1.1.0 have no time: all zeros. */
export function epochTime(epoch: string): string {
  return epoch[14] === "7" ? epoch.slice(0, 8) + epoch.slice(9, 13) : "0".repeat(TIME_DIGITS);
}
