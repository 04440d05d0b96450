/** `toQueue`: what it hands to `sendBatch`, at and around each limit, and what becomes of the messages. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { envelopeOf } from "../../../src/api/envelope.ts";
import { type Destination, type QueueOptions, toQueue } from "../../../src/destinations/index.ts";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";
import { AS_JSON, NOT_JSON } from "../../support/destinations/json.ts";
import { all, message, messages, record } from "../../support/destinations/recorder.ts";
import { SEED, size } from "../../support/random.ts";
import { declared, eventually, inside, onEitherBackend } from "../support/harness.ts";
import { events } from "../support/worker.ts";

type Batch = { body: unknown; contentType: QueueContentType }[];

/** A queue that keeps what it gets; `refuse` may throw instead. */
function queueOf(refuse: (batch: Batch, call: number) => unknown = () => {}): { queue: Queue; batches: Batch[]; calls: () => number } {
  const batches: Batch[] = [];
  let calls = 0;
  const sendBatch = async (batch: Batch) => {
    await refuse(batch, ++calls);
    batches.push(batch);
  };
  return { queue: { sendBatch } as unknown as Queue, batches, calls: () => calls };
}

const sendTo = (queue: Queue, options?: QueueOptions): Destination => toQueue(queue as Queue<never>, options);
const lengths = (batches: Batch[]) => batches.map(({ length }) => length);

/** Bodies are texts of exactly so many bytes as the queue counts them. */
const sized = (...bytes: number[]) => messages(bytes.length, (n) => ({ msg: "x".repeat(bytes[n - 1] ?? 0) }));
const asText: QueueOptions = { body: ({ msg }) => msg, contentType: "text" };

