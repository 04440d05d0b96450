/** Reports to a fleet's registry: when an object reports, what it says, what that costs, and what becomes of it when things go wrong. */
import { describe, expect, it } from "vitest";
import { type FleetReportOptions, withFleetReports } from "../../../src/fleet/index.ts";
import { withTransactionalInbox } from "../../../src/inbox/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { advance, drain, everyCrash } from "../../../src/testing/index.ts";
import { PROOF } from "../../support/random.ts";
import {
  type Backend,
  crash,
  inside,
  native,
  onBothBackends,
  onEitherBackend,
  outboxRows,
  redeclared,
  type Stub,
} from "../support/harness.ts";
import { counting, InboxBox, numbered, within } from "../support/inbox.ts";
import { destination, type Registry, registry, reporter } from "../support/reporter.ts";
import { seamed } from "../support/seam.ts";
import { Box, forms, options, stageOf } from "../support/worker.ts";

seamed();

const send = (stub: Stub, count = 1, chosen: object = {}) =>
  inside(stub, (_, outbox) => Promise.all(Array.from({ length: count }, (_, n) => outbox.send(n, chosen))));

/** What a registry was told, each report as the troubles of its destinations, by their bits: dead 8, stuck 4, breaker 2, paused 1. */
const told = ({ reports }: Registry): string[] =>
  reports.map(({ entries }) =>
    entries.map(({ destination, flags, dead, waiting }) => `${destination} ${flags}: ${dead}+${waiting}`).join(),
  );

/** Lets time pass until nothing that is said belongs to what has happened so far. */
const settled = (stub: Stub): Promise<void> => advance(stub, 70);

const redrive = (stub: Stub) => inside(stub, (_, outbox) => outbox.redrive());

onBothBackends("the cost of reports", (backend) => {
  it("is nothing while all is well, and a row for each report", async () => {
    const plain = reporter(backend, {}, (cls) => withTransactionalOutbox(cls, options));
    const one = reporter(backend);
    for (const { stub } of [plain, one]) {
      for (let burst = 0; burst < 5; burst++) {
        await send(stub, burst * 10 + 1);
        await drain(stub);
        await advance(stub, 90);
      }
    }
    const costs = ({ ledger }: typeof one) => [ledger().rows, ledger().alarms, ledger().disarmed];
    expect(costs(one)).toEqual(costs(plain));
    expect(one.registry.reports).toEqual([]);

    for (const { stub } of [plain, one]) {
      destination(stub, "rejects");
      await send(stub);
      await settled(stub);
      destination(stub, "works");
      await redrive(stub);
      await settled(stub);
    }
    expect(told(one.registry)).toEqual(["default 8: 1+0", ""]);
    // The alarms of these are counted where they fire: in registry.test.ts.
    expect(one.ledger().rows).toBe(plain.ledger().rows + 2);
  });
});

