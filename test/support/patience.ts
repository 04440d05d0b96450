/** Time in tests: how long they wait for what is to happen, and what tells a machine that is too slow apart from a fact that is wrong. */

const { env } = import.meta as unknown as { env?: Record<string, string | undefined> };

/**
 * How long a test waits for something that is to happen, in seconds. Only a test that fails waits so long, however busy the machine.
 * VITE_PATIENCE makes it shorter where tests are meant to fail.
 */
export const PATIENCE_SECONDS: number = Number(env?.VITE_PATIENCE ?? 90);

/** The clock that no test sets. */
const now = Date.now.bind(Date);

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Looks grow rarer up to this much: what has not come soon takes long, and many tests look at a time. */
const RAREST = 5;

/** Polls until `fact` gives something other than `undefined`, `null` or `false`, and returns that. */
export async function polled<R>(
  everyMs: number,
  fact: () => R | Promise<R>,
  seconds: number = PATIENCE_SECONDS,
): Promise<Exclude<R, undefined | null | false>> {
  const end = now() + seconds * 1000;
  for (let waitMs = everyMs; ; waitMs = Math.min(waitMs * 1.25, everyMs * RAREST)) {
    const found = await fact();
    if (found !== undefined && found !== null && found !== false) return found as Exclude<R, undefined | null | false>;
    if (now() > end) throw new Error(`not within ${seconds} s: ${fact}`);
    await sleep(waitMs);
  }
}

/** The machine was too slow for what a test had to do before a time, so that nothing is known. */
class TooSlow extends Error {}

/** Does, or asserts, what means something only before this time, in milliseconds since the Unix epoch. */
export async function by<R>(time: number, fact: () => R | Promise<R>): Promise<R> {
  let settled = false;
  const outcome = (async () => fact())();
  const over = (async () => {
    while (!settled && now() < time) await sleep(Math.min(100, Math.max(1, time - now())));
  })();
  await Promise.race([outcome.catch(() => {}), over]);
  settled = true;
  if (now() < time) return outcome;
  outcome.catch(() => {});
  throw new TooSlow(`over at ${time}`);
}

/**
 * Runs a test that has this many milliseconds for what it does `by` a time; from the start and with more of them where those were not enough.
 *
 * @param growth how many times more: less where a test can't use more of them, and only tries again
 */
export async function unhurried(ms: number, test: (ms: number) => Promise<void>, growth = 4): Promise<void> {
  for (let most = ms; ; most *= growth) {
    try {
      return await test(most);
    } catch (error) {
      if (!(error instanceof TooSlow) || most > PATIENCE_SECONDS * 500) throw error;
    }
  }
}
