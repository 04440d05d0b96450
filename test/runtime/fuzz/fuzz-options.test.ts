/** Malicious options of the wrapper: each is refused when the class is wrapped, or the class works. Replay with VITE_SEED. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { SEED, size } from "../../support/random.ts";
import { Draw, JUNK, Planted } from "../support/fuzz-draw.ts";
import { Box } from "../support/worker.ts";

const CASES = size(500, 5000);

const SANE: Readonly<Record<string, readonly unknown[]>> = {
  binding: ["OUTBOX_MANAGER", "OTHER"],
  batchSize: [1, 1000],
  timeoutSeconds: [0.001, 600],
  retry: [{}, { minDelaySeconds: 1, maxDelaySeconds: 2 }, { maxAttempts: 1 }],
  dispatch: ["alarm", "immediate"],
  expiresInSeconds: [0.001],
  idempotencySeconds: [0, 604_800],
  maxPending: [1],
  onEvent: [() => {}],
};

function optionsOf(draw: Draw): unknown {
  if (draw.chance(0.1)) return draw.named(JUNK);
  const names = Object.keys(SANE).filter(() => draw.chance(0.4));
  const options: Record<string, unknown> = {};
  for (const name of names) {
    draw.drawn.push(`${name}=`);
    options[name] = draw.chance(0.7) ? draw.pick(SANE[name] ?? []) : draw.named(JUNK);
  }
  if (draw.chance(0.1)) options.retry = { [draw.pick(["minDelaySeconds", "factor", "jitter", "maxAttempts", "wrong"])]: draw.named(JUNK) };
  return options;
}

it(`are refused with a TypeError or taken, in ${CASES} cases`, () => {
  console.log(`fuzz-options: VITE_SEED=${SEED}`);
  const counts = { refused: 0, taken: 0 };
  for (let n = 0; n < CASES; n++) {
    const draw = new Draw(SEED + n);
    const options = optionsOf(draw);
    try {
      expect(withTransactionalOutbox(class extends Box {}, options as never)).toBeTypeOf("function");
      counts.taken++;
    } catch (error) {
      const text = `VITE_SEED=${SEED}, case ${n}: ${draw.drawn.join(" ")}`;
      expect(error instanceof TypeError || error instanceof Planted, `${text}: ${error}`).toBe(true);
      counts.refused++;
    }
  }
  console.log("fuzz-options:", JSON.stringify(counts));
  expect(counts.refused + counts.taken).toBe(CASES);
  expect(Math.min(counts.refused, counts.taken)).toBeGreaterThan(CASES / 20);
});
