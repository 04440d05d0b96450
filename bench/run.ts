/**
 * Measures what the outbox costs, against storage itself and against everything that one could pick instead.
 *
 *   npm run bench                  everything: some fifteen minutes; writes docs/performance.{json,svg,md}
 *   npm run bench -- --million     the same, and the latencies of a million messages in place of some thousands: seventeen minutes more
 *   npm run bench -- --quick       a few seconds of each, to see that it works; writes nothing
 *   npm run bench -- --only puts,bursts,deliveries,latency,steady,destinations,log,commands,distribution,operations,memory,backlog,recovery,startup,size
 *   npm run bench -- --only distribution --million --keep      writes what was measured into docs/performance.*, beside what the last run has left there
 *
 * On a machine that does something else the numbers mean nothing: the ratios suffer less than the rates, and the counts not at all.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { chart } from "./chart.ts";
import type { EntrantName } from "./contestants.ts";
import { install } from "./install.ts";
import { backlogs } from "./measures/backlog.ts";
import { commands } from "./measures/commands.ts";
import { destinations } from "./measures/destinations.ts";
import { distribution } from "./measures/distribution.ts";
import { latencies } from "./measures/latency.ts";
import { log } from "./measures/log.ts";
import { memory } from "./measures/memory.ts";
import { operations } from "./measures/operations.ts";
import { burst, deliveries, puts } from "./measures/rates.ts";
import { recovery } from "./measures/recovery.ts";
import { sizes } from "./measures/size.ts";
import { startup } from "./measures/startup.ts";
import { steadyCosts, steadyLatencies } from "./measures/steady.ts";
import { wholes } from "./measures/whole.ts";
import { page } from "./page.ts";
import { printAll } from "./print.ts";
import type { Burst, Distribution, Results } from "./results.ts";
import { type Kind, type Runtime, runtime, workerdVersion } from "./runtime.ts";
import { targets } from "./targets.ts";
import type { Destination } from "./words.ts";

const PARTS = [
  ...(["size", "operations", "steady", "puts", "bursts", "deliveries", "latency", "destinations", "log", "commands"] as const),
  ...(["distribution", "startup", "recovery", "memory", "backlog"] as const),
];
type Part = (typeof PARTS)[number];

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    million: { type: "boolean", default: false },
    only: { type: "string" },
    keep: { type: "boolean" },
  },
});
const { quick } = options;
const parts = (options.only?.split(",") ?? PARTS) as Part[];
for (const part of parts)
  if (!PARTS.includes(part)) throw new TypeError(`Expected --only to name some of ${PARTS.join(", ")}, got ${part}.`);

const PEERS: EntrantName[] = ["AgentQueue", "AgentSchedule", "ActorAlarm"];
const OUTBOXES: EntrantName[] = ["HandKv", "HandSql", "Ours", "OursImmediate", "OursSync"];
/** Those that deliver, and not only store. */
const DELIVERING: EntrantName[] = ["DualWrite", ...OUTBOXES, ...PEERS];
/** Those of which a steady rate shows something else than a burst. */
const STEADY: EntrantName[] = ["HandKv", "HandSql", "Ours", "OursImmediate", "OursSettled"];
/** Those whose messages wait for an alarm. */
const WAITING: EntrantName[] = ["HandKv", "HandSql", "Ours", "OursSync"];
const TIMED: EntrantName[] = ["RawState", "RawPair", "OursChecked", "OursValibot", "OursSettled", ...DELIVERING];
const DISTRIBUTED: EntrantName[] = ["RawState", ...STEADY];
/** What a peer can be asked for in reasonable time. */
const LARGEST: Partial<Record<EntrantName, number>> = { AgentQueue: 1000, AgentSchedule: 1000, ActorAlarm: 1000 };
/**
 * Bursts: how many messages, where to, and how many rounds. Small bursts are short and need more of them. The local queue takes no
 * thousands of messages one by one: it has been seen to refuse one, which the dual write then loses.
 */
