/** Ordering keys: the messages of a key are handed over in put order, and a waiting head holds back only its own key. */
import { expect, it } from "vitest";
import { boxWith, callsOf, down } from "../support/batches.ts";
import { crash, fresh, gate, handedOver, inside, onBothBackends, sent } from "../support/harness.ts";
import { alive, flush, forward, namesOf, rejecting, retrying, sendNamed, simple, stats } from "../support/lanes.ts";
import { deadOf, idle, patient } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

onBothBackends("a call", (backend) => {
  it("ends before the second message of a key, where sendMessages can set one aside", async () => {
    const stub = fresh(backend);
    await sendNamed(stub, "a1 a2 b1 a3 .1 b2 c1 .2 .3");
    await idle(stub);
    expect(namesOf(stub)).toEqual(["a1", "a2 b1", "a3 .1 b2 c1 .2 .3"]);
    expect(sent(stub).map(({ key }) => key)).toEqual(["a", "a", "b", "a", undefined, "b", "c", undefined, undefined]);
  });

  it("takes all messages of a key that fit, with ordering batch", async () => {
    const stub = simple(backend);
    const names = Array.from({ length: 250 }, (_, n) => `a${n + 1}`);
    await sendNamed(stub, names.join(" "));
    await idle(stub);
    expect(callsOf(stub)).toEqual([names.slice(0, 100), names.slice(100, 200), names.slice(200)]);
  });

  it("takes one message of a key with the default ordering, however many parameters sendMessages declares", async () => {
    const stub = simple(backend, { ordering: "strict" });
    await sendNamed(stub, "a1 a2 b1");
    await idle(stub);
    expect(namesOf(stub)).toEqual(["a1", "a2 b1"]);
  });

  it("that throws is repeated from its head on, where it held many messages of a key", async () => {
    const stub = simple(backend);
    stageOf(stub).script.push(down);
    await sendNamed(stub, "a1 a2 b1 a3 b2");
    await idle(stub);
    const [refused, ...taken] = callsOf(stub);
    expect(refused).toEqual(["a1", "a2", "b1", "a3", "b2"]);
    expect(taken.flat()).toEqual(refused);
  });
});

