/** `retry(ids)`: lets messages that wait for a time be due at once, and no others; and what `list` and `stats` say of the last failure. */
import { expect, it } from "vitest";
import type { OutboxPutOptions } from "../../../src/index.ts";
import { boxWith, callsOf } from "../support/batches.ts";
import { eventually, fresh, gate, handedOver, inside, native, onBothBackends, type Stub } from "../support/harness.ts";
import { stats } from "../support/lanes.ts";
import { deployed, got, objectWith, type Receiver, receivers } from "../support/named.ts";
import { crashDurably, idle, listed, patient, paused, resumed, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

const retry = (stub: Stub, ...ids: (string | undefined)[]) => inside(stub, (_, outbox) => outbox.retry(ids as string[]));
const send = (stub: Stub, msg: unknown, options?: OutboxPutOptions) => inside(stub, (_, outbox) => outbox.send(msg, options));
const late = { delaySeconds: 600 };

onBothBackends("retry lets go", (backend) => {
  it("a message that waits for its own time, in the log and set aside, once", async () => {
    const stub = fresh(backend);
    const { id } = await send(stub, "late", late);
    const { id: other } = await send(stub, "later", late);
    // Behind one that is due, the first of them is set aside, and the other stays in the log.
    await send(stub, "now");
    await handedOver(stub, 1);
    await stats(stub, { pending: 0, delayed: 2, scheduled: 2 });
    expect(await retry(stub, id, "none")).toBe(1);
    await handedOver(stub, 2);
    await stats(stub, { pending: 0, delayed: 1, scheduled: 1 });
    expect(await retry(stub, id)).toBe(0);
    await send(stub, "last", late);
    expect(await retry(stub, other)).toBe(1);
    await handedOver(stub, 3);
    expect(callsOf(stub).flat()).toEqual(["now", "late", "later"]);
    await stats(stub, { pending: 0, delayed: 1, scheduled: 1, blocked: 0, dead: 0 });
  });

  it("a message that has failed by itself, with its attempts, and shows why it failed", async () => {
    const stub = boxWith(backend, { retry: patient });
    stageOf(stub).script.push(([message], delivery) => delivery.retry(message?.id ?? "", { reason: "not today" }));
    const { id } = await send(stub, 1);
    await stats(stub, { delayed: 1, scheduled: 0 });
    expect(await listed(stub, "delayed")).toMatchObject([{ id, attempts: 1, error: "not today" }]);
    expect(await retry(stub, id)).toBe(1);
    await idle(stub);
    expect(
      stageOf(stub)
        .calls.flat()
        .map(({ attempts }) => attempts),
    ).toEqual([1, 2]);
  });

  it("the head of an ordering key, before those that wait behind it, and across a crash", async () => {
    const stub = fresh(backend);
    const { id } = await send(stub, 1, { ...late, key: "k" });
    for (const n of [2, 3]) await send(stub, n, { key: "k" });
    await stats(stub, { pending: 0, delayed: 1, blocked: 2 });
    expect(await retry(stub, id)).toBe(1);
    await idle(stub);
    expect(callsOf(stub).flat()).toEqual([1, 2, 3]);
    const held = await paused(backend);
    const { id: other } = await send(held, "a", { ...late, key: "k" });
    await send(held, "b", { key: "k" });
    const next = await crashDurably(held, (outbox) => outbox.retry([other]));
    await resumed(next);
    expect(callsOf(next).flat()).toEqual(["a", "b"]);
  });

  it("a keyed message in the log, which does not overtake an earlier one of its key", async () => {
    const stub = await paused(backend);
    await send(stub, 1, { key: "k" });
    const { id } = await send(stub, 2, { ...late, key: "k" });
    const { id: free } = await send(stub, 3, { ...late, key: "other" });
    await send(stub, 4, { key: "k" });
    expect(await retry(stub, id, free)).toBe(2);
    await resumed(stub);
    const sent = callsOf(stub).flat();
    expect(sent.filter((n) => n !== 3)).toEqual([1, 2, 4]);
    expect(sent).toContain(3);
  });

  it("nothing that is due, in hand, delivered, dead or unknown", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(held.passed, ([message], delivery) => delivery.reject(message?.id ?? "", "no"));
    const { id } = await send(stub, 1);
    await handedOver(stub, 1);
    expect(await retry(stub, id)).toBe(0);
    held.open();
    await idle(stub);
    const { id: dead } = await send(stub, 2);
    await stats(stub, { dead: 1 });
    expect(await retry(stub, id, dead, "none")).toBe(0);
    const still = await paused(backend);
    const { id: due } = await send(still, 1);
    expect(await retry(still, due)).toBe(0);
    await inside(stub, async (_, outbox) => {
      await expect(outbox.retry("x" as never)).rejects.toThrow("`ids`");
      await expect(outbox.retry([], { destination: "none" })).rejects.toThrow("`options.destination`");
    });
  });
});

onBothBackends("retry lets go", (backend) => {
  it("nothing of a destination that is missing: what it takes is known again when it is there again", async () => {
    const all = receivers("a", "b");
    const stub = objectWith(backend, all, { a: {}, b: { types: ["b"] } });
    await inside(stub, (_, outbox) => outbox.send({ type: "b", n: 1 }));
    await eventually(() => got(all.b).length === 1);
    const without = await deployed(stub, all, { a: {} });
    const { id } = await inside(without, (_, outbox) => outbox.send({ type: "a", n: 2 }, late));
    expect(await inside(without, (_, outbox) => outbox.retry([id]))).toBe(1);
    await eventually(() => got(all.a).length === 2);
    const again = await deployed(without, all, { a: {}, b: { types: ["b"] } });
    await inside(again, (_, outbox) => outbox.flush());
    await eventually(async () => (await statsOf(again)).pending === 0);
    expect(got(all.b)).toEqual([{ type: "b", n: 1 }]);
  });
});

onBothBackends("stats", (backend) => {
  it("say why the last call failed while the breaker is open, also after a restart", async () => {
    const stub = boxWith(backend, { retry: patient });
    const text = `down “${"x".repeat(300)}`;
    stageOf(stub).script.push(() => Promise.reject(new Error(text)));
    await send(stub, 1);
    await stats(stub, { breaker: "open" });
    const next = await crashDurably(stub, async () => {});
    expect((await statsOf(next)).destinations.default).toMatchObject({ breaker: "open", error: text.slice(0, 200) });
    await inside(next, (_, outbox) => outbox.flush());
    await eventually(async () => (await statsOf(next)).pending === 0);
    expect((await statsOf(next)).destinations.default).not.toHaveProperty("error");
  });

  it("keep of all errors together no more than leaves room for the largest message", async () => {
    const names = Array.from({ length: 32 }, (_, n) => `d${n}`);
    const all = receivers(...names);
    for (const name of names) (all[name] as Receiver).rest = () => Promise.reject(new Error(`${name} ${"х".repeat(300)}`));
    const stub = objectWith(backend, all, Object.fromEntries(names.map((name) => [name, {}])), { retry: patient });
    await send(stub, 1);
    const failed = async () => Object.values((await statsOf(stub)).destinations).every(({ breaker }) => breaker === "open");
    await eventually(failed);
    const header = await inside(stub, (_, __, state) => native(state).get<string>("\u{10FFFF}outbox/h"));
    const errors = JSON.parse(String(header).split("\n")[0] ?? "").readers.map(({ error }: { error: string }) => error);
    expect(errors.filter(Boolean)).toHaveLength(32);
    expect(errors.join("").length).toBeLessThanOrEqual(200);
    expect((await statsOf(stub)).destinations.d31?.error).toHaveLength(200);
  });
});
