/** Everything that was measured, in the terminal. */

import { ENTRANTS } from "./contestants.ts";
import { dollars } from "./dollars.ts";
import { heading, printRates, printTargets, table } from "./report.ts";
import type { Destinations, Distribution, Latency, Log, Results } from "./results.ts";

export function printAll(results: Partial<Results>): void {
  const {
    machine,
    quick,
    puts,
    bursts = [],
    deliveries = [],
    steady,
    destinations,
    log,
    commands,
    distributions = [],
    latencies = [],
    wholes = [],
    operations = [],
    backlogs = [],
    memory,
    recovery,
    startup,
    sizes = [],
    targets,
  } = results;
  if (machine) heading(`workerd ${machine.workerd} on ${machine.cpus} × ${machine.model}`);
  if (quick) heading("a quick run: the numbers mean little");
  for (const rates of [puts, ...bursts, ...deliveries, commands]) if (rates) printRates(rates);
  if (steady) printSteady(steady);
  if (destinations) printDestinations(destinations);
  if (log) printLog(log);
  if (distributions.length > 0) printDistributions(distributions);
  printLatencies("from commit to delivery, in milliseconds", latencies);
  printLatencies("from request to delivery, in milliseconds: the raw pair to its answer", wholes);
  if (operations.length > 0) {
    heading("billed operations of a message, its state's row included");
    table(
      ["", "burst", "rows written", "rows read", "alarms set", "alarm runs"],
      operations.map((each) => [ENTRANTS[each.entrant], each.burst, each.rowsWritten, each.rowsRead, each.alarmsSet, each.alarmRuns]),
    );
    heading("a million messages, in dollars");
    table(
      ["", "burst", "dollars"],
      dollars(operations).map(({ entrant, burst, sum }) => [ENTRANTS[entrant], burst, sum.toFixed(3)]),
    );
  }
  if (backlogs.length > 0) {
    heading("one more message while so many wait");
    table(
      ["waiting", "rows a put", "rows a delivery", "reads a delivery", "µs a put", "µs a delivery", "peak MiB"],
      backlogs.map((each) => [
        each.pending.toLocaleString("en"),
        each.rowsPerPut,
        each.rowsPerDelivery,
        each.readsPerDelivery,
        each.microsecondsPerPut,
        each.microsecondsPerDelivery,
        each.peakMiB,
      ]),
    );
  }
  if (memory) {
    heading("the heap of an object's isolate, in MiB");
    table(["waiting", "least", "most"], [[memory.pending.toLocaleString("en"), memory.leastMiB, memory.mostMiB]]);
  }
  if (recovery) {
    const { pending, startMs, firstMs, allMs, lost } = recovery;
    heading(`after a SIGKILL with ${pending.toLocaleString("en")} messages waiting, in milliseconds`);
    table(["", "process ready", "first message", "last message", "lost"], [["", startMs, firstMs, allMs, lost]]);
  }
  if (startup) {
    const { reads, writes, bareMicroseconds, wrappedMicroseconds, moreMicroseconds } = startup;
    heading("the start of an idle object");
    table(
      ["reads", "writes", "µs bare", "µs wrapped", "µs more"],
      [[String(reads), writes, bareMicroseconds.median, wrappedMicroseconds.median, moreMicroseconds]],
    );
  }
  if (sizes.length > 0) {
    heading("bundles, in bytes");
    table(
      ["", "minified", "gzipped"],
      sizes.map(({ name, minified, gzipped }) => [name, minified, gzipped]),
    );
  }
  if (targets && targets.length > 0) printTargets(targets);
}

function printLatencies(title: string, latencies: readonly Latency[]): void {
  if (latencies.length === 0) return;
  heading(title);
  table(
    ["", "load a second", "messages", "p50", "p95", "p99"],
    latencies.map(({ entrant, load, count, p50, p95, p99 }) => [ENTRANTS[entrant], load, count, p50, p95, p99]),
  );
}

function printSteady({ costs, latencies }: Results["steady"]): void {
  heading("billed operations of a message at a steady rate, its state's row included");
  table(
    ["", "a second", "messages", "rows written", "rows read", "alarms set", "alarm runs"],
    costs.map((each) => [
      ...[ENTRANTS[each.entrant], each.perSecond, each.messages],
      ...[each.rowsWritten, each.rowsRead, each.alarmsSet, each.alarmRuns],
    ]),
  );
  printLatencies("from commit to delivery at a steady rate, in milliseconds", latencies);
}

function printDestinations({ counts, puts, bursts }: Destinations): void {
  heading("billed operations of a message, by destinations, its state's row included");
  table(
    ["", "burst", "rows written", "alarms set", "alarm runs"],
    counts.map((each) => [ENTRANTS[each.entrant], each.burst, each.rowsWritten, each.alarmsSet, each.alarmRuns]),
  );
  for (const rates of [puts, ...bursts]) printRates(rates);
}

function printLog({ readings, tail }: Log): void {
  for (const { rates, rowsRead } of readings) {
    printRates(rates);
    console.log(
      `  rows read for a message: ${Object.entries(rowsRead)
        .map(([entrant, rows]) => `${entrant} ${rows.toFixed(3)}`)
        .join(", ")}`,
    );
  }
  printLatencies("from commit to the line of the tail, and to an immediate delivery, in milliseconds", tail);
}

function printDistributions(distributions: readonly Distribution[]): void {
  heading("latencies of very many messages, in milliseconds");
  table(
    ["", "messages", "p50", "p90", "p99", "p99.9", "most"],
    distributions.flatMap(({ entrant, messages, put, delivery }) =>
      (
        [
          ["request to commit", put],
          ["commit to delivery", delivery],
        ] as const
      ).flatMap(([what, times]) =>
        times ? [[`${ENTRANTS[entrant]}, ${what}`, messages, times.p50, times.p90, times.p99, times.p999, times.most]] : [],
      ),
    ),
  );
}
