/** Everything that was measured, in the terminal. */

import { ENTRANTS } from "./contestants.ts";
import { dollars } from "./dollars.ts";
import { heading, printRates, printTargets, table } from "./report.ts";
import type { Results } from "./results.ts";

export function printAll(results: Partial<Results>): void {
  const {
    machine,
    quick,
    puts,
    bursts = [],
    latencies = [],
    operations = [],
    backlogs = [],
    recovery,
    startup,
    sizes = [],
    targets,
  } = results;
  if (machine) heading(`workerd ${machine.workerd} on ${machine.cpus} × ${machine.model}`);
  if (quick) heading("a quick run: the numbers mean little");
  for (const rates of [...(puts ? [puts] : []), ...bursts]) printRates(rates);
  if (latencies.length > 0) {
    heading("from commit to delivery, in milliseconds");
    table(
      ["", "load a second", "p50", "p95", "p99"],
      latencies.map(({ entrant, load, p50, p95, p99 }) => [ENTRANTS[entrant], load, p50, p95, p99]),
    );
  }
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