const BURSTS: [size: number, to: Destination, rounds: number, quick: number, entrants: EntrantName[]][] = [
  [1, "nothing", 200, 5, OUTBOXES],
  [10, "nothing", 200, 5, OUTBOXES],
  [100, "nothing", 200, 5, OUTBOXES],
  [1000, "nothing", 40, 2, OUTBOXES],
  [10_000, "nothing", 10, 1, OUTBOXES],
  [100, "nothing", 5, 1, ["Ours", ...PEERS]],
  [1000, "nothing", 10, 1, ["Ours", ...PEERS]],
  [100, "queue", 40, 2, ["HandKv", "HandSql", "Ours", "OursImmediate", "DualWrite"]],
  [1000, "queue", 15, 1, ["HandKv", "HandSql", "Ours", "OursImmediate"]],
  [100, "object", 40, 2, ["HandKv", "HandSql", "Ours", "OursImmediate", "DualWrite"]],
  [1000, "object", 15, 1, ["HandKv", "HandSql", "Ours", "OursImmediate", "DualWrite"]],
];

install();
const measured = await measure();
if (options.only === undefined || options.keep) {
  const docs = new URL("../docs/", import.meta.url);
  const kept = options.keep ? (JSON.parse(readFileSync(new URL("performance.json", docs), "utf8")) as Results) : undefined;
  const merged = { ...kept, ...measured } as Results;
  const results: Results = { ...merged, targets: targets(merged) };
  const text = page(readFileSync(new URL("performance.md", docs), "utf8"), results);
  const drawn = chart(results);
  // A quick run writes nothing, and has tried all of it.
  if (!quick) {
    writeFileSync(new URL("performance.json", docs), `${JSON.stringify(results, null, 2)}\n`);
    writeFileSync(new URL("performance.svg", docs), drawn);
    writeFileSync(new URL("performance.md", docs), text);
  }
}
// Time decides nothing; what is counted does.
if (measured.targets?.some(({ counted, met }) => counted && !met)) process.exitCode = 1;