onEitherBackend("reports", (backend) => {
  it("name the object, what is wrong with each destination, and the last error, in rising versions", async () => {
    const { stub, registry } = reporter(backend);
    destination(stub, "rejects");
    await send(stub, 3);
    await settled(stub);
    expect(registry.reports).toEqual([
      {
        ...{ namespace: "boxes", id: stub.id.toString(), version: expect.any(Number) },
        entries: [{ destination: "default", flags: 8, dead: 3, waiting: 0, error: "refused by the test" }],
      },
    ]);
    await redrive(stub);
    await send(stub, 20);
    await settled(stub);
    await settled(stub);
    // Another power of ten. That there were none for a moment is over before it could be said.
    expect(told(registry)).toEqual(["default 8: 3+0", "default 8: 23+0"]);
    const [first, second] = registry.reports.map(({ version }) => version);
    expect(second).toBeGreaterThanOrEqual((first ?? 0) + 60_000);
  });

  it("say nothing of a failure that is over in a moment, and at most one thing a minute", async () => {
    const { stub, registry } = reporter(backend);
    destination(stub, "fails");
    await send(stub);
    await advance(stub, 3);
    destination(stub, "works");
    await settled(stub);
    expect(registry.reports).toEqual([]);

    destination(stub, "fails");
    await send(stub);
    await advance(stub, 6);
    expect(told(registry)).toEqual(["default 2: 0+1"]);
    // Up and down many times in a minute.
    for (let n = 0; n < 7; n++) {
      destination(stub, n % 2 ? "fails" : "works");
      await send(stub);
      await advance(stub, 7);
    }
    expect(told(registry)).toEqual(["default 2: 0+1"]);
    destination(stub, "works");
    await settled(stub);
    expect(told(registry)).toEqual(["default 2: 0+1", ""]);
  });

  it.each([
    [
      "a message that fails again and again by itself",
      "default 4: 0+1",
      (stub: Stub) => {
        stageOf(stub).rest = (messages, delivery) => {
          for (const { id } of messages) delivery.retry(id, { delaySeconds: 100 });
        };
      },
    ],
    ["a destination whose failures are known", "default 6: 0+1", (stub: Stub) => destination(stub, "fails")],
  ])("say after five minutes that %s is stuck, and when it is not any more", async (_, wanted, begin) => {
    const { stub, registry } = reporter(backend, { retry: { minDelaySeconds: 200, maxDelaySeconds: 200, jitter: 0, maxAttempts: 1000 } });
    begin(stub);
    await send(stub);
    await advance(stub, 290);
    expect(told(registry)).not.toContain(wanted);
    await advance(stub, 80);
    expect(told(registry).at(-1)).toBe(wanted);
    // Looking again costs alarms, at ever greater intervals.
    const { length } = registry.reports;
    await advance(stub, 7200);
    expect(registry.reports).toHaveLength(length);
    destination(stub, "works");
    await advance(stub, 400);
    expect(told(registry).at(-1)).toBe("");
  });

  it("do not take a message for stuck that waits for its own time, or has not waited for long", async () => {
    const { stub, registry, ledger } = reporter(backend);
    await send(stub, 1, { delaySeconds: 3600 });
    await advance(stub, 3000);
    // A look every five minutes would set ten.
    expect(ledger().alarms).toBeLessThanOrEqual(3);
    await advance(stub, 700);
    expect(registry.reports).toEqual([]);
  });

  it("say that delivery is paused while something waits, and that consumers do not come", async () => {
    const { stub, registry } = reporter(backend, {}, (cls) =>
      withFleetReports(
        withTransactionalOutbox(
          class extends cls {
            readonly destinations = { jobs: { pull: true, types: ["job"] } } as const;
          },
          options,
        ),
        { namespace: "boxes" },
      ),
    );
    await inside(stub, async (_, outbox) => {
      await outbox.pause({ destination: "default" });
      await outbox.send({ type: "job" });
    });
    await advance(stub, 20);
    expect(told(registry)).toEqual(["default 1: 0+1"]);
    await advance(stub, 400);
    expect(told(registry).at(-1)).toBe("default 1: 0+1,jobs 4: 0+1");
    await inside(stub, async (_, outbox) => {
      await outbox.resume();
      const { lease, messages } = await outbox.receive("jobs");
      await outbox.settle(lease, { acks: messages.map(({ id }) => id) });
    });
    await settled(stub);
    expect(told(registry).at(-1)).toBe("");
  });

  it("wait for a registry that is down, beside delivery, and then say how it is by now", async () => {
    const { stub, registry } = reporter(backend);
    registry.answer = async () => {
      throw new Error("the registry is down");
    };
    destination(stub, "rejects");
    await send(stub);
    await advance(stub, 1000);
    await send(stub, 9);
    destination(stub, "works");
    await send(stub);
    expect((await drain(stub)).delivered).toBe(10);
    registry.answer = (_, take) => take();
    await advance(stub, 3600);
    expect(told(registry)).toEqual(["default 8: 1+0"]);
  });

  it("hold up no message while the registry hangs, and a report that arrives late is ignored", async () => {
    const { stub, registry } = reporter(backend);
    let land = (): void => {};
    registry.answer = (_, take) =>
      new Promise((resolve) => {
        land = () => resolve(take());
      });
    destination(stub, "rejects");
    await send(stub);
    await advance(stub, 6.5);
    destination(stub, "works");
    await send(stub);
    await advance(stub, 0);
    expect(stageOf(stub).calls).toHaveLength(2);
    registry.answer = (_, take) => take();
    await redrive(stub);
    await advance(stub, 200);
    expect(registry.knows?.entries).toEqual([]);
    land();
    await settled(stub);
    expect(registry.knows?.entries).toEqual([]);
    expect(registry.reports).toHaveLength(2);
  });

  it("take back what may have arrived before a crash, if it is not true any more", async () => {
    const { stub, registry } = reporter(backend);
    registry.answer = (_, take) => {
      take();
      return new Promise(() => {});
    };
    destination(stub, "rejects");
    await send(stub);
    await advance(stub, 6.5);
    expect(told(registry)).toEqual(["default 8: 1+0"]);
    registry.answer = (_, take) => take();
    const next = await crash(stub);
    destination(stub, "works");
    await redrive(next);
    await settled(next);
    expect(told(registry)).toEqual(["default 8: 1+0", ""]);
  });

  it("go beyond what the registry has from a clock that was ahead", async () => {
    const { stub, registry } = reporter(backend);
    destination(stub, "rejects");
    const ahead = Date.now() + 1e9;
    let version = ahead;
    registry.answer = (report, take) => {
      if (report.version <= version) return { version, isIgnored: true };
      version = report.version;
      return take();
    };
    await send(stub);
    await settled(stub);
    expect(registry.reports.map((report) => report.version)).toEqual([ahead + 1]);
    destination(stub, "works");
    await redrive(stub);
    await settled(stub);
    expect(told(registry)).toEqual(["default 8: 1+0", ""]);
  });

  it("of an object that began without them come with its first start, and go on with another deployment in between", async () => {
    const known = registry();
    const first = reporter(backend, {}, (cls) => withTransactionalOutbox(cls, options), known);
    destination(first.stub, "rejects");
    await send(first.stub);
    await drain(first.stub);
    expect(known.reports).toEqual([]);
    const other = reporter(backend, {}, undefined, known);
    const again = await crash(redeclared(first.stub, forms.get(other.stub.id.toString()) as never));
    await settled(again);
    expect(told(known)).toEqual(["default 8: 1+0"]);
  });
});

