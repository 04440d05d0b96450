/** What is counted, and traced: data points of runs, and spans of calls. */
import * as workers from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { toQueue } from "../../../src/destinations/index.ts";
import { toAnalyticsEngine, traced } from "../../../src/fleet/index.ts";
import { type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";
import { boxWith } from "../support/batches.ts";
import { declared, eventually, inside, onEitherBackend } from "../support/harness.ts";
import { Box, options, stageOf } from "../support/worker.ts";

onEitherBackend("toAnalyticsEngine", (backend) => {
  it("writes one point for a run, with what it did and why it failed", async () => {
    const points: AnalyticsEngineDataPoint[] = [];
    const dataset = { writeDataPoint: (point: AnalyticsEngineDataPoint) => void points.push(point) } as AnalyticsEngineDataset;
    const stub = boxWith(backend, { onEvent: toAnalyticsEngine(dataset, { name: "boxes" }), batchSize: 10 });
    stageOf(stub).rest = (messages, delivery) => {
      for (const { id, msg } of messages) if (msg === 7) delivery.reject(id, "refused by the test");
    };
    await inside(stub, (_, outbox) => Promise.all(Array.from({ length: 30 }, (_, n) => outbox.send(n))));
    await eventually(() => points.length > 0);
    const object = stub.id.toString();
    expect(points).toEqual([
      {
        indexes: [object],
        blobs: ["boxes", object, "default", "refused by the test", "", "rejected"],
        doubles: [29, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
      },
    ]);
    stageOf(stub).script.push(() => {
      throw new Error("down");
    });
    await inside(stub, (_, outbox) => outbox.send({ type: "order" }));
    await eventually(() => points.length > 1);
    const [delivered, failed, , , opened, closed] = points[1]?.doubles ?? [];
    expect([delivered, failed, opened, closed]).toEqual([1, 1, 1, 1]);
    expect(points[1]?.blobs?.slice(3, 5)).toEqual(["down", "order"]);
  });

  it("keeps an index to what Analytics Engine takes, and needs a dataset", async () => {
    const points: AnalyticsEngineDataPoint[] = [];
    const listener = toAnalyticsEngine({ writeDataPoint: (point) => void points.push(point ?? {}) });
    for (const object of ["ä".repeat(90), "🙂".repeat(60)]) listener({ object, type: "breaker_closed", destination: "default" });
    await eventually(() => points.length === 2);
    expect(points.map(({ indexes }) => indexes?.[0])).toEqual(["ä".repeat(48), "🙂".repeat(24)]);
    expect(() => toAnalyticsEngine(undefined as never)).toThrow(/`dataset` to be a binding of Analytics Engine/);
    expect(() => toAnalyticsEngine({ writeDataPoint() {} }, { names: "" } as never)).toThrow(/did you mean `name`/);
  });
});

onEitherBackend("traced", (backend) => {
  it("makes a span of each call, with the traces of its messages, and changes nothing else", async () => {
    const { tracing } = workers as unknown as { tracing: { enterSpan: (name: string, callback: (span: object) => unknown) => unknown } };
    const spans: Record<string, unknown>[] = [];
    const enterSpan = tracing.enterSpan.bind(tracing);
    vi.spyOn(tracing, "enterSpan").mockImplementation((name, callback) =>
      enterSpan(name, (span: object) => {
        const attributes: Record<string, unknown> = { name };
        spans.push(attributes);
        // The span is the runtime's own.
        const { setAttribute } = span as { setAttribute(key: string, value: unknown): void };
        return callback({
          setAttribute(key: string, value: unknown) {
            attributes[key] = value;
            setAttribute.call(span, key, value);
          },
        });
      }),
    );
    class Traced extends Box {
      override sendMessages = traced(async function (this: Traced | undefined, messages: OutboxMessage[]) {
        await scheduler.wait(1);
        stages.push(messages.length);
      } as never) as never;
    }
    const stages: number[] = [];
    const stub = declared(backend, withTransactionalOutbox(Traced as never, options) as never);
    await inside(stub, (_, outbox) =>
      Promise.all([
        outbox.send("a", { headers: { Traceparent: "00-1" } }),
        outbox.send("b", { headers: { traceparent: "00-2" } }),
        outbox.send("c"),
      ]),
    );
    await eventually(() => stages.length > 0 && spans.length > 0);
    expect(stages).toEqual([3]);
    expect(spans).toEqual([
      expect.objectContaining({
        name: "outbox.deliver",
        "messaging.batch.message_count": 3,
        "outbox.traceparents": "00-1 00-2",
        "outbox.attempts": 1,
      }),
    ]);
  });
});

describe("traced", () => {
  it("says of the ordering what its handler says, and passes on what it throws", () => {
    const queue = toQueue({ sendBatch: async () => {} } as never);
    expect(Reflect.get(traced(queue), "ordering")).toBe(Reflect.get(queue, "ordering"));
    const fails = traced(() => {
      throw new Error("down");
    });
    expect(() => Reflect.apply(fails, undefined, [[], {}])).toThrow("down");
    expect(() => traced("send" as never)).toThrow(/`handler` to be a function/);
    expect(() => traced(() => {}, { span: "a" } as never)).toThrow(/unknown options/);
  });
});
