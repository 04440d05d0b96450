/**
 * Latencies of very many messages. A request for each would cost more than what it measures: here each object has a socket, over which it is told to put, and
 * says when each message was committed, and when it was delivered.
 */
import { setTimeout as pause } from "node:timers/promises";
import { ENTRANTS, type EntrantName } from "../contestants.ts";
import { Histogram } from "../histogram.ts";
import { progress } from "../report.ts";
import type { Distribution } from "../results.ts";
import type { Runtime } from "../runtime.ts";
import { socketTo } from "./socket.ts";

/** Messages of each object before the first that counts, and their share of those that do. */
const WARM_UP = 500;
const WARM_UP_SHARE = 1 / 10;
/** When nothing has come for so long, in milliseconds, something is lost. */
const LOST_MS = 20_000;
/** Those that deliver nothing. */
const SILENT: readonly EntrantName[] = ["RawState", "RawPair"];

/**
 * @param messages of the contestant, all objects together
 * @param perSecond of each object
 */
export async function distribution(
  runtime: Runtime,
  entrant: EntrantName,
  messages: number,
  objects: number,
  perSecond: number,
): Promise<Distribution> {
  const each = Math.ceil(messages / objects);
  const [put, delivery] = [new Histogram(), new Histogram()];
  const hasDelivery = !SILENT.includes(entrant);
  const told = (): void =>
    progress(`distribution: ${ENTRANTS[entrant]}, ${put.count.toLocaleString("en")} of ${messages.toLocaleString("en")}`);
  const timer = setInterval(told, 1000);
  try {
    const work = Array.from({ length: objects }, async (_, nth) => {
      // Not all of them in the same millisecond.
      await pause((nth * 1000) / perSecond / objects);
      await ofOne(runtime, entrant, `distribution-${nth}`, each, perSecond, put, hasDelivery ? delivery : null);
    });
    await Promise.all(work);
  } finally {
    clearInterval(timer);
    progress("");
  }
  return { entrant, messages: put.count, objects, perSecond, put: put.times(), delivery: hasDelivery ? delivery.times() : null };
}

/** The messages of one object: by the clock, whatever becomes of them. What is late is made up for. */
async function ofOne(
  runtime: Runtime,
  entrant: EntrantName,
  object: string,
  count: number,
  perSecond: number,
  put: Histogram,
  delivery: Histogram | null,
): Promise<void> {
  const warmUp = Math.min(WARM_UP, Math.ceil(count * WARM_UP_SHARE));
  const all = warmUp + count;
  const [sent, committed, delivered] = [new Float64Array(all), new Float64Array(all), new Float64Array(all)];
  let missing = delivery ? 2 * all : all;
  let last = performance.now();
  const socket = await socketTo(runtime, entrant, object, (isCommit, n, at) => {
    last = at;
    const times = isCommit ? committed : delivered;
    // What comes twice counts once.
    if (!(n < all) || times[n] !== 0) return;
    times[n] = at;
    missing--;
    if (n < warmUp) return;
    if (isCommit) put.add(at - (sent[n] as number));
    if (committed[n] && delivered[n]) delivery?.add((delivered[n] as number) - (committed[n] as number));
  });
  const begin = performance.now();
  for (let n = 0; n < all; ) {
    for (; n < all && begin + (n * 1000) / perSecond <= performance.now(); n++) {
      sent[n] = performance.now();
      socket.send(String(n));
    }
    await pause(1);
  }
  while (missing > 0) {
    await pause(10);
    if (performance.now() - last > LOST_MS)
      throw new Error(`${ENTRANTS[entrant]}: ${missing} answers have not come within ${LOST_MS / 1000} s.`);
  }
  socket.close();
}
