/** Values that storage can't hold: finds the part of a value that can't be cloned, once cloning the whole has failed. */

import { expected, textOf } from "./errors.js";

/** Paths are not followed further: the value may be endless. */
const MOST_LEVELS = 100;

/**
 * The error for a value that can't be cloned: names the part by its path, with the platform's reason. The contents of a `Map` or a `Set` have no path:
 * it is named as a whole.
 *
 * @param name the argument that holds the value
 */
export function uncloneable(name: string, value: unknown, cause: unknown): TypeError {
  let path = name;
  let part = value;
  const seen = new Set<unknown>();
  try {
    while (typeof part === "object" && seen.size < MOST_LEVELS) {
      seen.add(part);
      const inner = Object.entries(part ?? {}).find(([, inner]) => !seen.has(inner) && !isCloneable(inner));
      if (!inner) break;
      path += Array.isArray(part) ? `[${inner[0]}]` : step(inner[0]);
      part = inner[1];
    }
  } catch {
    // Looking runs the caller's code, and what that throws does not matter here.
  }
  return expected(path, "a value that can be cloned", part, cause, `: ${textOf(cause).replace(/\.$/, "")}.`);
}

export function isCloneable(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}

/** One step of a path, as it is written in code. */
export function step(name: string): string {
  return /^[\p{L}_$][\p{L}\d_$]*$/u.test(name) ? `.${name}` : `[${JSON.stringify(name.slice(0, 60))}]`;
}
