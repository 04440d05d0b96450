/** The seed and the size of every random test: both fixed, so that a test that goes red does so for what has changed. */

const given = (import.meta as unknown as { env: Record<string, string | undefined> }).env;

/** Each test that draws prints it as `VITE_SEED=…`: set VITE_SEED to replay a failure, or to try other cases. */
export const SEED: number = given.VITE_SEED === undefined ? 1 : Number(given.VITE_SEED);

/** Whether this is `npm run test:proof`, which takes as long as it needs. */
export const PROOF: boolean = given.VITE_PROOF === "1";

/** How many cases a test runs: few in `npm test`, many in `npm run test:proof`. */
export function size(quick: number, proof: number): number {
  return PROOF ? proof : quick;
}

/** Some cases of a list, spread evenly over it, the first and the last among them: `quick` in `npm test`, all of them in `npm run test:proof`. */
export function some<T>(quick: number, cases: readonly T[]): T[] {
  const count = Math.min(size(quick, cases.length), cases.length);
  const step = (cases.length - 1) / Math.max(1, count - 1);
  return Array.from({ length: count }, (_, n) => cases[Math.round(n * step)] as T);
}
