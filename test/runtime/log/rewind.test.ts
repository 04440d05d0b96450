/** `rewind`: one destination gets again what the log has kept, in order, and no other notices. */
import { DurableObject } from "cloudflare:workers";
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { boxWith } from "../support/batches.ts";
import { again, crash, declared, drained, eventually, gate, inside, onBothBackends } from "../support/harness.ts";
import { got, objectWith, receivers } from "../support/named.ts";
import { type BoxEnv, type Form, options } from "../support/worker.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

onBothBackends("a destination that is rewound", (backend) => {
  it("gets again what the log has kept from a position on, in this life or the next", async () => {
    const all = receivers("one", "two");
    const stub = objectWith(backend, all, { one: {}, two: {} }, { retain: "all" });
    await inside(stub, (_, outbox) => Promise.all(range(1, 100).map((n) => outbox.send(n))));
    await eventually(() => got(all.one).length >= 100 && got(all.two).length >= 100);
    await drained(stub);
    expect(await inside(stub, (_, outbox) => outbox.rewind("one", { to: 61 }))).toBe(40);
    await eventually(() => got(all.one).length >= 140);
    await drained(stub);
    expect(got(all.one)).toEqual([...range(1, 100), ...range(61, 100)]);
    const ids = all.one.calls.flat().map(({ id }) => id);
    expect(ids.slice(100)).toEqual(ids.slice(60, 100));
    await inside(stub, (_, outbox) => outbox.pause({ destination: "two" }));
    await inside(stub, (_, outbox) => outbox.rewind("two", { to: 1 }));
    await crash(stub);
    await inside(again(stub), async (_, outbox) => {
      expect((await outbox.stats()).destinations.two).toMatchObject({ pending: 100 });
      await outbox.resume({ destination: "two" });
      await outbox.send(101);
    });
    await eventually(() => got(all.two).length >= 201 && got(all.one).length >= 141);
    await drained(again(stub));
    expect(got(all.two).slice(100)).toEqual(range(1, 101));
    expect(got(all.one).slice(140)).toEqual([101]);
  });

  it("waits for the end of a run, which would move it on again", async () => {
    const all = receivers("one");
    const held = gate();
    all.one.rest = () => held.passed();
    const stub = objectWith(backend, all, { one: {} }, { retain: "all" });
    await inside(stub, (_, outbox) => Promise.all(range(1, 50).map((n) => outbox.send(n))));
    await eventually(() => got(all.one).length >= 50);
    let rewound: Promise<number> = Promise.resolve(0);
    await inside(stub, (_, outbox) => {
      rewound = outbox.rewind("one", { to: 11 });
    });
    held.open();
    expect(await inside(stub, () => rewound)).toBe(40);
    await eventually(() => got(all.one).length >= 90);
    await drained(stub);
    expect(got(all.one)).toEqual([...range(1, 50), ...range(11, 50)]);
  });

  it("is refused in its own handler, which would wait for itself", async () => {
    const all = receivers("one");
    const refused: string[] = [];
    const stub = objectWith(backend, all, { one: {} }, { retain: "all", timeoutSeconds: 600 });
    await inside(stub, async (_, outbox) => {
      all.one.rest = async () => {
        await null;
        await outbox.rewind("one", { to: 1 }).catch((error) => refused.push(error.code));
      };
      await outbox.send(1);
    });
    await drained(stub);
    expect([got(all.one), refused]).toEqual([[1], ["unsupported"]]);
  });

  it("waits for a consumer that is settling, where it is pulled, and ends its leases", async () => {
    class Jobs extends DurableObject<BoxEnv> {
      destinations = { jobs: { pull: true as const } };
      get outbox() {
        return this.env.OUTBOX_MANAGER;
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Jobs, { ...options, retain: "all" }) as unknown as Form);
    await inside(stub, async (_, outbox) => {
      await Promise.all(range(1, 20).map((n) => outbox.send(n)));
      const first = await outbox.receive("jobs", { maxMessages: 10 });
      const settled = outbox.settle(first.lease, { acks: first.messages.slice(0, 5).map(({ id }) => id) });
      const rewound = outbox.rewind("jobs", { to: 1 });
      await settled;
      expect(await rewound).toBe(20);
      await expect(outbox.settle(first.lease, { acks: [first.messages[9]?.id ?? ""] })).rejects.toMatchObject({ code: "lease_expired" });
      expect((await outbox.receive("jobs", { maxMessages: 20 })).messages.map(({ msg }) => msg)).toEqual(range(1, 20));
    });
  });

  it("goes to no place that is not kept, nor ahead", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, (_, outbox) => Promise.all(range(1, 50).map((n) => outbox.send(n))));
    await drained(stub);
    await inside(stub, async (_, outbox) => {
      await outbox.trim({ before: 21 });
      await expect(outbox.rewind("default", { to: 20 })).rejects.toThrow("a position from 21 to 51");
      await expect(outbox.rewind("default", { to: 52 })).rejects.toThrow("a position from 21 to 51");
      await expect(outbox.rewind("default", { to: 0 })).rejects.toThrow("options.to");
      await expect(outbox.rewind("default", {} as { to: number })).rejects.toThrow("options.to");
      await expect(outbox.rewind("none", { to: 21 })).rejects.toThrow("destination");
      await expect(outbox.transaction(() => outbox.rewind("default", { to: 21 }))).rejects.toMatchObject({ code: "unsupported" });
      expect(await outbox.rewind("default", { to: 51 })).toBe(0);
    });
    const plain = boxWith(backend, {});
    await inside(plain, (_, outbox) => expect(outbox.rewind("default", { to: 1 })).rejects.toMatchObject({ code: "unsupported" }));
  });
});
