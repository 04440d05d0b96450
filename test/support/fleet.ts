/** A fleet in memory: enough of one for the page to be driven. */
import type { Fleet, FleetBatch, FleetEntry, FleetTrouble } from "../../src/inspector/index.ts";

const ERRORS = ["503 Service Unavailable", "connect ECONNREFUSED", "422 Unprocessable: postcode", "timeout after 30 s"];
const KINDS: readonly (readonly FleetTrouble[])[] = [["dead", "breaker"], ["dead"], ["breaker"], ["stuck"], ["paused"]];

/** A fleet of 60 destinations in trouble. */
export function fleetOf(): Fleet {
  const now = Date.now();
  const entries = Array.from({ length: 60 }, (_, n): FleetEntry => {
    const troubles = KINDS[n % KINDS.length] ?? ["dead"];
    return {
      namespace: "ORDERS",
      id: n.toString(16).padStart(64, "0"),
      name: n === 0 ? "order-1007" : `order-${n < 41 ? 2000 + n : 3000 + n}`,
      destination: n % 3 === 0 ? "billing" : "search",
      troubles,
      dead: troubles.includes("dead") ? 240 - 2 * n : 0,
      waiting: 500 - n,
      ...(troubles[0] !== "paused" && { error: ERRORS[n % ERRORS.length] as string }),
      since: now - (n + 1) * 300_000,
      reportedAt: now - n * 1000,
    };
  });
  const batches: FleetBatch[] = [];
  const matching = ({
    search = "",
    destination,
    trouble,
    namespace,
  }: {
    search?: string;
    destination?: string;
    trouble?: string;
    namespace?: string;
  }) =>
    entries.filter(
      (each) =>
        (each.name ?? "").includes(search) &&
        (!destination || each.destination === destination) &&
        (!namespace || each.namespace === namespace) &&
        (!trouble || each.troubles.includes(trouble as FleetTrouble)),
    );
  const change = (id: string, state: FleetBatch["state"]): FleetBatch | null => {
    const at = batches.findIndex((each) => each.id === id);
    const batch = batches[at];
    if (!batch) return null;
    const changed = { ...batch, state };
    batches[at] = changed;
    return changed;
  };
  return {
    async list(query) {
      const all = matching(query);
      const begin = Number(query.after ?? 0);
      const end = begin + (query.limit ?? 50);
      const counts: Partial<Record<FleetTrouble, number>> = {};
      for (const each of all) for (const trouble of each.troubles) counts[trouble] = (counts[trouble] ?? 0) + 1;
      const page = { entries: all.slice(begin, end), total: all.length, troubles: counts, destinations: ["billing", "search"] };
      return end < all.length ? { ...page, next: String(end) } : page;
    },
    async start({ action, filter }) {
      const total = matching(filter).length;
      const batch: FleetBatch = {
        ...{ id: `batch-${batches.length + 1}`, action, filter, state: "running", startedAt: Date.now() },
        ...{ total, done: Math.floor(total / 3), failed: 1, messages: 730, error: "order-2033: the object could not be reached" },
      };
      batches.unshift(batch);
      return batch;
    },
    batches: async () => batches,
    stop: async (id) => change(id, "stopped"),
    resume: async (id) => change(id, "running"),
  };
}
