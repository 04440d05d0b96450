/** The registry of a fleet: what it lists, what it forgets, what it does to many objects, and what it costs with 100,000 of them. */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { batchesOf } from "../../../src/fleet/batch.ts";
import { type FleetFilter, type FleetTrouble, fleet } from "../../../src/fleet/index.ts";
import { checkedReport, type FleetReport, type FleetReportEntry, shardName, shardOf } from "../../../src/fleet/report.ts";
import { bitOf, scoreOf, troublesIn } from "../../../src/fleet/trouble.ts";
import { troubledOf } from "../../../src/fleet/troubled.ts";
import { size } from "../../support/random.ts";
import { refusing, written } from "../support/fleet-worker.ts";
import { env, eventually, inside, type Stub } from "../support/harness.ts";
import { forward, ringAt } from "../support/lanes.ts";
import { stageOf } from "../support/worker.ts";

interface Shard {
  report(report: unknown): Promise<{ version: number; isIgnored?: true }>;
  list(filter: object, after: unknown, limit: number): Promise<{ total: number; omitted: number }>;
}
const shard = (number: number, registry = env.OUTBOX_FLEET) =>
  registry.get(registry.idFromName(shardName(number))) as unknown as Shard & DurableObjectStub<undefined>;
const known = fleet(env.OUTBOX_FLEET, { objectsPerSecond: 1000 });

const idOf = (n: number): string => n.toString(16).padStart(64, "0");

function reportOf(n: number, entries: Partial<FleetReportEntry>[], version = 1): FleetReport {
  const full = entries.map((entry) => ({ destination: "default", flags: 0, dead: 0, waiting: 0, ...entry }));
  return { namespace: n % 3 ? "ORDERS" : "PARCELS", id: idOf(n), name: `order ${n % 7}-${n}`, version, entries: full };
}

const report = (given: FleetReport, registry = env.OUTBOX_FLEET) => shard(shardOf(given.id, 16), registry).report(given);

const DESTINATIONS = ["billing", "default", "search"];

/** What object n has wrong: one destination, or two. */
function wrongWith(n: number): FleetReportEntry[] {
  const flags = [8, 2, 4, 10, 1, 6][n % 6] ?? 8;
  const one = {
    destination: DESTINATIONS[n % 3] ?? "",
    flags,
    dead: flags & 8 ? (n % 50) + 1 : 0,
    waiting: flags & 7 ? n % 90 : 0,
    error: `down ${n}`,
  };
  return n % 5 === 0 ? [one, { ...one, destination: "other", flags: 8, dead: 1, waiting: 0 }] : [one];
}

/** Empties the registry: what other tests have reported. */
async function emptied(): Promise<void> {
  for (let n = 0; n < 16; n++) {
    await runInDurableObject(shard(n), (_, { storage }) => void storage.sql.exec("DELETE FROM troubled"));
  }
}

