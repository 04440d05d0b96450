/** The log: what a page, a put and a delivery cost where as many messages as wanted are kept, beside an object that keeps a thousand. */
import { placeOf } from "../process/kill-loop-runtime.ts";
import { Box, FILLED, MOST_RATIO, millisecondsOf, type PerMessage, perMessage } from "./load.ts";
import { PAGE } from "./words.ts";

/** What the other object keeps at first. */
const FEW = 1000;
/** Both are measured in turns, so that what else the machine does falls on both. A measurement is the best of these. */
const ROUNDS = 30;
/** Messages that are put, and delivered, for one measurement, and pages that are read, from positions spread evenly over the log. */
const MEASURED = 100;
const PAGES = 20;
/** How much more one page may read than another: the place of the first row takes a look or two. */
const ONE_MORE = 1;

const PARTS = ["put", "delivery", "forward", "backward"] as const;
/** Beside each time that of storage alone, for the same calls: it is storage that has more to look through. */
interface Cost extends PerMessage {
  readonly native: number;
}

/** Of a put and of a delivery by message, of reading by page. */
type Costs = Record<(typeof PARTS)[number], Cost>;

export interface KeptReport {
  readonly backend: string;
  readonly kept: number;
  readonly few: Costs;
  readonly many: Costs;
  readonly peakBytes: number;
  readonly seconds: number;
  readonly wrong: readonly string[];
}

export async function retained(backend: "Sqlite" | "Kv", kept: number, progress: (text: string) => void): Promise<KeptReport> {
  const began = performance.now();
  const names = [`${backend}ShortLog`, `${backend}Log`] as const;
  const classes = names.map((name) => ({ name, sqlite: backend === "Sqlite" }));
  const place = await placeOf(new URL("worker/load.ts", import.meta.url), classes);
  const life = place.start(1);
  try {
    await life.ready;
    const [short, long] = names.map((name) => new Box(life, name)) as [Box, Box];
    for (const name of names) await life.call(name, "pause");
    progress(`${backend}: ${kept} kept`);
    await filled(long, kept);
    // Last: an object that nobody calls for ten seconds begins a new life, and knows no more what it has delivered.
    await filled(short, FEW);
    const rounds: { readonly few: Costs; readonly many: Costs }[] = [];
    for (let round = 0; round < ROUNDS; round++) rounds.push({ few: await measured(short), many: await measured(long) });
    const [few, many] = (["few", "many"] as const).map((which) => best(rounds.map((round) => round[which]))) as [Costs, Costs];
    const wrong = growth(few, many);
    for (const { disordered } of [short, long]) if (disordered > 0) wrong.push(`${disordered} messages came again or out of order`);
    return { backend, kept, few, many, peakBytes: life.peakBytes(), seconds: (performance.now() - began) / 1000, wrong };
  } catch (error) {
    throw new Error(`The log has failed. ${life.log()}`, { cause: error });
  } finally {
    await life.end();
    place.remove();
  }
}

async function filled(box: Box, kept: number): Promise<void> {
  while (box.stored < kept) {
    await box.fill(Math.min(FILLED, kept - box.stored));
    while (box.waiting > 0) await box.deliver(box.waiting);
  }
}

async function measured(box: Box): Promise<Costs> {
  const put = await besideNative(box, () => box.put(MEASURED), MEASURED);
  // What a delivery calls depends on what came before: it cannot be repeated.
  const delivery = { ...(await perMessage(box, () => box.deliver(MEASURED), MEASURED)), native: Number.NaN };
  const step = Math.floor((box.stored - 2 * PAGE) / PAGES);
  const positions = Array.from({ length: PAGES }, (_, i) => PAGE + 1 + i * step);
  const forward = await besideNative(box, () => box.pages(positions, "forward"), PAGES);
  const backward = await besideNative(box, () => box.pages(positions, "backward"), PAGES);
  return { put, delivery, forward, backward };
}

async function besideNative(box: Box, work: () => Promise<void>, count: number): Promise<Cost> {
  let native = 0;
  const cost = await perMessage(
    box,
    async () => {
      await work();
      native = await millisecondsOf(() => box.repeat());
    },
    count,
  );
  native = (native * 1000) / count;
  return { ...cost, microseconds: cost.microseconds - native, native };
}

/** The shortest times, and what was counted on the average. */
function best(rounds: readonly Costs[]): Costs {
  const of = (part: keyof Costs): Cost => {
    const all = rounds.map((round) => round[part]);
    const mean = (count: "rows" | "reads" | "read"): number => all.reduce((sum, each) => sum + each[count], 0) / all.length;
    return {
      rows: mean("rows"),
      reads: mean("reads"),
      read: mean("read"),
      microseconds: Math.min(...all.map((each) => each.microseconds)),
      native: Math.min(...all.map((each) => each.native)),
    };
  };
  return { put: of("put"), delivery: of("delivery"), forward: of("forward"), backward: of("backward") };
}

/** What costs more in storage where many are kept. Times are the machine's, and only told. */
function growth(few: Costs, many: Costs): string[] {
  return PARTS.flatMap((part) =>
    (["rows", "reads", "read"] as const).flatMap((count) => {
      const isPage = part === "forward" || part === "backward";
      const most = isPage ? few[part][count] + ONE_MORE : few[part][count] * MOST_RATIO;
      return many[part][count] <= most ? [] : [`${part}: ${many[part][count]} ${count}, and ${few[part][count]} where few are kept`];
    }),
  );
}

export function keptTable({ backend, kept, few, many, peakBytes, seconds, wrong }: KeptReport): string {
  const cells = (row: readonly string[]): string => row.map((cell) => cell.padStart(16)).join("");
  const line = (part: (typeof PARTS)[number], name: string): string =>
    cells([
      name,
      ...(["rows", "reads", "read"] as const).flatMap((count) => [`${few[part][count].toFixed(2)} → ${many[part][count].toFixed(2)}`]),
      `${few[part].microseconds.toFixed(0)} → ${many[part].microseconds.toFixed(0)} µs`,
      (many[part].microseconds / few[part].microseconds).toFixed(2),
      ...(Number.isNaN(few[part].native)
        ? []
        : [`${few[part].native.toFixed(0)} → ${many[part].native.toFixed(0)} µs`, (many[part].native / few[part].native).toFixed(2)]),
    ]);
  return [
    `log, ${backend}: from ${FEW.toLocaleString("en")} to ${kept.toLocaleString("en")} messages kept, in ${seconds.toFixed(0)} s, peak memory of workerd ${(peakBytes / 2 ** 20).toFixed(0)} MiB; ${wrong.length === 0 ? "costs are flat" : `BROKEN: ${wrong.join("; ")}`}`,
    cells(["", "rows written", "reads", "keys read", "time", "ratio", "storage alone", "ratio"]),
    line("put", "put"),
    line("delivery", "delivery"),
    line("forward", `page of ${PAGE}`),
    line("backward", "backwards"),
  ].join("\n");
}
