/** Properties: what must hold for every value, tried on values that are drawn from the one seed. */
import fc from "fast-check";
import { SEED, size } from "../support/random.ts";

type Arbitraries<T extends unknown[]> = { [K in keyof T]: fc.Arbitrary<T[K]> };

const options = { seed: SEED, numRuns: size(200, 5000) };
console.log(`unit: VITE_SEED=${SEED}`);

/** Asserts a property. What fails is shrunk, and printed with its seed: `VITE_SEED=… npx vitest run --project unit` replays it. */
export function holds<T extends unknown[]>(arbitraries: Arbitraries<T>, check: (...values: T) => void): void {
  const property = fc.property(fc.tuple<T>(...arbitraries), (values) => {
    check(...values);
  });
  fc.assert(property, options);
}

/** The same where the check waits. */
export async function holdsAsync<T extends unknown[]>(arbitraries: Arbitraries<T>, check: (...values: T) => Promise<void>): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.tuple<T>(...arbitraries), (values) => check(...values)),
    options,
  );
}
