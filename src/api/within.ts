/** The check of one number: that it is within its limits. */

import { expected } from "./errors.js";

/** Default, least, greatest, and whether it must be an integer. */
export type Spec = readonly [standard: number, min: number, max: number, integer?: 1];

/** The default if nothing is given. @throws TypeError when it is not a number, or out of range. */
export function within(name: string, value: unknown, [standard, min, max, integer]: Spec): number {
  if (value === undefined) return standard;
  if (typeof value === "number" && value >= min && value <= max && !(integer && value % 1)) return value;
  throw expected(name, `a ${integer ? "whole " : ""}number from ${min} to ${max}`, value);
}
