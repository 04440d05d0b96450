/** One message after the other at a steady rate: what is billed for each, by a clock that is moved on, and how long it takes, by the real one. */
import { ENTRANTS, type EntrantName } from "../contestants.ts";
import { progress } from "../report.ts";
import type { Latency, Steady } from "../results.ts";
import type { Runtime } from "../runtime.ts";
import type { Costs } from "../words.ts";
import { latencyOf, openLoop } from "./latency.ts";
import { socketTo } from "./socket.ts";

/** A message that has not arrived by then is lost, or as good as lost, in milliseconds. */
const LOST_MS = 30_000;

/**
 * @param runtime one whose clock is moved on
 * @param rates messages a second
 * @param messages of each contestant at each rate. Costs repeat every ten seconds at the latest, so they should be those of some tens of seconds
 */
export async function steadyCosts(
  runtime: Runtime,
  entrants: readonly EntrantName[],
  rates: readonly number[],
  messages: (perSecond: number, entrant: EntrantName) => number,
): Promise<Steady[]> {
  const found: Steady[] = [];
  for (const perSecond of rates) {
    for (const entrant of entrants) {
      progress(`${perSecond} a second: ${ENTRANTS[entrant]}`);
      const count = messages(perSecond, entrant);
      const object = `steady-${perSecond}`;
      const costs = (await (await runtime.ask(entrant, "steady", count, 1000 / perSecond, object)).json()) as Costs;
      const { rowsWritten, rowsRead, alarmsSet, alarmRuns } = costs;
      found.push({
        ...{ entrant, perSecond, messages: count, rowsWritten: rowsWritten / count, rowsRead: rowsRead / count },
        ...{ alarmsSet: alarmsSet / count, alarmRuns: alarmRuns / count },
      });
    }
  }
  progress("");
  return found;
}

/**
 * From the commit to the delivery, at rates at which a contestant could not have the machine for itself: all of them send in turn, each from several objects
 * of which every one sends at that rate. A message of one meets at most the end of another one's.
 *
 * @param objects of each contestant
 * @param messages of each object
 */
export async function steadyLatencies(
  runtime: Runtime,
  entrants: readonly EntrantName[],
  perSecond: number,
  objects: number,
  messages: number,
): Promise<Latency[]> {
  progress(`latency at ${perSecond} a second`);
  const found = new Map<EntrantName, number[]>(entrants.map((entrant) => [entrant, []]));
  const places = Array.from({ length: objects * entrants.length }, (_, place) => entrants[place % entrants.length] as EntrantName);
  const sources = await Promise.all(places.map((entrant, place) => sourceOf(runtime, entrant, `steady-${perSecond}-${place}`)));
  try {
    let nth = 0;
    const one = async (): Promise<number> => {
      const [turn, place] = [Math.floor(nth / sources.length), nth++ % sources.length];
      const value = await sources[place]?.put(turn);
      // The first message of each object makes what it keeps.
      if (turn > 0 && value !== undefined) found.get(places[place] as EntrantName)?.push(value);
      return 0;
    };
    await openLoop(one, perSecond * sources.length, ((messages + 1) / perSecond) * 1000);
  } finally {
    for (const { close } of sources) close();
  }
  progress("");
  return [...found].map(([entrant, values]) => latencyOf(entrant, perSecond, values));
}

/** An object that is told to put. */
interface Source {
  /** Resolves to how long after its commit the message was delivered, in milliseconds. */
  put(number: number): Promise<number>;
  close(): void;
}

async function sourceOf(runtime: Runtime, entrant: EntrantName, object: string): Promise<Source> {
  const waiting = new Map<number, { committed?: number; delivered?: number; done(value: number): void }>();
  const socket = await socketTo(runtime, entrant, object, (isCommit, number, at) => {
    const message = waiting.get(number);
    if (!message) return;
    message[isCommit ? "committed" : "delivered"] ??= at;
    const { committed, delivered, done } = message;
    if (committed === undefined || delivered === undefined) return;
    waiting.delete(number);
    done(delivered - committed);
  });
  return {
    put(number) {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      const late = new Error(`${ENTRANTS[entrant]}: message ${number} has not arrived within ${LOST_MS / 1000} s.`);
      const timer = setTimeout(reject, LOST_MS, late);
      waiting.set(number, { done: resolve });
      socket.send(String(number));
      return promise.finally(() => clearTimeout(timer));
    },
    close: () => socket.close(),
  };
}
