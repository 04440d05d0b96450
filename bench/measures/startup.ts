/** What a wrapped object that waits for nothing costs at its start: what it does to storage, counted, and time, from outside. */
import { setTimeout as pause } from "node:timers/promises";
import { type Life, type Place, placeOf } from "../../test/process/kill-loop-runtime.ts";
import { progress } from "../report.ts";
import { quantile, type Startup, spread } from "../results.ts";

type ClassName = "Bare" | "Wrapped" | "Counted";

/** Of what worker/ledger.ts counts. */
interface Costs {
  readonly reads: number;
  readonly rowsWritten: number;
  readonly alarmsSet: number;
}

/** A first request to an object of each class, in microseconds. */
interface Pair {
  readonly bare: number;
  readonly wrapped: number;
}

/** Objects of each class that are measured after a restart. */
const OBJECTS = 100;
/** Objects of each class before those: the first requests of a process are slow, whomever they go to. */
const WARM_UP = 20;
/** A message that is not delivered by then, in milliseconds, never is. */
const IDLE_MS = 10_000;

/**
 * Every object has been used once and has come to rest: a wrapped one has sent a message, so its header is there to be
 * read. Then workerd ends and starts on the same folder, so that no object is in memory. The class has no alarm of its own.
 *
 * The time of a request includes its connection, for both classes alike.
 *
 * @param rounds restarts
 */
export async function startup(rounds: number): Promise<Startup> {
  const names: ClassName[] = ["Bare", "Wrapped", "Counted"];
  const place = await placeOf(
    new URL("../worker/start.ts", import.meta.url),
    names.map((name) => ({ name, sqlite: true })),
  );
  try {
    progress("startup: using all objects once");
    await living(place, 0, useAll);
    const costs: Costs[] = [];
    const pairs: Pair[] = [];
    for (let round = 1; round <= rounds; round++) {
      progress(`startup: restart ${round} of ${rounds}`);
      await living(place, round, async (life) => {
        pairs.push(...(await firstRequests(life)));
        costs.push(await life.call<Costs>("Counted", "costs", 0));
      });
    }
    progress("");
    return {
      ...same(costs),
      bareMicroseconds: spread(pairs.map(({ bare }) => bare)),
      wrappedMicroseconds: spread(pairs.map(({ wrapped }) => wrapped)),
      moreMicroseconds: quantile(
        pairs.map(({ bare, wrapped }) => wrapped - bare),
        0.5,
      ),
    };
  } finally {
    place.remove();
  }
}

/** A start of workerd, and its end. */
async function living(place: Place, number: number, work: (life: Life) => Promise<void>): Promise<void> {
  const life = place.start(number);
  try {
    await life.ready;
    await work(life);
  } catch (error) {
    throw new Error(`The startup measure has failed. ${life.log()}`, { cause: error });
  } finally {
    await life.end();
  }
}

async function useAll(life: Life): Promise<void> {
  await use(life, "Counted", 0);
  for (let number = 0; number < WARM_UP + OBJECTS; number++) {
    await Promise.all([use(life, "Bare", number), use(life, "Wrapped", number)]);
  }
}

async function use(life: Life, name: ClassName, number: number): Promise<void> {
  await life.call(name, "use", number);
  const late = performance.now() + IDLE_MS;
  while (!(await life.call<boolean>(name, "idle", number))) {
    if (performance.now() > late) throw new Error(`${name} ${number} does not come to rest.`);
    await pause(1);
  }
}

/** Bare and wrapped in turn, and in turn the first of the two. */
async function firstRequests(life: Life): Promise<Pair[]> {
  const pairs: Pair[] = [];
  for (let number = 0; number < WARM_UP + OBJECTS; number++) {
    const took = { Bare: 0, Wrapped: 0 };
    for (const name of number % 2 === 0 ? (["Bare", "Wrapped"] as const) : (["Wrapped", "Bare"] as const)) {
      const begin = performance.now();
      const found = await life.call<boolean>(name, "look", number);
      took[name] = (performance.now() - begin) * 1000;
      if (!found) throw new Error(`${name} ${number} has lost its state.`);
    }
    if (number >= WARM_UP) pairs.push({ bare: took.Bare, wrapped: took.Wrapped });
  }
  return pairs;
}

/** What is counted is the same at every start, or it is no count. */
function same(costs: readonly Costs[]): Pick<Startup, "reads" | "writes"> {
  const counts = costs.map(({ reads, rowsWritten, alarmsSet }) => ({ reads, writes: rowsWritten + alarmsSet }));
  const [first] = counts;
  if (!first || counts.some(({ reads, writes }) => reads !== first.reads || writes !== first.writes)) {
    throw new Error(`The starts of an idle object differ: ${JSON.stringify(counts)}`);
  }
  return first;
}