onBothBackends("a message that waits", (backend) => {
  it("for a retry holds back the later messages of its key, and no others", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(retrying("a1", 60));
    await sendNamed(stub, "a1 b1 .1 a2 b2 a3 .2");
    await stats(stub, { pending: 0, delayed: 1, blocked: 2 });
    await sendNamed(stub, "a4 c1");
    await stats(stub, { pending: 0, delayed: 1, blocked: 3 });
    expect(namesOf(stub)).toEqual(["a1 b1 .1", "b2 .2", "c1"]);
    forward(61);
    await flush(stub);
    expect(namesOf(stub).slice(3)).toEqual(["a1", "a2", "a3", "a4"]);
    await stats(stub, { pending: 0, delayed: 0, blocked: 0, dead: 0, nextAttemptAt: null });
  });

  it("for a retry of its own after a retry still holds them back", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(retrying("a1", 60), retrying("a1", 60), () => {}, retrying("a2", 60));
    await sendNamed(stub, "a1 a2 a3");
    await stats(stub, { pending: 0, delayed: 1, blocked: 2 });
    forward(61);
    await flush(stub);
    await stats(stub, { pending: 0, delayed: 1, blocked: 2 });
    forward(61);
    await flush(stub);
    await stats(stub, { pending: 0, delayed: 1, blocked: 1 });
    forward(61);
    await flush(stub);
    expect(namesOf(stub)).toEqual(["a1", "a1", "a1", "a2", "a2", "a3"]);
  });

  it("is not overtaken by flush", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(retrying("a1", 6000));
    await sendNamed(stub, "a1 a2");
    await stats(stub, { delayed: 1 });
    await flush(stub);
    forward(5000);
    await flush(stub);
    expect(namesOf(stub)).toEqual(["a1"]);
  });

  it("for its time holds back those behind it, also those with an earlier time", async () => {
    const stub = fresh(backend);
    await sendNamed(stub, "a1", { delaySeconds: 60 });
    await sendNamed(stub, "a2", { delaySeconds: 10 });
    await sendNamed(stub, "b1 a3 .1");
    await stats(stub, { pending: 0, delayed: 1, blocked: 2 });
    forward(30);
    await flush(stub);
    expect(namesOf(stub)).toEqual(["b1 .1"]);
    forward(31);
    await flush(stub);
    expect(namesOf(stub)).toEqual(["b1 .1", "a1", "a2", "a3"]);
  });

  it("for its time in the middle of its key lets those before it go", async () => {
    const stub = fresh(backend);
    await inside(stub, (_, outbox) =>
      Promise.all([
        outbox.send("a1", { key: "a" }),
        outbox.send("a2", { key: "a", deliverAt: Date.now() + 60_000 }),
        outbox.send("a3", { key: "a" }),
        outbox.send("b1", { key: "b" }),
      ]),
    );
    await stats(stub, { pending: 0, delayed: 1, blocked: 1 });
    expect(namesOf(stub).join(" ")).toBe("a1 b1");
    forward(61);
    await flush(stub);
    expect(namesOf(stub).slice(-2)).toEqual(["a2", "a3"]);
  });

  it("is waited for by what was put while it was in flight", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(async (messages, delivery) => {
      await held.passed();
      await retrying("a1", 60)(messages, delivery);
    });
    await sendNamed(stub, "a1");
    await handedOver(stub, 1);
    await sendNamed(stub, "a2 b1 a3");
    held.open();
    await stats(stub, { pending: 0, delayed: 1, blocked: 2 });
    expect(namesOf(stub)).toEqual(["a1", "b1"]);
    forward(61);
    await flush(stub);
    expect(namesOf(stub)).toEqual(["a1", "b1", "a1", "a2", "a3"]);
  });

  it("lets the next one go once it is cancelled", async () => {
    const stub = fresh(backend);
    const [first] = await sendNamed(stub, "a1", { delaySeconds: 60 });
    await sendNamed(stub, "a2 a3");
    await stats(stub, { pending: 0, delayed: 1, blocked: 2 });
    expect(await inside(stub, (_, outbox) => outbox.cancel(first?.id ?? ""))).toBe(true);
    await idle(stub);
    expect(namesOf(stub)).toEqual(["a2", "a3"]);
  });

  it("lets the next one go once it is a dead letter", async () => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 0.01, maxAttempts: 2 } });
    stageOf(stub).script.push(rejecting("a1"), retrying("a2", 0.01), retrying("a2", 0.01));
    await sendNamed(stub, "a1 a2 a3 a4");
    await idle(stub);
    expect(namesOf(stub)).toEqual(["a1", "a2", "a2", "a3", "a4"]);
    expect(await deadOf(stub)).toEqual(["a1", "a2"]);
  });
});