describe("toQueue", () => {
  it("sends the envelope of each message, as JSON, and acks it", async () => {
    const { queue, batches } = queueOf();
    const batch = messages(3, (n) => ({ key: `key ${n}`, headers: { traceparent: "00-1-2-01" } }));
    expect(await record(sendTo(queue), batch)).toEqual({ outcomes: all("ack", 1, 3) });
    expect(batches).toEqual([batch.map((message) => ({ body: envelopeOf(message), contentType: "json" }))]);
  });

  it("sends what JSON holds as JSON, however many parts it has, and what shares its parts without counting them all", async () => {
    const { queue, batches } = queueOf();
    const body = ({ msg }: OutboxMessage) => msg;
    const many = Array.from({ length: 25_000 }, () => [{}]);
    const web = Array.from({ length: 60 }).reduce<object[]>((inner) => [inner, inner], []);
    await record(sendTo(queue, { body }), [message(1, { msg: many })]);
    expect(batches).toEqual([[{ body: many, contentType: "json" }]]);
    await record(sendTo(queue, { body }), [message(2, { msg: web })]);
    expect(batches[1]?.[0]?.contentType).toBe("v8");
  });

  it("brings its own ordering, so that the outbox gives it full batches", () => {
    expect(sendTo(queueOf().queue).ordering).toBe("batch");
  });

  it.each([
    [99, [99]],
    [100, [100]],
    [101, [100, 1]],
    [201, [100, 100, 1]],
  ])("sends %i messages in batches of %j", async (count, expected) => {
    const { queue, batches } = queueOf();
    await record(sendTo(queue), messages(count));
    expect(lengths(batches)).toEqual(expected);
  });

  it.each([127_899, 127_900])("sends a message of %i bytes", async (bytes) => {
    const { queue, batches } = queueOf();
    expect((await record(sendTo(queue, asText), sized(bytes))).outcomes).toEqual({ 1: "ack" });
    expect(batches).toHaveLength(1);
  });

  it.each([
    ["text", 127_901, asText],
    ["json", 127_899, { body: ({ msg }) => msg } satisfies QueueOptions],
    ["v8", 127_901, { body: ({ msg }) => msg, contentType: "v8" } satisfies QueueOptions],
    ["bytes", 127_901, { body: ({ msg }) => new Uint8Array((msg as string).length), contentType: "bytes" } satisfies QueueOptions],
  ] as const)("rejects one that is a byte too large as %s, alone, and names size and limit", async (_, bytes, options) => {
    const { queue, batches } = queueOf();
    const { outcomes, error } = await record(sendTo(queue, options), sized(5, bytes, 7));
    const reason = "reject The message takes 128001 bytes with its metadata; the limit of a queue is 128000.";
    expect(outcomes).toEqual({ 1: "ack", 2: reason, 3: "ack" });
    expect(error).toBeUndefined();
    expect(lengths(batches)).toEqual([2]);
  });

  it("counts characters as the bytes of UTF-8", async () => {
    const { queue } = queueOf();
    const texts = ["é".repeat(63_950), "é".repeat(63_951), "\u{1F600}".repeat(31_975), "\u{1F600}".repeat(31_976)];
    const { outcomes } = await record(
      sendTo(queue, asText),
      messages(4, (n) => ({ msg: texts[n - 1] })),
    );
    expect(outcomes).toEqual({
      1: "ack",
      2: expect.stringMatching("reject .* 128002 bytes"),
      3: "ack",
      4: expect.stringMatching("reject .* 128004 bytes"),
    });
  });

  it.each([
    [[127_900, 127_900], [2]],
    [[127_900, 127_800, 0], [3]],
    [
      [127_900, 127_800, 1],
      [2, 1],
    ],
    [
      [127_900, 127_900, 127_900],
      [2, 1],
    ],
  ])("sends messages of %j bytes in batches of %j", async (bytes, expected) => {
    const { queue, batches } = queueOf();
    expect((await record(sendTo(queue, asText), sized(...bytes))).outcomes).toEqual(all("ack", 1, bytes.length));
    expect(lengths(batches)).toEqual(expected);
  });

  it("never exceeds a limit, keeps the order and sends every message once", async () => {
    const sizes = fc.array(fc.oneof(fc.nat(2000), fc.nat(127_900), fc.constantFrom(0, 127_899, 127_900)), { maxLength: 250 });
    await fc.assert(
      fc.asyncProperty(sizes, async (bytes) => {
        const { queue, batches } = queueOf();
        const given = sized(...bytes);
        const { outcomes } = await record(sendTo(queue, asText), given);
        expect(outcomes).toEqual(all("ack", 1, bytes.length));
        for (const batch of batches) {
          expect(batch.length).toBeGreaterThan(0);
          expect(batch.length).toBeLessThanOrEqual(100);
          expect(batch.reduce((sum, { body }) => sum + (body as string).length + 100, 0)).toBeLessThanOrEqual(256_000);
        }
        expect(batches.flat().map(({ body }) => body)).toEqual(given.map(({ msg }) => msg));
        // No batch that could have taken the next message as well.
        for (const [i, batch] of batches.slice(0, -1).entries()) {
          const more = [...batch, batches[i + 1]?.[0]];
          const full = more.length > 100 || more.reduce((sum, next) => sum + String(next?.body).length + 100, 0) > 256_000;
          expect(full).toBe(true);
        }
      }),
      { seed: SEED, numRuns: size(20, 60) },
    );
  });

  it("acks what was sent before a batch failed, and throws its error", async () => {
    const { queue, batches } = queueOf((_, call) => {
      if (call === 2) throw new Error("Queue is overloaded (10250)");
    });
    const { outcomes, error } = await record(sendTo(queue), messages(250));
    expect(outcomes).toEqual(all("ack", 1, 100));
    expect(error?.message).toBe("Queue is overloaded (10250)");
    expect(lengths(batches)).toEqual([100]);
  });

  it("sends no further batch after the timeout", async () => {
    const controller = new AbortController();
    const { queue, batches } = queueOf(() => controller.abort(new Error("too long")));
    const { outcomes, error } = await record(sendTo(queue), messages(150), controller.signal);
    expect([lengths(batches), outcomes, error?.message]).toEqual([[100], all("ack", 1, 100), "too long"]);
  });

  it("sends what JSON does not hold as v8", async () => {
    const { queue, batches } = queueOf();
    await record(sendTo(queue), [message(1, { msg: new Map([[1, 2]]) }), message(2)]);
    expect(batches[0]?.map(({ contentType }) => contentType)).toEqual(["v8", "json"]);
    expect(batches[0]?.[0]?.body).toMatchObject({ msg: new Map([[1, 2]]) });
  });

  it.each(AS_JSON)("sends %s, where JSON is asked for", async (_, msg, body) => {
    const { queue, batches } = queueOf();
    const send = sendTo(queue, { body: ({ msg }) => msg, contentType: "json" });
    expect(await record(send, [message(1, { msg })])).toEqual({ outcomes: { 1: "ack" } });
    expect(JSON.parse(JSON.stringify(batches[0]?.[0]?.body))).toEqual(body);
  });

  it.each([undefined, "json", "v8"] as const)("reads a body once: what was measured is what is sent (%s)", async (contentType) => {
    const { queue, batches } = queueOf();
    const body = () => {
      let reads = 0;
      return {
        get n() {
          if (++reads > 1) throw new Error("read again");
          return 1;
        },
      };
    };
    expect(await record(sendTo(queue, { body, ...(contentType && { contentType }) }), [message(1)])).toEqual({ outcomes: { 1: "ack" } });
    expect(structuredClone(batches[0]?.[0]?.body)).toEqual({ n: 1 });
  });

  it("leaves a v8 body that may or may not fit to the queue, alone, and rejects it when the queue says so", async () => {
    // Each small number counts with more bytes than it takes.
    const odd = message(2, { msg: Array.from({ length: 12_000 }, () => 1n) });
    const well = queueOf();
    expect((await record(sendTo(well.queue), [message(1), odd, message(3)])).outcomes).toEqual(all("ack", 1, 3));
    expect(lengths(well.batches)).toEqual([1, 1, 1]);
    const full = queueOf((batch) => {
      if (Array.isArray((batch[0]?.body as { msg?: unknown } | undefined)?.msg)) throw new Error("Message size out of bounds (10204)");
    });
    const { outcomes, error } = await record(sendTo(full.queue), [message(1), odd, message(3)]);
    expect(outcomes).toEqual({ 1: "ack", 2: expect.stringMatching(/^reject The message takes \d+ bytes .* 128000\.$/), 3: "ack" });
    expect(error).toBeUndefined();
  });

  it("throws when a batch of several is too large for the queue after all", async () => {
    const { queue } = queueOf(() => {
      throw new Error("Message size out of bounds (10204)");
    });
    const { outcomes, error } = await record(sendTo(queue), messages(2));
    expect([outcomes, error?.message]).toEqual([{}, "Message size out of bounds (10204)"]);
  });

  it.each([
    ["gives undefined", { body: () => undefined }, "A queue does not accept an undefined body."],
    [
      "throws",
      {
        body: () => {
          throw new Error("no such order");
        },
      },
      "no such order",
    ],
    ["gives a number as text", { body: () => 1, contentType: "text" }, 'A queue does not accept this body as "text".'],
    [
      "gives an ArrayBuffer as bytes",
      { body: () => new ArrayBuffer(1), contentType: "bytes" },
      'A queue accepts only array buffer views as "bytes".',
    ],
    ["gives a function as JSON", { body: () => () => 1, contentType: "json" }, "JSON cannot represent a Function."],
    ["gives a symbol as JSON", { body: () => [Symbol("no")], contentType: "json" }, "JSON cannot represent a Symbol."],
    ...NOT_JSON.map(([what, make, reason]) => [
      `gives ${what} as JSON`,
      { body: () => ({ value: make() }), contentType: "json" },
      `JSON cannot represent ${reason}.`,
    ]),
    [
      "gives what can't be cloned",
      { body: () => ({ f: () => 1 }) },
      "Expected `body.f` to be a value that can be cloned, got a function: () => 1 could not be cloned.",
    ],
  ] as [string, QueueOptions, string][])("rejects a message alone whose body %s", async (_, options, reason) => {
    const { queue, batches } = queueOf();
    const body = (message: OutboxMessage) => (message.sequence === 2 ? options.body?.(message) : ok(options.contentType));
    const { outcomes, error } = await record(sendTo(queue, { ...options, body }), messages(3));
    expect([outcomes, error]).toEqual([{ 1: "ack", 2: `reject ${reason}`, 3: "ack" }, undefined]);
    expect(lengths(batches)).toEqual([2]);
  });

  it.each([
    ["queue", () => toQueue(undefined as never), "Expected `queue` to be a queue's binding, got undefined."],
    ["queue", () => toQueue({} as never), "Expected `queue` to be a queue's binding, got an object."],
    ["options", () => toQueue(queueOf().queue, 1 as never), "Expected `options` to be an object, got 1."],
    [
      "options",
      () => toQueue(queueOf().queue, { type: 1 } as never),
      'Expected `options` to be free of unknown options, got "type": did you mean `contentType`? Known options: body, contentType, shardBy.',
    ],
    ["options.body", () => toQueue(queueOf().queue, { body: 1 } as never), "Expected `options.body` to be a function, got 1."],
    [
      "options.contentType",
      () => toQueue(queueOf().queue, { contentType: "xml" } as never),
      'Expected `options.contentType` to be "json", "v8", "text" or "bytes", got "xml".',
    ],
  ])("refuses a wrong %s at once", (_, make, text) => {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(text);
  });

  it("refuses to be called without delivery, before it sends", async () => {
    const { queue, calls } = queueOf();
    await expect((sendTo(queue) as (messages: OutboxMessage[]) => Promise<void>)(messages(1))).rejects.toThrow("Expected `delivery`");
    expect(calls()).toBe(0);
  });
});