describe("a registry", () => {
  it("lists what is in trouble over all shards, worst first, in pages, by every filter", async () => {
    await emptied();
    const count = 150;
    await Promise.all(Array.from({ length: count }, (_, n) => report(reportOf(n, wrongWith(n)))));
    const all = Array.from({ length: count }, (_, n) => n).flatMap((n) =>
      wrongWith(n).map((entry) => ({ n, ...entry, score: scoreOf(entry.flags, entry.dead + entry.waiting) })),
    );
    all.sort(
      (a, b) => b.score - a.score || (idOf(a.n) < idOf(b.n) ? -1 : idOf(a.n) > idOf(b.n) ? 1 : a.destination < b.destination ? -1 : 1),
    );
    const filters: FleetFilter[] = [
      {},
      { trouble: "breaker" },
      { destination: "billing", trouble: "dead" },
      { namespace: "PARCELS" },
      { search: "ORDER 3-" },
      { search: idOf(77) },
      { search: "%" },
    ];
    for (const filter of filters) {
      const matches = ({ n, ...entry }: (typeof all)[number]): boolean =>
        (filter.namespace === undefined || reportOf(n, []).namespace === filter.namespace) &&
        (filter.destination === undefined || entry.destination === filter.destination) &&
        (filter.trouble === undefined || (entry.flags & bitOf(filter.trouble)) > 0) &&
        (filter.search === undefined || reportOf(n, []).name?.includes(filter.search.toLowerCase()) || idOf(n).startsWith(filter.search));
      const wanted = all.filter(matches);
      const listed: string[] = [];
      for (let after: string | undefined; ; ) {
        const page = await known.list({ ...filter, limit: 40, ...(after !== undefined && { after }) });
        expect(page.total).toBe(wanted.length);
        const counts = wanted.flatMap(({ flags }) => troublesIn(flags));
        for (const trouble of ["dead", "stuck", "breaker", "paused"] satisfies FleetTrouble[])
          expect(page.troubles[trouble] ?? 0).toBe(counts.filter((each) => each === trouble).length);
        expect(page.destinations).toEqual(["billing", "default", "other", "search"]);
        listed.push(...page.entries.map(({ id, destination, dead, waiting, error }) => `${id} ${destination} ${dead}+${waiting} ${error}`));
        after = page.next;
        if (after === undefined) break;
      }
      expect(listed).toEqual(
        wanted.map(({ n, destination, dead, waiting, error }) => `${idOf(n)} ${destination} ${dead}+${waiting} ${error}`),
      );
    }
    await expect(known.list({ after: "nonsense" })).rejects.toThrow(/`query.after` to be the `next` of an earlier page/);
    await expect(known.list({ trouble: "none" as never })).rejects.toThrow(/dead, stuck, breaker or paused/);
    await expect(known.list({ limit: 201 })).rejects.toThrow(/from 1 to 200/);
  });

  it("ignores an older report, keeps since when, and forgets what is well again after a while", async () => {
    await emptied();
    const of = async () => (await known.list({ search: idOf(9001) })).entries;
    await report(reportOf(9001, [{ flags: 8, dead: 1 }], 10));
    const [first] = await of();
    forward(5);
    expect(await report(reportOf(9001, [{ flags: 8, dead: 10 }], 20))).toEqual({ version: 20 });
    for (const version of [15, 20]) {
      const receipt = await report(reportOf(9001, [{ flags: 8, dead: 99 }], version));
      expect(receipt).toEqual({ version: 20, isIgnored: true });
    }
    const [second] = await of();
    expect(second).toMatchObject({ dead: 10, since: first?.since });
    expect(second?.reportedAt).toBeGreaterThanOrEqual((first?.reportedAt ?? 0) + 5000);
    await report(reportOf(9001, [], 30));
    expect(await of()).toEqual([]);
    // The last but one arrives when the last has been told.
    await report(reportOf(9001, [{ flags: 8, dead: 10 }], 25));
    expect(await of()).toEqual([]);
    const rows = () =>
      runInDurableObject(shard(shardOf(idOf(9001), 16)), (_, { storage }) => storage.sql.exec("SELECT id FROM troubled").toArray().length);
    expect(await rows()).toBe(1);
    forward(601);
    const beside = Array.from({ length: 2000 }, (_, n) => n + 20_000).find((n) => shardOf(idOf(n), 16) === shardOf(idOf(9001), 16)) ?? 0;
    await report(reportOf(beside, [{ flags: 8, dead: 1 }]));
    expect(await rows()).toBe(1);
  });

  it("that is full keeps the worst, and says how many it has left out", async () => {
    const small = shard(0, env.SMALL_FLEET);
    const to = (n: number, dead: number) => small.report(reportOf(n, dead > 0 ? [{ flags: 8, dead }] : []));
    for (let n = 1; n <= 5; n++) await to(n, n * 10);
    expect(await small.list({}, undefined, 0)).toMatchObject({ total: 5, omitted: 0 });
    await to(6, 5);
    await to(7, 0);
    expect(await small.list({}, undefined, 0)).toMatchObject({ total: 5, omitted: 1 });
    await to(8, 45);
    const { total, omitted } = await small.list({}, undefined, 0);
    // Those that were less in trouble have made room.
    expect([total, omitted]).toEqual([2, 5]);
  });

  it("takes nothing that is no report", () => {
    const wrong: unknown[] = [
      null,
      {},
      { ...reportOf(1, []), id: "x" },
      { ...reportOf(1, []), version: 0.5 },
      { ...reportOf(1, []), entries: {} },
    ];
    for (const given of [
      ...wrong,
      reportOf(1, [{ dead: -1 }]),
      reportOf(
        1,
        Array.from({ length: 101 }, () => ({})),
      ),
    ]) {
      expect(() => checkedReport(given)).toThrow(/Expected `report/);
    }
  });
});

/** Makes the destination of an object refuse every message, or none. */
function destination(stub: Stub, does: "rejects" | "works"): void {
  if (does === "rejects") refusing.add(stub.id.toString());
  else refusing.delete(stub.id.toString());
  stageOf(stub).rest = (messages, delivery) => {
    if (does === "rejects") for (const { id } of messages) delivery.reject(id, "refused by the test");
  };
}

/** Real objects with a dead letter each, which their registry knows. */
async function troubled(count: number): Promise<Stub[]> {
  const stubs = Array.from({ length: count }, () => env.REPORTER_SQLITE.get(env.REPORTER_SQLITE.newUniqueId()));
  for (const stub of stubs) destination(stub, "rejects");
  await Promise.all(stubs.map((stub) => inside(stub, (_, outbox) => outbox.send("a"))));
  await eventually(async () => (await known.list({ namespace: "REPORTER_SQLITE" })).total === count);
  for (const stub of stubs) destination(stub, "works");
  return stubs;
}

const dead = async (stubs: Stub[]): Promise<number> => {
  const all = await Promise.all(stubs.map((stub) => inside(stub, (_, outbox) => outbox.stats())));
  return all.reduce((sum, stats) => sum + stats.dead, 0);
};

const ended = (id: string) => eventually(async () => (await known.batches()).find((batch) => batch.id === id && batch.state === "done"));

describe("a batch", () => {
  it("redrives the dead letters of a destination over many objects, and says of how many it could not", async () => {
    await emptied();
    const stubs = await troubled(20);
    // Objects of a namespace that the registry does not have, and others that are no matter of the batch.
    await report({ ...reportOf(1, [{ flags: 8, dead: 1 }]), namespace: "NOWHERE" });
    await report(reportOf(2, [{ flags: 2, waiting: 1 }]));
    const batch = await known.start({ action: "redrive", filter: { trouble: "dead", destination: "default" } });
    expect(batch).toMatchObject({ action: "redrive", state: "running", total: 21 });
    expect(await ended(batch.id)).toMatchObject({
      total: 21,
      done: 21,
      failed: 1,
      messages: 20,
      error: expect.stringContaining('"NOWHERE"'),
    });
    expect(await dead(stubs)).toBe(0);
    const nothing = await known.start({ action: "redrive", filter: { search: "nobody" } });
    expect(nothing).toMatchObject({ state: "done", total: 0 });
    expect((await known.batches()).map(({ id }) => id)).toEqual(expect.arrayContaining([batch.id, nothing.id]));
  });

  it("stops, goes on where it was, and survives the registry", async () => {
    await emptied();
    const stubs = await troubled(24);
    // One object of each shard at once, and the next ones half a minute later.
    const { id } = await known.start({ action: "redrive", filter: {}, objectsPerSecond: 0.5 });
    await eventually(async () => (await dead(stubs)) < 24);
    expect(await known.stop(id)).toMatchObject({ state: "stopped", total: 24 });
    const isAsTold = async (): Promise<boolean> => 24 - (await dead(stubs)) === ((await known.stop(id))?.done ?? -1);
    await eventually(isAsTold);
    const left = await dead(stubs);
    const abort = async (): Promise<void> => {
      for (let n = 0; n < 16; n++) {
        await runInDurableObject(shard(n), (_, state) => state.abort("the crash that the test wants")).catch(() => {});
      }
    };
    await abort();
    expect(await known.resume(id)).toMatchObject({ state: "running", done: 24 - left });
    await abort();
    const isEnded = async (): Promise<boolean> => {
      forward(60);
      for (let n = 0; n < 16; n++) await runDurableObjectAlarm(shard(n));
      return (await known.batches()).some((batch) => batch.id === id && batch.state === "done");
    };
    await eventually(isEnded);
    expect((await known.batches()).find((batch) => batch.id === id)).toMatchObject({ total: 24, done: 24, failed: 0, messages: 24 });
    expect(await dead(stubs)).toBe(0);
    expect(await known.stop("none")).toBeNull();
    expect(await known.resume(id)).toMatchObject({ state: "done" });
  });

  it("keeps to its rate, in every life of the shard", async () => {
    await emptied();
    for (let n = 0; n < 7; n++) await shard(15).report({ ...reportOf(n, [{ flags: 8, dead: 1 }]), namespace: "NOWHERE" });
    const calls: string[] = [];
    const objects = {
      get: (id: string) => ({ inspectOutbox: async () => ({ ok: true, outcome: { count: calls.push(id) && 1 } }) }),
      idFromString: (id: string) => id,
    };
    await runInDurableObject(shard(15), async (_, { storage: { sql } }) => {
      const life = () => batchesOf(sql, troubledOf(sql, 100), () => objects as never);
      const startedAt = Date.now();
      life().start({ id: "slow", action: "redrive", filter: { namespace: "NOWHERE" }, objectsPerSecond: 3, startedAt });
      const steps: (number | null)[] = [];
      for (let now = startedAt; now < startedAt + 10_000; now += 250) {
        const before = calls.length;
        const next = await life().step(() => now);
        if (calls.length > before) steps.push(now - startedAt, calls.length);
        if (next === null) break;
      }
      expect(steps).toEqual([0, 3, 1000, 6, 2000, 7]);
      expect(
        life()
          .all()
          .find(({ id }) => id === "slow"),
      ).toMatchObject({ state: "done", total: 7, done: 7, messages: 7, failed: 0 });
    });
  });

  it("refuses what it can't do", async () => {
    await expect(known.start({ action: "drop" as never, filter: {} })).rejects.toThrow(/redrive, flush, pause, resume/);
    await expect(known.start({ action: "flush", filter: { id: 3 } as never })).rejects.toThrow(/unknown options/);
    await expect(known.start({ action: "flush", filter: {}, objectsPerSecond: 0 })).rejects.toThrow(/0.1/);
  });
});

describe("a fleet of 100,000 objects, of which one in a hundred is in trouble", () => {
  const OBJECTS = 100_000;
  const MESSAGES = 10;
  const TROUBLED = OBJECTS / 100;
  /** So many of those in trouble are real objects; the others are reports. */
  const REAL = size(5, TROUBLED / 5);

  /** Objects that deliver nine messages and have a dead letter, which their registry knows if they report, and which is then redriven. */
  async function begun(namespace: typeof env.REPORTER_SQLITE, count: number): Promise<Stub[]> {
    const stubs = Array.from({ length: count }, () => namespace.get(namespace.newUniqueId()));
    const stats = (name: "pending" | "dead", wanted: number) =>
      eventually(async () => {
        const all = await Promise.all(stubs.map((stub) => inside(stub, (_, outbox) => outbox.stats())));
        return all.every((each) => each[name] === wanted);
      });
    const send = (messages: number) =>
      Promise.all(
        stubs.map((stub) => inside(stub, (_, outbox) => Promise.all(Array.from({ length: messages }, (_, n) => outbox.send(n))))),
      );
    await send(MESSAGES - 1);
    await stats("pending", 0);
    for (const stub of stubs) destination(stub, "rejects");
    await send(1);
    await stats("dead", 1);
    const isKnown = async (): Promise<boolean> => {
      const listed = new Set<string>();
      for (let after: string | undefined; ; ) {
        const page = await known.list({ namespace: "REPORTER_SQLITE", limit: 200, ...(after !== undefined && { after }) });
        for (const { id } of page.entries) listed.add(id);
        after = page.next;
        if (after === undefined) return stubs.every((stub) => listed.has(stub.id.toString()));
      }
    };
    if (namespace === env.REPORTER_SQLITE) await eventually(isKnown);
    for (const stub of stubs) destination(stub, "works");
    await Promise.all(stubs.map((stub) => inside(stub, (_, outbox) => outbox.redrive())));
    await stats("pending", 0);
    return stubs;
  }

  it("costs at most a hundredth of a row a message, and has its page at once", async () => {
    await emptied();
    Object.assign(written, { rows: 0, alarms: 0 });
    const plain = await begun(env.BOX_SQLITE as never, Math.min(50, REAL));
    const reporting: Stub[] = [];
    while (reporting.length < REAL) reporting.push(...(await begun(env.REPORTER_SQLITE, Math.min(50, REAL - reporting.length))));
    // They may say so a minute after their last report.
    forward(61);
    await Promise.all(reporting.map((stub) => ringAt(stub, Date.now())));
    await eventually(async () => (await known.list({ namespace: "REPORTER_SQLITE" })).total === 0);
    const cost = async (stubs: Stub[]): Promise<number> => {
      const all = await Promise.all(stubs.map((stub) => inside(stub, ({ ledger }) => ledger.rows + ledger.alarms)));
      return all.reduce((sum, rows) => sum + rows, 0) / stubs.length;
    };
    // What each of them would have cost without reports, with the same messages.
    const extra = ((await cost(reporting)) - (await cost(plain))) * REAL;
    const perObject = (extra + written.rows + written.alarms) / REAL;
    const rows = (perObject * TROUBLED) / (OBJECTS * MESSAGES);
    expect(rows).toBeLessThanOrEqual(0.01);

    await Promise.all(Array.from({ length: TROUBLED }, (_, n) => report(reportOf(n + 50_000, wrongWith(n)))));
    await known.list({});
    const asked = performance.now();
    const { total, entries } = await known.list({ trouble: "dead", limit: 200 });
    const ms = performance.now() - asked;
    expect(total).toBeGreaterThan(TROUBLED / 3);
    expect(entries).toHaveLength(200);
    // Shown with `--silent=false`: times are not asserted.
    console.log(`${perObject.toFixed(2)} rows for each object in trouble, ${rows.toFixed(4)} a message; the page took ${ms.toFixed(0)} ms`);
  });
});
