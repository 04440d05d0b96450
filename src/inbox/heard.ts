/** What an inbox knows of one sender: the highest number, and the missing ones below it. Pure. */

/** The first and the last of a range of missing numbers. */
export type Gap = readonly [first: number, last: number];

/** A sender that sends all of its messages here, in order, is one number. */
export interface Heard {
  /** The highest number. */
  readonly high: number;
  /** The missing ranges below it, in order, except those in pages. */
  readonly gaps: readonly Gap[];
  /** The missing ranges up to this number are in pages; 0 if there are none. */
  readonly paged: number;
  /** How many messages wait for their predecessors. */
  readonly waiting: number;
}

export const NOTHING_HEARD: Heard = { high: 0, gaps: [], paged: 0, waiting: 0 };

/** The most gaps beside the number, and in a page. When there are more, half of them move to a page of their own. */
export const MOST_GAPS = 128;

export function isMissing(gaps: readonly Gap[], sequence: number): boolean {
  return gaps.some(([first, last]) => first <= sequence && sequence <= last);
}

/** The gaps without a number. */
export function filled(gaps: readonly Gap[], sequence: number): Gap[] {
  return gaps.flatMap(([first, last]): Gap[] => {
    if (sequence < first || last < sequence) return [[first, last]];
    const left: Gap[] = first < sequence ? [[first, sequence - 1]] : [];
    return sequence < last ? [...left, [sequence + 1, last]] : left;
  });
}

/**
 * After a number above `high`, or one that is missing beside it.
 *
 * @returns what to remember, and the gaps that move to a page, whose key is the first of their numbers
 */
export function after(heard: Heard, sequence: number): { heard: Heard; page: Gap[] } {
  const { high, paged } = heard;
  // A number in the middle of a gap makes two of it.
  const gaps = filled(heard.gaps, sequence);
  if (sequence > high + 1) gaps.push([high + 1, sequence - 1]);
  const page = gaps.length > MOST_GAPS ? gaps.splice(0, MOST_GAPS / 2) : [];
  return { heard: { ...heard, high: Math.max(high, sequence), gaps, paged: page.at(-1)?.[1] ?? paged }, page };
}