/** Everything is printed as soon as it is known. */
async function measure(): Promise<Partial<Results>> {
  const found: { -readonly [K in keyof Results]?: Results[K] } = {};
  const add = <K extends keyof Results>(name: K, value: Results[K]): void => {
    found[name] = value;
    printAll({ [name]: value });
  };
  const part = async (name: Part, work: () => Promise<void>): Promise<void> => {
    if (!parts.includes(name)) return;
    const begin = performance.now();
    await work();
    console.log(`\n${name}: ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  };
  add("quick", quick);
  add("machine", {
    cpus: cpus().length,
    model: cpus()[0]?.model ?? "unknown",
    workerd: workerdVersion(),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  });
  await part("size", async () => add("sizes", await sizes()));
  await part("operations", async () => {
    const bursts = quick ? [1, 100] : [1, 2, 10, 100, 1000, 10_000];
    const work = (runtime: Runtime) => operations(runtime, DELIVERING, bursts, LARGEST, quick ? 1 : 20);
    add("operations", await within("Counted", DELIVERING, work));
  });
  await part("steady", async () => add("steady", await steady()));
  if ((["puts", "bursts", "deliveries", "latency", "distribution"] as const).some((name) => parts.includes(name))) {
    await within("", TIMED, async (runtime) => {
      await part("puts", async () => add("puts", await allPuts(runtime)));
      await part("bursts", async () => {
        found.bursts = await allBursts(runtime);
      });
      await part("deliveries", async () => {
        const sizes = quick ? [1000] : [1000, 10_000];
        const all: Burst[] = [];
        for (const size of sizes) all.push(await deliveries(runtime, WAITING, "Ours", size, quick ? 2 : size > 1000 ? 8 : 40));
        add("deliveries", all);
      });
      await part("latency", async () => {
        add("latencies", [
          ...(await latencies(runtime, quick ? OUTBOXES : [...OUTBOXES, ...PEERS], 0, quick ? 0.2 : 7)),
          ...(await latencies(runtime, OUTBOXES, quick ? 100 : 500, quick ? 0.2 : 7)),
        ]);
        add("wholes", await wholes(runtime, quick ? 100 : 500, quick ? 1 : 60));
      });
      await part("distribution", async () => {
        const all: Distribution[] = [];
        for (const entrant of quick ? (["RawState", "OursImmediate"] as const) : DISTRIBUTED)
          all.push(await distribution(runtime, entrant, countOf(entrant), 4, 250));
        add("distributions", all);
      });
    });
  }
  await part("destinations", async () => add("destinations", await (quick ? destinations(1, [100]) : destinations(20, [1, 100, 1000]))));
  await part("log", async () => add("log", await log(quick ? 1000 : 10_000, quick ? 2 : 30, quick ? 0.2 : 5)));
  await part("commands", async () => {
    const work = (runtime: Runtime) => commands(runtime, quick ? 50 : 100, quick ? 1 : 20);
    add("commands", await within("", ["OursEvents", "OursEventsChecked"], work));
  });
  await part("startup", async () => add("startup", await startup(quick ? 1 : 10)));
  await part("recovery", async () => add("recovery", await recovery(quick ? 2000 : 100_000)));
  await part("memory", async () => {
    const started = await runtime("", ["Ours"], true);
    try {
      add("memory", await memory(started, quick ? 20_000 : 1_000_000));
    } finally {
      await started.dispose();
    }
  });
  await part("backlog", async () => add("backlogs", await backlogs(quick ? 10_000 : 1_000_000)));
  add("targets", targets(found));
  return found;
}

async function allPuts(runtime: Runtime): Promise<Results["puts"]> {
  const entrants: EntrantName[] = ["RawState", "RawPair", "OursChecked", "OursValibot", ...OUTBOXES];
  const here = await puts(runtime, entrants, "Ours", quick ? 100 : 1000, quick ? 5 : 200);
  // What these leave behind takes them seconds to work off.
  const peers = await puts(runtime, ["Ours", ...PEERS], "Ours", 100, quick ? 1 : 10);
  return { ...here, rates: { ...peers.rates, ...here.rates }, ratios: { ...peers.ratios, ...here.ratios } };
}

async function allBursts(runtime: Runtime): Promise<Burst[]> {
  const bursts: Burst[] = [];
  for (const [size, to, rounds, few, entrants] of BURSTS) {
    const each = await burst(runtime, entrants, "Ours", size, to, quick ? few : rounds);
    printAll({ bursts: [each] });
    bursts.push(each);
  }
  return bursts;
}

/** Rows by a clock that is moved on, latencies by the real one. */
async function steady(): Promise<Results["steady"]> {
  const counted: EntrantName[] = quick ? STEADY : ["DualWrite", ...STEADY, ...PEERS];
  // An alarm that is set ahead rings every ten seconds. For the others a message costs what the one before has cost.
  const isAhead = (entrant: EntrantName): boolean => entrant === "OursImmediate" || entrant === "OursSettled";
  const messages = (perSecond: number, entrant: EntrantName): number => {
    if (quick) return 40;
    return isAhead(entrant) ? Math.max(100, perSecond * 10) : 100;
  };
  const rates = quick ? [1] : [0.1, 1, 10, 100];
  const costs = await within("Paced", counted, (runtime) => steadyCosts(runtime, counted, rates, messages));
  const latencies = await within("", STEADY, async (runtime) => {
    if (quick) return steadyLatencies(runtime, STEADY, 10, 1, 2);
    const found = [
      ...(await steadyLatencies(runtime, STEADY, 0.1, 40, 2)),
      ...(await steadyLatencies(runtime, STEADY, 1, 20, 10)),
      ...(await steadyLatencies(runtime, STEADY, 10, 2, 100)),
    ];
    // One after the other: all at once would be too much.
    for (const entrant of STEADY) found.push(...(await steadyLatencies(runtime, [entrant], 100, 1, 500)));
    return found;
  });
  return { costs, latencies };
}

/** Messages of a contestant whose latencies are shown as a distribution. */
function countOf(entrant: EntrantName): number {
  if (quick) return 400;
  return options.million && entrant === "OursImmediate" ? 1_000_000 : 10_000;
}

async function within<R>(kind: Kind, entrants: readonly EntrantName[], work: (runtime: Runtime) => Promise<R>): Promise<R> {
  const started = await runtime(kind, entrants);
  try {
    return await work(started);
  } finally {
    await started.dispose();
  }
}
