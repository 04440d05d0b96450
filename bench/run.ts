/**
 * Measures what the outbox costs, against storage itself and against everything that one could pick instead.
 *
 *   npm run bench                  everything: some fifteen minutes; writes docs/performance.{json,svg,md}
 *   npm run bench -- --quick       a few seconds of each, to see that it works; writes nothing
 *   npm run bench -- --only puts,bursts,latency,operations,backlog,recovery,startup
 *
 * On a machine that does something else the numbers mean nothing: the ratios suffer less than the rates, and the counts not at all.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { chart } from "./chart.ts";
import { ENTRANTS, type EntrantName } from "./contestants.ts";
import { install } from "./install.ts";
import { backlogs } from "./measures/backlog.ts";
import { latencies } from "./measures/latency.ts";
import { operations } from "./measures/operations.ts";
import { burst, puts } from "./measures/rates.ts";
import { recovery } from "./measures/recovery.ts";
import { sizes } from "./measures/size.ts";
import { startup } from "./measures/startup.ts";
import { page } from "./page.ts";
import { printAll } from "./print.ts";
import type { Burst, Results } from "./results.ts";
import { type Runtime, runtime, workerdVersion } from "./runtime.ts";
import { targets } from "./targets.ts";
import type { Destination } from "./words.ts";

const PARTS = ["puts", "bursts", "latency", "operations", "backlog", "recovery", "startup", "size"] as const;
type Part = (typeof PARTS)[number];

const { values: options } = parseArgs({ options: { quick: { type: "boolean", default: false }, only: { type: "string" } } });
const { quick } = options;
const parts = (options.only?.split(",") ?? PARTS) as Part[];
for (const part of parts)
  if (!PARTS.includes(part)) throw new TypeError(`Expected --only to name some of ${PARTS.join(", ")}, got ${part}.`);

const ALL = Object.keys(ENTRANTS) as EntrantName[];
/** Those that deliver, and not only store. */
const DELIVERING = ALL.filter((name) => name !== "RawState" && name !== "RawPair" && name !== "OursChecked");
const PEERS: EntrantName[] = ["AgentQueue", "AgentSchedule", "ActorAlarm"];
const OUTBOXES: EntrantName[] = ["HandKv", "HandSql", "Ours", "OursImmediate", "OursSync"];
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
if (options.only === undefined) {
  const results = measured as Results;
  const docs = new URL("../docs/", import.meta.url);
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
  add("quick", quick);
  add("machine", {
    cpus: cpus().length,
    model: cpus()[0]?.model ?? "unknown",
    workerd: workerdVersion(),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  });
  if (parts.includes("size")) add("sizes", await sizes());
  if (parts.includes("operations")) {
    const bursts = quick ? [1, 100] : [1, 2, 10, 100, 1000, 10_000];
    add("operations", await within(true, (runtime) => operations(runtime, DELIVERING, bursts, LARGEST, quick ? 1 : 20)));
  }
  await within(false, async (runtime) => {
    if (parts.includes("puts")) {
      const here = await puts(runtime, ["RawState", "RawPair", "OursChecked", ...OUTBOXES], "Ours", quick ? 100 : 1000, quick ? 5 : 200);
      // What these leave behind takes them seconds to work off.
      const peers = await puts(runtime, ["Ours", ...PEERS], "Ours", 100, quick ? 1 : 10);
      add("puts", { ...here, rates: { ...peers.rates, ...here.rates }, ratios: { ...peers.ratios, ...here.ratios } });
    }
    if (parts.includes("bursts")) {
      const bursts: Burst[] = [];
      for (const [size, to, rounds, few, entrants] of BURSTS) {
        const each = await burst(runtime, entrants, "Ours", size, to, quick ? few : rounds);
        printAll({ bursts: [each] });
        bursts.push(each);
      }
      found.bursts = bursts;
    }
    if (parts.includes("latency")) {
      add("latencies", [
        ...(await latencies(runtime, quick ? OUTBOXES : [...OUTBOXES, ...PEERS], 0, quick ? 0.2 : 10)),
        ...(await latencies(runtime, OUTBOXES, quick ? 100 : 500, quick ? 0.2 : 10)),
      ]);
    }
  });
  if (parts.includes("startup")) add("startup", await startup(quick ? 1 : 10));
  if (parts.includes("recovery")) add("recovery", await recovery(quick ? 2000 : 100_000));
  if (parts.includes("backlog")) add("backlogs", await backlogs(quick ? 10_000 : 1_000_000));
  add("targets", targets(found));
  return found;
}

async function within<R>(counted: boolean, work: (runtime: Runtime) => Promise<R>): Promise<R> {
  const started = await runtime(counted);
  try {
    return await work(started);
  } finally {
    await started.dispose();
  }
}
