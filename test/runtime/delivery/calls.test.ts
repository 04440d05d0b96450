/** One call of `sendMessages`: how it can fail, and that it cannot hang. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { boxWith, callsOf, down, eventsOf, numbers, putMany } from "../support/batches.ts";
import { declared, drained, eventually, gate, handedOver, inside, onBothBackends } from "../support/harness.ts";
import { Box, type BoxEnv, events, options, stageOf } from "../support/worker.ts";

onBothBackends("a call that does not settle", (backend) => {
  it("fails at the timeout, which aborts the signal, and what it does later changes nothing", async () => {
    const stub = declared(backend, withTransactionalOutbox(class extends Box {}, { ...options, timeoutSeconds: 1 }));
    const held = gate();
    let signal: AbortSignal | undefined;
    let late = false;
    stageOf(stub).script.push(async (_, delivery) => {
      signal = delivery.signal;
      await held.passed();
      late = true;
    }, down);
    await putMany(stub, 2);
    await handedOver(stub, 2);
    // The signal belongs to the object, and can be read only there.
    expect(await inside(stub, () => signal?.aborted)).toBe(false);
    await handedOver(stub, 4);
    const [failure] = eventsOf(stub, "failed");
    expect(failure?.cause).toMatchObject({ name: "OutboxError", code: "timeout" });
    expect(await inside(stub, () => signal?.aborted && signal.reason === failure?.cause)).toBe(true);
    held.open();
    await eventually(() => late);
    await drained(stub);
    // Twice as it is, then in halves.
    expect(callsOf(stub)).toEqual([numbers(2), numbers(2), [1], [2]]);
    expect(stageOf(stub).calls.map(([first]) => first?.attempts)).toEqual([1, 2, 3, 3]);
  });

  it("does not abort the signal of a call that settles in time", async () => {
    const stub = boxWith(backend, { timeoutSeconds: 0.1 });
    const signals: AbortSignal[] = [];
    stageOf(stub).rest = (_, { signal }) => void signals.push(signal);
    await putMany(stub, 1);
    await drained(stub);
    const held = gate();
    stageOf(stub).script.push(held.passed);
    await putMany(stub, 1, 2);
    await handedOver(stub, 3); // The second message was handed over again: its timeout has passed, and so would the first one's.
    held.open();
    expect(await inside(stub, () => signals[0]?.aborted)).toBe(false);
    await drained(stub);
  });
});

onBothBackends("sendMessages", (backend) => {
  const FAILURES: [string, () => unknown, unknown][] = [
    [
      "throws at once",
      () => {
        throw new Error("at once");
      },
      new Error("at once"),
    ],
    ["rejects with text", () => Promise.reject("text"), "text"],
    ["rejects with nothing", () => Promise.reject(), undefined],
  ];

  it.each(FAILURES)("keeps the messages when it %s", async (_, fails, cause) => {
    const stub = declared(
      backend,
      withTransactionalOutbox(
        class extends Box {
          override sendMessages = send;
        },
        options,
      ),
    );
    let calls = 0;
    function send(this: unknown) {
      return ++calls === 1 ? (fails() as Promise<void>) : Promise.resolve();
    }
    const { id } = await inside(stub, (_, outbox) => outbox.send("kept"));
    await drained(stub);
    expect(calls).toBe(2);
    const failed = events.filter((event) => event.type === "failed" && event.ids.includes(id));
    expect(failed).toMatchObject([{ error: cause instanceof Error ? cause.message : (cause ?? ""), failures: 1 }]);
    expect(failed.map((event) => "cause" in event && event.cause)).toEqual([cause ?? false]);
  });

  it.each([undefined, null, 0, "text"])("delivers when it returns %o and no promise", async (result) => {
    const seen: unknown[] = [];
    class Plain {
      constructor(
        _: DurableObjectState,
        readonly env: BoxEnv,
      ) {}
      get outbox() {
        return this.env.OUTBOX_MANAGER;
      }
      sendMessages(messages: { id: string; msg: unknown }[]) {
        seen.push(...messages.map(({ msg }) => msg));
        return result;
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Plain, options));
    await inside(stub, (_, outbox) => outbox.send("taken"));
    await drained(stub);
    expect(seen).toEqual(["taken"]);
  });
});