onEitherBackend("objects that report", (backend) => {
  it("keep what they owe the registry through deleteAll(), and nothing otherwise", async () => {
    const { stub, registry } = reporter(backend);
    await inside(stub, (_, outbox) => outbox.put("a", 1, "a"));
    await drain(stub);
    await inside(stub, async (_, __, state) => {
      await state.storage.deleteAll();
      expect((await outboxRows(state)).size).toBe(0);
    });
    destination(stub, "fails");
    await send(stub);
    await advance(stub, 6);
    await inside(stub, async (_, outbox) => {
      const [message] = await outbox.list();
      await outbox.cancel(message?.id ?? "");
    });
    await inside(stub, (_, __, { storage }) => storage.deleteAll());
    const next = await crash(stub);
    await settled(next);
    expect(told(registry)).toEqual(["default 2: 0+1", ""]);
  });

  it("begin anew as a copy, whose original has said something", async () => {
    const one = reporter(backend);
    destination(one.stub, "rejects");
    await send(one.stub);
    await settled(one.stub);
    const rows = await inside(one.stub, async (_, __, state) => outboxRows(state));
    const two = reporter(backend);
    await inside(two.stub, (_, __, state) => native(state).put(Object.fromEntries(rows)));
    const copy = await crash(two.stub, () => {}).catch(() => two.stub);
    await settled(copy);
    expect(told(two.registry)).toEqual(["default 8: 1+0"]);
    expect(two.registry.reports[0]?.id).toBe(two.stub.id.toString());
  });

  it.each(["inside", "outside"])("have an inbox as well, with the reports %s of it", async (where) => {
    const chosen: FleetReportOptions = { namespace: "boxes" };
    const { stub, registry } = reporter(backend, {}, () => {
      const outbox = withTransactionalOutbox(class extends InboxBox {}, options);
      const ordered = { ordered: true } as const;
      return where === "inside"
        ? withTransactionalInbox(withFleetReports(outbox, chosen) as never, ordered as never)
        : withFleetReports(withTransactionalInbox(outbox as never, ordered as never), chosen);
    });
    destination(stub, "rejects");
    await send(stub);
    await within(stub, (inbox) => inbox.receive(numbered(2), counting));
    await settled(stub);
    expect(told(registry)).toEqual(["default 8: 1+0"]);
  });
});

onEitherBackend("every crash of an object that reports", (backend) => {
  it("leaves the registry with what is true", async () => {
    const all = new Map<string, Registry>();
    const make = (backend: Backend): Stub => {
      const { stub, registry } = reporter(backend, { retry: { minDelaySeconds: 100, maxDelaySeconds: 100, jitter: 0 } });
      all.set(stub.id.toString(), registry);
      return stub;
    };
    const crashes = await everyCrash(
      () => make(backend),
      async (stub) => {
        try {
          destination(stub, "rejects");
          await send(stub);
          await settled(stub);
          destination(stub, "works");
          await redrive(stub);
          await settled(stub);
          if (!PROOF) return;
          destination(stub, "fails");
          await send(stub);
          await advance(stub, 400);
          destination(stub, "works");
          await inside(stub, (_, outbox) => outbox.flush());
          await settled(stub);
        } finally {
          destination(stub, "works");
        }
      },
      async (stub) => {
        const { dead, pending } = await inside(stub, (_, outbox) => outbox.stats());
        const knows = all.get(stub.id.toString())?.knows?.entries ?? [];
        expect(knows.map(({ dead }) => dead)).toEqual(dead > 0 ? [dead] : []);
        expect(pending).toBe(0);
      },
    );
    expect(crashes).toBeGreaterThan(PROOF ? 20 : 12);
  });
});

describe("withFleetReports", () => {
  it("refuses what it can't work with", () => {
    const wrapped = withTransactionalOutbox(class extends Box {}, options);
    const wrap = (given: object) => () => withFleetReports(wrapped, given as FleetReportOptions);
    expect(wrap({})).toThrow(/Expected `options.namespace` to be the name of the class's namespace, got undefined/);
    expect(wrap({ namespace: "a", shard: 3 })).toThrow(/did you mean `shards`/);
    expect(wrap({ namespace: "a", shards: 0 })).toThrow(/a whole number from 1 to 256/);
    expect(wrap({ namespace: "a", stuckAfterSeconds: 1 })).toThrow(/from 10 to 86400/);
    expect(() =>
      withFleetReports(
        class extends wrapped {
          wakeOutbox() {}
        } as never,
        { namespace: "a" },
      ),
    ).toThrow(/wakeOutbox/);
    expect(() => new (withFleetReports(wrapped, { namespace: "a" }) as never as new (...args: unknown[]) => object)({}, {})).toThrow(
      /OUTBOX_FLEET/,
    );
  });
});
