/** The seed of the inbox's random tests: set VITE_SEED to what a failed run has printed, and it runs again. */

const given = (import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_SEED;

export const seed: number = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);

console.log(`inbox: VITE_SEED=${seed}`);
