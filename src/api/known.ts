/** Known options: rejects every other name, and suggests the one that was probably meant. */

import { cut, expected } from "./errors.js";

/** How much of an unknown name is compared and shown, in UTF-16 units. */
const NAME_LENGTH = 60;
/** Names that are less alike were not meant: from 0, nothing in common, to 1. `delayMs` and `delaySeconds` have 0.47. */
const LEAST_LIKENESS = 0.45;

/**
 * Returns the options as they are.
 *
 * @param argument what errors name
 * @throws TypeError when they are not an object, or contain an unknown option: it names the nearest known one, and lists all of them.
 */
export function known<T extends object>(argument: string, options: T, names: readonly string[]): T {
  if (Object(options) !== options) throw expected(argument, "an object", options);
  for (const name of Object.keys(options)) if (!names.includes(name)) throw unknown(argument, cut(name, NAME_LENGTH), names);
  return options;
}

/** Only computed when there is an error to explain. */
function unknown(argument: string, name: string, names: readonly string[]): TypeError {
  const likeness = (other: string): number => likenessOf(name.toLowerCase(), other.toLowerCase());
  const [nearest = ""] = [...names].sort((a, b) => likeness(b) - likeness(a));
  const meant = likeness(nearest) > LEAST_LIKENESS ? `: did you mean \`${nearest}\`?` : ".";
  return expected(argument, "free of unknown options", name, undefined, `${meant} Known options: ${names.join(", ")}.`);
}

/** The share of the pairs of neighbouring characters that two names have in common (Dice's coefficient). */
function likenessOf(a: string, b: string): number {
  const pairsOf = (name: string) => new Set(Array.from(name.slice(1), (character, i) => name[i] + character));
  const [ours, theirs] = [pairsOf(a), pairsOf(b)];
  return (2 * [...ours].filter((pair) => theirs.has(pair)).length) / (ours.size + theirs.size);
}
