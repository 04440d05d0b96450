/** What an operator sees: stats and list. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import type { OutboxMessage } from "../../../src/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import {
  again,
  type Backend,
  declared,
  drained,
  fresh,
  gate,
  handedOver,
  inside,
  onBothBackends,
  type Stub,
  sent,
  until,
} from "../support/harness.ts";
import { Box, options, stageOf } from "../support/worker.ts";

/** An object whose destination has refused once and is asked again in ten minutes, with this many messages pending. */
async function backingOff(backend: Backend, count: number): Promise<Stub> {
  const patient = { ...options, retry: { minDelaySeconds: 600, maxDelaySeconds: 600, jitter: 0 } };
  const stub = declared(backend, withTransactionalOutbox(class extends Box {}, patient));
  stageOf(stub).script.push(() => Promise.reject(new Error("down")));
  await inside(stub, (_, outbox) => Promise.all(Array.from({ length: count }, (_, n) => outbox.send({ n: n + 1 }))));
  await until(stub, async (box) => (await box.outbox.stats()).failures === 1);
  return stub;
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
const sequences = (messages: OutboxMessage[]) => messages.map(({ sequence }) => sequence);

onBothBackends("stats", (backend) => {
  it("of an idle object are zeros, before the first message and after the last", async () => {
    const stub = fresh(backend);
    const idle = { pending: 0, failures: 0 };
    expect(await inside(stub, (_, outbox) => outbox.stats())).toMatchObject(idle);
    await inside(stub, (_, outbox) => outbox.send("one"));
    await drained(stub);
    expect(await inside(stub, (_, outbox) => outbox.stats())).toMatchObject(idle);
  });

  it("count what waits and what failed, in this life and the next", async () => {
    const stub = await backingOff(backend, 25);
    const stats = () => inside(again(stub), (_, outbox) => outbox.stats());
    expect(await stats()).toMatchObject({ pending: 25, failures: 1 });
    await evictDurableObject(stub);
    expect(await stats()).toMatchObject({ pending: 25, failures: 1 });
    await evictDurableObject(again(stub));
    await inside(again(stub), (_, outbox) => outbox.send("one more"));
    expect(await stats()).toMatchObject({ pending: 26, failures: 1 });
  });

  it("count what is put and what is delivered", async () => {
    const stub = declared(backend, withTransactionalOutbox(class extends Box {}, { ...options, batchSize: 10 }));
    const held = gate();
    stageOf(stub).script.push(() => {}, held.passed);
    await inside(stub, async (_, outbox) => {
      const puts = Array.from({ length: 25 }, (_, n) => outbox.send(n));
      expect(await outbox.stats()).toMatchObject({ pending: 25, failures: 0 });
      await Promise.all(puts);
    });
    await handedOver(stub, 20);
    expect(await inside(stub, (_, outbox) => outbox.stats())).toMatchObject({ pending: 15 });
    held.open();
    await drained(stub);
  });
});

onBothBackends("list", (backend) => {
  it("shows what waits as sendMessages will get it, with the attempts so far", async () => {
    const stub = await backingOff(backend, 3);
    const listed = await inside(stub, (_, outbox) => outbox.list());
    expect(listed).toEqual(sent(stub).map((message) => ({ ...message, destination: "default" })));
    await inside(stub, (_, outbox) => outbox.send({ n: 4 }));
    const attempts = await inside(stub, async (_, outbox) => (await outbox.list({ state: "pending" })).map((message) => message.attempts));
    expect(attempts).toEqual([1, 1, 1, 0]);
  });

  it.each([
    [undefined, 100],
    [1, 1],
    [37, 37],
    [200, 200],
    [1000, 250],
  ])("with a limit of %s gives the oldest %i, in order", async (limit, count) => {
    const stub = await backingOff(backend, 250);
    const listed = await inside(stub, (_, outbox) => outbox.list(limit === undefined ? {} : { limit }));
    expect(sequences(listed)).toEqual(numbers(1, count));
  });

  it("changes nothing: everything is delivered afterwards", async () => {
    const stub = await backingOff(backend, 30);
    await inside(stub, async (_, outbox) => {
      await outbox.list({ limit: 7 });
      await outbox.send({ n: 31 });
      await outbox.list({ limit: 1000 });
      await outbox.flush();
      expect(await outbox.list()).toEqual([]);
    });
    expect(sequences(sent(stub)).slice(30)).toEqual(numbers(1, 31));
  });

  it.each([{ limit: 0 }, { limit: 1001 }, { limit: 1.5 }, { limit: "5" }, { state: "sent" }])("refuses %o", async (bad) => {
    await inside(fresh(backend), async (_, outbox) => {
      await expect(outbox.list(bad as never)).rejects.toThrow(TypeError);
      await expect(outbox.list(bad as never)).rejects.toThrow(`options.${Object.keys(bad)[0]}`);
    });
  });
});
