/** From the request to the delivery, beside the request to a raw put: what immediate delivery makes of the slowest messages at a high rate. */
import { setTimeout as pause } from "node:timers/promises";
import { ENTRANTS, type EntrantName } from "../contestants.ts";
import { progress } from "../report.ts";
import type { Latency } from "../results.ts";
import type { Runtime } from "../runtime.ts";
import { latencyOf } from "./latency.ts";
import { socketTo } from "./socket.ts";

/** Turns of this length, in seconds: short ones, so that a slow moment of the machine hits both. */
const TURN_SECONDS = 0.5;
/** Turns before the first that counts. */
const WARM_UP_TURNS = 4;
/** When nothing has come for so long, in milliseconds, something is lost. */
const LOST_MS = 20_000;

/**
 * Times in milliseconds. That of the raw pair ends with its commit, because nothing is delivered; that of immediate delivery with whatever comes later of
 * commit and delivery.
 *
 * @param load messages a second to the object, whatever becomes of them
 * @param seconds how long each is measured
 */
export async function wholes(runtime: Runtime, load: number, seconds: number): Promise<Latency[]> {
  const entrants: readonly EntrantName[] = ["RawPair", "OursImmediate"];
  const found = new Map<EntrantName, number[]>(entrants.map((entrant) => [entrant, []]));
  const turns = Math.max(2, Math.round(seconds / TURN_SECONDS));
  for (let turn = -WARM_UP_TURNS; turn < turns; turn++) {
    progress(`from request to delivery: turn ${Math.max(0, turn + 1)} of ${turns}`);
    for (const entrant of turn % 2 === 0 ? entrants : entrants.toReversed()) {
      const values = await oneTurn(runtime, entrant, load, Math.max(1, Math.round(load * TURN_SECONDS)));
      if (turn >= 0) found.get(entrant)?.push(...values);
      await runtime.work(entrant, "clean");
    }
  }
  progress("");
  return [...found].map(([entrant, values]) => latencyOf(entrant, load, values));
}

/** By the clock: what is late is made up for. */
async function oneTurn(runtime: Runtime, entrant: EntrantName, load: number, count: number): Promise<number[]> {
  const [sent, committed, delivered] = [new Float64Array(count), new Float64Array(count), new Float64Array(count)];
  const isSilent = entrant === "RawPair";
  let missing = isSilent ? count : 2 * count;
  let last = performance.now();
  const socket = await socketTo(runtime, entrant, "bench", (isCommit, number, at) => {
    const times = isCommit ? committed : delivered;
    // What comes twice counts once.
    if (times[number] !== 0) return;
    times[number] = last = at;
    missing--;
  });
  const begin = performance.now();
  for (let n = 0; n < count; ) {
    for (; n < count && begin + (n * 1000) / load <= performance.now(); n++) {
      sent[n] = performance.now();
      socket.send(String(n));
    }
    await pause(1);
  }
  while (missing > 0) {
    await pause(2);
    if (performance.now() - last > LOST_MS) throw new Error(`${ENTRANTS[entrant]}: ${missing} answers have not come.`);
  }
  socket.close();
  return Array.from(sent, (at, n) => Math.max(committed[n] ?? 0, delivered[n] ?? 0) - at);
}
