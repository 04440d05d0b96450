/** Wrapping: what `withTransactionalOutbox` gives back, and what it refuses. */
import { DurableObject } from "cloudflare:workers";
import { expect, it } from "vitest";
import { withTransactionalInbox } from "../../../src/inbox/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { type BoxEnv, options } from "../support/worker.ts";

class Orders extends DurableObject<BoxEnv> {
  static version = 3;
  static #made = 0;
  static make() {
    return `${Orders.#made++} of ${Orders.name}`;
  }
  sendMessages(): void {}
}

it("keeps the name and the statics, and is a subclass", () => {
  const Wrapped = withTransactionalOutbox(Orders);
  expect(Wrapped.name).toBe("Orders");
  expect(Wrapped.version).toBe(3);
  expect(Wrapped.make()).toBe("0 of Orders");
  expect(Wrapped.prototype).toBeInstanceOf(Orders);
  expect(Wrapped.prototype).toBeInstanceOf(DurableObject);
  expect(Wrapped).not.toBe(Orders);
});

it("returns a class that is wrapped already as it is, and so one that extends it", () => {
  const Wrapped = withTransactionalOutbox(Orders, options);
  const Extended = class extends Wrapped {};
  expect(withTransactionalOutbox(Wrapped)).toBe(Wrapped);
  expect(withTransactionalOutbox(Wrapped, { batchSize: 5 })).toBe(Wrapped);
  expect(withTransactionalOutbox(Extended)).toBe(Extended);
});

const NO_CLASSES: [string, unknown][] = [
  ["a class without it", class Empty extends DurableObject {}],
  [
    "a class with another method",
    class {
      send() {}
    },
  ],
  ["a function that constructs nothing", () => {}],
  ["undefined", undefined],
  ["null", null],
  ["an object with it", { sendMessages() {} }],
  ["text", "sendMessages"],
];

it.each(NO_CLASSES)("refuses %s, and names sendMessages", (_, cls) => {
  expect(() => withTransactionalOutbox(cls as never)).toThrow(TypeError);
  expect(() => withTransactionalOutbox(cls as never)).toThrow(/\[do-transactional-outbox\].*sendMessages/);
});

it("takes a proxy of a class, whose instances alone tell whether they have it", () => {
  class Field extends DurableObject {
    sendMessages = () => {};
  }
  for (const cls of [Field, Orders]) expect(withTransactionalOutbox(new Proxy(cls, {})).prototype).toBeInstanceOf(cls);
});

const BAD_OPTIONS: [string, unknown][] = [
  ["batchSise", { batchSise: 10 }],
  ["batchSize", { batchSize: 0 }],
  ["batchSize", { batchSize: 1001 }],
  ["batchSize", { batchSize: 2.5 }],
  ["batchSize", { batchSize: "10" }],
  ["batchSize", { batchSize: Number.NaN }],
  ["timeoutSeconds", { timeoutSeconds: 0 }],
  ["timeoutSeconds", { timeoutSeconds: 601 }],
  ["idempotencySeconds", { idempotencySeconds: -1 }],
  ["idempotencySeconds", { idempotencySeconds: 604_801 }],
  ["idempotencySeconds", { idempotencySeconds: Number.NaN }],
  ["timeoutSeconds", { timeoutSeconds: "1" }],
  ["binding", { binding: 1 }],
  ["binding", { binding: "" }],
  ["onEvent", { onEvent: "log" }],
  ["retry", { retry: 5 }],
  ["retry", { retry: null }],
  ["minDelay", { retry: { minDelay: 1 } }],
  ["minDelaySeconds", { retry: { minDelaySeconds: -1 } }],
  ["maxDelaySeconds", { retry: { maxDelaySeconds: 604_801 } }],
  ["maxDelaySeconds", { retry: { minDelaySeconds: 10, maxDelaySeconds: 5 } }],
  ["factor", { retry: { factor: 0.5 } }],
  ["jitter", { retry: { jitter: 1.1 } }],
  ["maxAttempts", { retry: { maxAttempts: 0 } }],
  ["options", null],
  ["options", 5],
];

it.each(BAD_OPTIONS)("refuses a wrong %s: %o", (name, bad) => {
  const wrap = () => withTransactionalOutbox(Orders, bad as never);
  expect(wrap).toThrow(/^\[do-transactional-outbox\] /);
  expect(wrap).toThrow(name);
});

it("wraps as a decorator, which is called with the class and what it decorates", () => {
  const context = { kind: "class", name: "Both", metadata: {}, addInitializer: () => {} } as unknown as ClassDecoratorContext;
  class Both extends DurableObject<unknown> {
    sendMessages(): void {}
    receiveMessage(): void {}
  }
  const Wrapped = withTransactionalInbox(withTransactionalOutbox(Both, context), context);
  expect(Wrapped.name).toBe("Both");
  expect(Wrapped.prototype).toBeInstanceOf(Both);
});

it("takes every option at its bounds, and undefined as not given", () => {
  const retry = { minDelaySeconds: 0.001, maxDelaySeconds: 604_800, factor: 10, jitter: 1, maxAttempts: 1000 };
  withTransactionalOutbox(class extends Orders {}, {
    binding: "B" as string,
    batchSize: 1000,
    timeoutSeconds: 600,
    retry,
    onEvent: () => {},
  });
  withTransactionalOutbox(class extends Orders {}, {
    batchSize: 1,
    timeoutSeconds: 0.001,
    retry: { factor: 1, jitter: 0, maxAttempts: 1 },
  });
  withTransactionalOutbox(class extends Orders {}, { batchSize: undefined, retry: { jitter: undefined } } as never);
});
