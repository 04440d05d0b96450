/** What one more message costs while more and more wait in one object. */
import { load } from "../../test/soak/load.ts";
import { progress } from "../report.ts";
import type { Backlog } from "../results.ts";

/** The load of the soak test does the work: it has an object of its own, its own workerd, and checks that all are delivered once and in order. */
export async function backlogs(messages: number): Promise<Backlog[]> {
  const { measures, wrong } = await load("SqliteBox", messages, (text) => progress(`backlog, ${text}`));
  progress("");
  if (wrong.length > 0) throw new Error(`The load is broken: ${wrong.join("; ")}`);
  return measures.map(({ backlog, put, delivery, peakBytes }) => ({
    pending: backlog,
    rowsPerPut: put.rows,
    rowsPerDelivery: delivery.rows,
    readsPerDelivery: delivery.reads,
    microsecondsPerPut: put.microseconds,
    microsecondsPerDelivery: delivery.microseconds,
    peakMiB: peakBytes / 2 ** 20,
  }));
}