function ok(contentType: QueueContentType | undefined): unknown {
  return contentType === "bytes" ? new Uint8Array(1) : "fine";
}

onEitherBackend("a wrapped object that sends to a queue", (backend) => {
  type Form = new (ctx: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager }) => { outbox: OutboxManager };

  const forms: Record<string, (queue: Queue) => Form> = {
    "an instance property": (queue) =>
      withTransactionalOutbox(
        class {
          readonly outbox: OutboxManager;
          readonly env: { QUEUE: Queue };
          sendMessages: Destination;
          constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager }) {
            this.outbox = env.OUTBOX_MANAGER;
            this.env = { QUEUE: queue };
            this.sendMessages = toQueue(this.env.QUEUE);
          }
        },
        { retry: { minDelaySeconds: 0.1 }, onEvent: (event) => void events.push(event) },
      ),
    "a method": (queue) =>
      withTransactionalOutbox(
        class {
          readonly outbox: OutboxManager;
          readonly env = { QUEUE: queue };
          constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager }) {
            this.outbox = env.OUTBOX_MANAGER;
          }
          sendMessages(...args: Parameters<Destination>) {
            return toQueue(this.env.QUEUE)(...args);
          }
        },
        { retry: { minDelaySeconds: 0.1 }, onEvent: (event) => void events.push(event) },
      ),
  };

  it.concurrent.each(Object.keys(forms))("keeps the order of each key over failures, through %s", async (form) => {
    const { queue, batches } = queueOf((_, call) => {
      if (call < 3) throw new Error("Queue is overloaded (10250)");
    });
    const stub = declared(backend, forms[form]?.(queue) as Form);
    await inside(stub, async (_, outbox) => {
      for (let n = 0; n < 30; n++) await outbox.send({ n }, { key: `key ${n % 3}` });
    });
    await eventually(() => batches.flat().length === 30);
    const numbers = batches.flat().map(({ body }) => (body as { msg: { n: number } }).msg.n);
    for (const key of [0, 1, 2]) {
      const ofKey = numbers.filter((n) => n % 3 === key);
      expect(ofKey).toEqual([...ofKey].sort((a, b) => a - b));
    }
    expect(new Set(numbers).size).toBe(30);
  });

  it.concurrent("gets messages of one key in one batch, through an instance property", async () => {
    const { queue, batches } = queueOf();
    const stub = declared(backend, forms["an instance property"]?.(queue) as Form);
    await inside(stub, (_, outbox, state) =>
      state.blockConcurrencyWhile(async () => {
        for (let n = 0; n < 30; n++) await outbox.send({ n }, { key: "one" });
      }),
    );
    await eventually(() => batches.flat().length === 30);
    expect(lengths(batches)).toEqual([30]);
  });

  it.concurrent("leaves a dead letter that names size and limit, and delivers the others once", async () => {
    const { queue, batches } = queueOf();
    const stub = declared(backend, forms["an instance property"]?.(queue) as Form);
    await inside(stub, async (_, outbox) => {
      for (const size of [1, 2]) await outbox.send({ size });
      // Storage of KV-backed objects takes no message that is larger than this, as text; as UTF-8 it is.
      await outbox.send("é".repeat(64_000));
      await outbox.send({ size: 3 });
    });
    await eventually(() => batches.flat().length === 3);
    const dead = await eventually(() =>
      inside(stub, async (_, outbox) => {
        const found = await outbox.list({ state: "dead" });
        return found.length > 0 && found;
      }),
    );
    expect(dead).toMatchObject([{ reason: "rejected", error: expect.stringMatching(/^The message takes \d+ bytes .* is 128000\.$/) }]);
    expect(batches.flat().map(({ body }) => (body as { msg: { size: number } }).msg.size)).toEqual([1, 2, 3]);
  });
});
