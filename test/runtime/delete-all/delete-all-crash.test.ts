/** `deleteAll()` and crashes: wherever it is cut off, own state is all there or all gone, and every message is there once. */
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { size } from "../../support/random.ts";
import { callsOf, numbers } from "../support/batches.ts";
import { again, type Backend, declared, inside, native, numbered, onBothBackends, type Stub } from "../support/harness.ts";
import { resumed } from "../support/standing.ts";
import { DIED, dyingEverywhere, type Plan, plan, planned, stepping } from "../support/steps.ts";

type Operation = (outbox: OutboxManager, state: DurableObjectState, life: number) => Promise<unknown>;

/** What is the object's own before each life: more keys than are read at once, an alarm, and tables where there are any. */
const KEYS = 140;

async function fill(stub: Stub, backend: Backend): Promise<void> {
  await inside(stub, async (_, __, { storage }) => {
    await storage.put(numbered(KEYS));
    await storage.setAlarm(Date.now() + 600_000);
    if (backend.name === "sqlite") {
      storage.sql.exec("CREATE TABLE IF NOT EXISTS parent (id INTEGER PRIMARY KEY)");
      storage.sql.exec("CREATE TABLE IF NOT EXISTS child (parent REFERENCES parent (id))");
      storage.sql.exec("INSERT OR IGNORE INTO parent VALUES (1)");
      storage.sql.exec("INSERT INTO child VALUES (1)");
    }
    await storage.sync();
  });
}

/** What is the object's own now, in words. */
function own(stub: Stub, backend: Backend): Promise<string> {
  return inside(stub, async (_, __, state) => {
    const keys = (await native(state).list({ end: "\u{10FFFF}" })).size;
    const alarm = (await state.storage.getAlarm()) !== null;
    const tables = "SELECT count(*) AS n FROM sqlite_master WHERE name IN ('parent', 'child')";
    const count = backend.name === "sqlite" ? Number(state.storage.sql.exec(tables).one().n) / 2 : Math.sign(keys);
    if (keys === KEYS && alarm && count === 1) return "all there";
    if (keys === 0 && !alarm && count === 0) return "all gone";
    return `${keys} keys, ${alarm ? "an" : "no"} alarm, ${count} of the tables`;
  });
}

/** An object that dies by plan, paused, with this many messages. */
async function dying(backend: Backend, plan: Plan, count: number): Promise<Stub> {
  const stub = declared(
    backend,
    stepping(() => plan),
  );
  if (count > 0) {
    await inside(stub, (_, outbox) => outbox.pause());
    await inside(stub, (_, outbox) => Promise.all(numbers(count).map((n) => outbox.send(n))));
  }
  return stub;
}

const listed = (stub: Stub): Promise<unknown[]> =>
  inside(stub, async (_, outbox) => (await outbox.list({ limit: 1000 })).map(({ msg }) => msg));

onBothBackends("cut off anywhere,", (backend) => {
  const OPERATIONS: [string, boolean, Operation][] = [
    ["storage.deleteAll()", false, (_, { storage }) => storage.deleteAll()],
    ["deleteAll(msg)", true, (outbox, _, life) => outbox.deleteAll(`last ${life}`)],
    ["deleteAll(msg) with an id", true, (outbox, _, life) => outbox.deleteAll(`last ${life}`, { id: `id ${life}` })],
  ];

  it.each(OPERATIONS)("%s leaves all of it or nothing, and no message is lost or sent twice", async (_, tells, operation) => {
    const steps = plan();
    let stub = await dying(backend, steps, 40);
    const kept: unknown[] = numbers(40);
    const seen = { there: 0, gone: 0 };
    let life = 0;
    const lives = await dyingEverywhere(
      () => stub,
      steps,
      size(1, 3),
      (outbox, state) => operation(outbox, state, life),
      async () => {
        life++;
        await fill(stub, backend);
      },
      async (moment) => {
        stub = again(stub);
        const state = await own(stub, backend);
        if (state === "all gone") seen.gone++;
        else seen.there++;
        if (state === "all gone" && tells) kept.push(`last ${life}`);
        expect([moment, state, await listed(stub)]).toEqual([moment, state === "all gone" ? state : "all there", kept]);
      },
    );
    console.log(`${backend.name}: ${lives} lives, ${JSON.stringify(seen)}`);
    expect(seen.there).toBeGreaterThan(0);
    expect(seen.gone).toBeGreaterThan(0);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(kept);
  });

  it("storage.deleteAll() with no message leaves all of it or nothing, and the next message is delivered", async () => {
    const steps = plan();
    let stub = await dying(backend, steps, 0);
    let gone = 0;
    await dyingEverywhere(
      () => stub,
      steps,
      size(1, 3),
      (_, { storage }) => storage.deleteAll(),
      () => fill(stub, backend),
      async (moment) => {
        stub = again(stub);
        const state = await own(stub, backend);
        if (state === "all gone") gone++;
        expect([moment, state]).toEqual([moment, state === "all gone" ? state : "all there"]);
      },
    );
    expect(gone).toBeGreaterThan(0);
    await inside(stub, (_, outbox) => outbox.send("next"));
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(["next"]);
  });
});

onBothBackends("where storage refuses any one read or put,", (backend) => {
  it("deleteAll(msg) leaves all of it or nothing, in this life or the next", async () => {
    const steps = plan();
    let stub = await dying(backend, steps, 40);
    const kept: unknown[] = numbers(40);
    let failed = 0;
    for (let step = 1; ; step++) {
      await fill(stub, backend);
      const life = inside(stub, async (_, outbox, state) => {
        planned(steps, step, 0, true);
        const done = await outbox.deleteAll(`last ${step}`).then(
          () => "done",
          (error) => String(error),
        );
        await state.storage.sync();
        return done;
      });
      const done = await life.catch((error) => String(error));
      const { reached } = steps;
      planned(steps, 0);
      if (reached) failed++;
      stub = again(stub);
      const state = await own(stub, backend);
      if (state === "all gone") kept.push(`last ${step}`);
      expect([step, state, await listed(stub)]).toEqual([step, state === "all gone" ? state : "all there", kept]);
      if (done !== "done") expect([step, done, state]).toEqual([step, expect.stringContaining(DIED), "all there"]);
      if (!reached) break;
    }
    expect(failed).toBeGreaterThan(1);
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(kept);
  });
});