onBothBackends("a restart", (backend) => {
  it("while a head waits changes nothing for those behind it", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(retrying("a1", 60));
    await sendNamed(stub, "a1 a2 b1");
    await stats(stub, { pending: 0, delayed: 1, blocked: 1 });
    const second = await crash(stub);
    await sendNamed(second, "a3 b2");
    await stats(second, { pending: 0, delayed: 1, blocked: 2 });
    const third = await crash(second);
    forward(61);
    await flush(third);
    expect(namesOf(stub).filter((names) => names.startsWith("a"))).toEqual(["a1", "a1", "a2", "a3"]);
    expect(namesOf(stub).join(" ")).toContain("b1 b2");
  });

  it("during a call begins again with the same message", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(retrying("a1", 60), held.passed);
    await sendNamed(stub, "a1 b1 a2 b2 b3");
    await handedOver(stub, 3);
    const next = await crash(stub);
    held.open();
    forward(61);
    await flush(next);
    const first = namesOf(stub).slice(0, 2);
    expect(first).toEqual(["a1 b1", "b2"]);
    const rest = callsOf(stub).slice(2).flat() as string[];
    expect(rest.filter((name) => name.startsWith("a"))).toEqual(["a1", "a2"]);
    expect(rest.filter((name) => name.startsWith("b"))).toEqual(["b2", "b3"]);
  });

  it("between what a call did and its end repeats it, and nothing behind it is early", async () => {
    const stub = fresh(backend);
    const held = gate();
    stageOf(stub).script.push(async (messages, delivery) => {
      await retrying("a1", 60)(messages, delivery);
      await held.passed();
    });
    await sendNamed(stub, "a1 b1 a2");
    await handedOver(stub, 2);
    const next = await crash(stub);
    held.open();
    await flush(await alive(next));
    // The retry was not yet written down when the object died: the call has simply not happened.
    expect(callsOf(stub).flat()).toEqual(["a1", "b1", "a1", "b1", "a2"]);
  });
});

onBothBackends("a dead letter that is redriven", (backend) => {
  const redrive = (stub: Parameters<typeof flush>[0]) => inside(stub, (_, outbox) => outbox.redrive());

  it("goes before those with its key that wait for a retry", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(rejecting("a1"), retrying("a2", 60));
    await sendNamed(stub, "a1 a2 a3");
    await stats(stub, { pending: 0, delayed: 1, blocked: 1, dead: 1 });
    expect(await redrive(stub)).toBe(1);
    await handedOver(stub, 3);
    await stats(stub, { pending: 0, delayed: 1, blocked: 1, dead: 0 });
    forward(61);
    await flush(stub);
    expect(namesOf(stub)).toEqual(["a1", "a2", "a1", "a2", "a3"]);
  });

  it("holds back those with its key while it waits for a retry of its own", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(rejecting("a1"), retrying("a1", 60));
    await sendNamed(stub, "a1");
    await stats(stub, { pending: 0, dead: 1 });
    expect(await redrive(stub)).toBe(1);
    await handedOver(stub, 2);
    await stats(stub, { pending: 0, delayed: 1, dead: 0 });
    await sendNamed(stub, "a2 b1");
    await stats(stub, { pending: 0, delayed: 1, blocked: 1 });
    forward(61);
    await flush(stub);
    expect(namesOf(stub)).toEqual(["a1", "a1", "b1", "a1", "a2"]);
  });

  it("goes before the newer one that a destination refused, which is down", async () => {
    const stub = boxWith(backend, { retry: patient });
    stageOf(stub).script.push(rejecting("a1"), down);
    await sendNamed(stub, "a1 a2 a3 b1");
    await stats(stub, { breaker: "open", dead: 1 });
    expect(await redrive(stub)).toBe(1);
    await flush(stub);
    await idle(stub);
    expect((callsOf(stub).slice(2).flat() as string[]).filter((name) => name.startsWith("a"))).toEqual(["a1", "a2", "a3"]);
  });

  it("with others of its key goes in their order, in the next life too", async () => {
    const stub = fresh(backend);
    stageOf(stub).script.push(...["a1", "a2 b1", "a3"].map(rejecting));
    await sendNamed(stub, "a1 a2 b1 a3");
    await stats(stub, { pending: 0, dead: 4 });
    await inside(stub, (_, outbox) => outbox.pause());
    await sendNamed(stub, "a4 b2");
    expect(await redrive(stub)).toBe(4);
    expect(await redrive(stub)).toBe(0);
    const next = await crash(stub);
    await inside(next, (_, outbox) => outbox.resume());
    await idle(next);
    const redriven = callsOf(stub).slice(3).flat() as string[];
    expect(redriven.filter((name) => name.startsWith("a"))).toEqual(["a1", "a2", "a3", "a4"]);
    expect(redriven.filter((name) => name.startsWith("b"))).toEqual(["b1", "b2"]);
  });
});
