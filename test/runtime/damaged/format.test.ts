/** Two deployments in turn on one object: the older one keeps what it does not know, and touches nothing of a form that it does not know. */
import { expect, it } from "vitest";
import { numbers } from "../support/batches.ts";
import { again, crash, eventually, inside, native, onBothBackends, outboxRows, sent } from "../support/harness.ts";
import { idle, paused, resumed } from "../support/standing.ts";

/** The header as text, changed. */
const changed = (header: unknown, from: string, to: string): string => {
  const text = String(header);
  expect(text).toContain(from);
  return text.replace(from, to);
};

onBothBackends("a header that another deployment has written", (backend) => {
  it("keeps its unknown fields through puts and deliveries", async () => {
    const stub = await paused(backend);
    await inside(stub, (_, outbox) => outbox.send(1));
    await inside(stub, async (_, __, state) => {
      const [[key = "", header] = []] = [...(await outboxRows(state))].filter(([key]) => key.endsWith("/h"));
      await native(state).put(key, changed(header, '"first":', '"fieldOfTomorrow":{"a":["✓"]},"first":'));
    });
    const next = await crash(stub);
    await inside(next, (_, outbox) => outbox.send(2));
    await resumed(next);
    await idle(next);
    expect(sent(next).map(({ msg }) => msg)).toEqual([1, 2]);
    const rows = await inside(next, (_, __, state) => outboxRows(state));
    expect(JSON.parse(String([...rows.values()][0]).split("\n")[0] ?? "")).toMatchObject({ fieldOfTomorrow: { a: ["✓"] }, position: 2 });
  });

  it("of a newer form is refused before anything is written, and nothing is lost", async () => {
    const stub = await paused(backend);
    await inside(stub, (_, outbox) => Promise.all(numbers(20).map((n) => outbox.send(n))));
    await inside(stub, async (_, __, state) => {
      const [[key = "", header] = []] = [...(await outboxRows(state))].filter(([key]) => key.endsWith("/h"));
      await native(state).put(key, changed(header, '{"v":1,', '{"v":2,'));
    });
    await crash(stub).catch(() => {});
    await expect(inside(again(stub), () => 1)).rejects.toThrow("format 2");
    await expect(inside(again(stub), () => 1)).rejects.toThrow("Nothing is lost");
  });
});

onBothBackends("what is delivered or cancelled out of its turn", (backend) => {
  it("is not handed over again in the next life, however many gaps there are", async () => {
    const stub = await paused(backend);
    const receipts = await inside(stub, (_, outbox) => Promise.all(numbers(200).map((n) => outbox.send(n))));
    // Every third one: more gaps than the header holds.
    await inside(stub, async (_, outbox) => {
      for (const { id } of receipts.filter((_, i) => i % 3 === 1)) expect(await outbox.cancel(id)).toBe(true);
    });
    const left = numbers(200).filter((_, i) => i % 3 !== 1);
    const next = await crash(stub);
    expect(await inside(next, (_, outbox) => outbox.stats())).toMatchObject({ pending: left.length });
    expect((await inside(next, (_, outbox) => outbox.list({ limit: 1000 }))).map(({ msg }) => msg)).toEqual(left);
    await resumed(next);
    await idle(next);
    expect(sent(next).map(({ msg }) => msg)).toEqual(left);
    await eventually(async () => (await inside(next, (_, __, state) => outboxRows(state))).size === 1);
  });
});
