/** Mistakes that newcomers make, and what each is told: one table for classes and functions, one for what an object calls. */
import { DurableObject, env as globalEnv } from "cloudflare:workers";
import { expect, it } from "vitest";
import { byType, toDurableObject, toQueue, toWebhook } from "../../../src/destinations/index.ts";
import { consumeQueue, withTransactionalInbox } from "../../../src/inbox/index.ts";
import { type OutboxManager, withTransactionalOutbox } from "../../../src/index.ts";
import { declared, eventually, expectUntouched, inside, onEitherBackend } from "../support/harness.ts";
import { inboxOf } from "../support/inbox.ts";
import { Box, options } from "../support/worker.ts";

/** Whatever a program that is not typed may do. */
// biome-ignore lint/suspicious/noExplicitAny: these are what the types would refuse.
type Any = any;

const PUT_OPTIONS =
  "id, replace, key, delaySeconds, deliverAt, expiresInSeconds, expectedSequence, headers, allowConcurrency, allowUnconfirmed, noCache";
const OUTBOX_OPTIONS =
  "batchSize, timeoutSeconds, maxPending, expiresInSeconds, idempotencySeconds, settleWithinSeconds, maxPerSecond, binding, dispatch, ordering, retry, retain, messages, deadLetters, onDead, onEvent";
const queue = { sendBatch: async () => {} } as unknown as Queue;
const namespace = { idFromName: () => {}, get: () => {} } as Any;
const secret = new Uint8Array(32);
class Orders extends Box {}

const IN_CODE: [mistake: string, act: () => unknown, message: string][] = [
  [
    "a class without sendMessages",
    () => withTransactionalOutbox(class Empty extends DurableObject {} as Any),
    'Expected `cls` to be a class with sendMessages() or destinations, got "Empty".',
  ],
  ["no class", () => withTransactionalInbox(undefined as Any), "Expected `cls` to be a class, got undefined."],
  [
    "a misspelt option of the wrapper",
    () => withTransactionalOutbox(Orders, { batchSise: 5 } as Any),
    `Expected \`options\` to be free of unknown options, got "batchSise": did you mean \`batchSize\`? Known options: ${OUTBOX_OPTIONS}.`,
  ],
  [
    "an option without its unit",
    () => withTransactionalOutbox(Orders, { timeout: 5 } as Any),
    `Expected \`options\` to be free of unknown options, got "timeout": did you mean \`timeoutSeconds\`? Known options: ${OUTBOX_OPTIONS}.`,
  ],
  [
    "an option of another library's retry",
    () => withTransactionalOutbox(Orders, { retry: { attempts: 3 } } as Any),
    'Expected `options.retry` to be free of unknown options, got "attempts": did you mean `maxAttempts`? Known options: minDelaySeconds, maxDelaySeconds, factor, jitter, maxAttempts.',
  ],
  [
    "an option that is out of range",
    () => withTransactionalOutbox(Orders, { batchSize: 0 }),
    "Expected `options.batchSize` to be a whole number from 1 to 1000, got 0.",
  ],
  [
    "a dispatch that does not exist",
    () => withTransactionalOutbox(Orders, { dispatch: "now" } as Any),
    'Expected `options.dispatch` to be "alarm" or "immediate", got "now".',
  ],
  [
    "options that are none",
    () => withTransactionalOutbox(Orders, "OUTBOX_MANAGER" as Any),
    'Expected `options` to be an object, got "OUTBOX_MANAGER".',
  ],
  [
    "a misspelt option of the inbox",
    () => withTransactionalInbox(Orders as Any, { order: true } as Any),
    'Expected `options` to be free of unknown options, got "order": did you mean `ordered`? Known options: binding, ordered, maxWaiting, retentionSeconds, maxIds, messages, onEvent.',
  ],
  [
    "an inbox around a class that receives by itself",
    () =>
      withTransactionalInbox(
        class Own extends DurableObject {
          receiveMessages() {}
        } as Any,
      ),
    'Expected `cls` to be a class without a receiveMessages() of its own, got "Own".',
  ],
  ["a queue that is not bound", () => toQueue(undefined as Any), "Expected `queue` to be a queue's binding, got undefined."],
  [
    "an unknown option of toQueue",
    () => toQueue(queue, { contentTyp: "json" } as Any),
    'Expected `options` to be free of unknown options, got "contentTyp": did you mean `contentType`? Known options: body, contentType, shardBy.',
  ],
  [
    "a stub in the place of a namespace",
    () => toDurableObject({ id: "a" } as Any, () => "a"),
    "Expected `namespace` to be a Durable Object namespace's binding, got an object.",
  ],
  [
    "a name in the place of a route",
    () => toDurableObject(namespace, "customer" as Any),
    'Expected `route` to be a function, got "customer".',
  ],
  [
    "an unknown option of toDurableObject",
    () => toDurableObject(namespace, () => "a", { timeout: 3 } as Any),
    'Expected `options` to be free of unknown options, got "timeout": did you mean `timeoutSeconds`? Known options: concurrency, timeoutSeconds.',
  ],
  ["a webhook without options", () => (toWebhook as Any)("https://example.com"), "Expected `options` to be an object, got undefined."],
  [
    "a webhook with a URL that is none",
    () => toWebhook("example.com/hooks", { secret }),
    'Expected `url` to be an absolute http or https URL, got "(not shown)".',
  ],
  [
    "a secret that is no secret",
    () => toWebhook("https://example.com", { secret: "password" }),
    'Expected `options.secret` to be whsec_ and base64, or a Uint8Array, got "(not shown)".',
  ],
  ["a route of byType that is none", () => byType({ paid: queue } as Any), "Expected `routes.paid` to be a function, got an object."],
  [
    "a consumer without a route",
    () => consumeQueue({ messages: [] } as Any, {}, {} as Any),
    "Expected `options.route` to be a function, got undefined.",
  ],
  [
    "an unknown option of the consumer",
    () => consumeQueue({ messages: [] } as Any, {}, { route: () => {}, delaySeconds: 1 } as Any),
    'Expected `options` to be free of unknown options, got "delaySeconds": did you mean `retryDelaySeconds`? Known options: route, retryDelaySeconds, onFailure.',
  ],
];

it.each(IN_CODE)("%s is a TypeError that says what to write", async (_, act, message) => {
  await expect((async () => await act())()).rejects.toMatchObject({ name: "TypeError", message: `[do-transactional-outbox] ${message}` });
});

const fail = () => "it fails";

const IN_AN_OBJECT: [
  mistake: string,
  act: (outbox: OutboxManager & Any, state: DurableObjectState) => unknown,
  message: string | RegExp,
][] = [
  [
    "an option without its unit",
    (outbox) => outbox.put("key", 1, "msg", { delay: 5 }),
    `Expected \`options\` to be free of unknown options, got "delay": did you mean \`delaySeconds\`? Known options: ${PUT_OPTIONS}.`,
  ],
  [
    "an option that there is not",
    (outbox) => outbox.send("msg", { ttl: 5 }),
    `Expected \`options\` to be free of unknown options, got "ttl". Known options: ${PUT_OPTIONS}.`,
  ],
  [
    "a misspelt option of storage",
    (outbox) => outbox.delete("key", "msg", { allowUnconfirmd: true }),
    `Expected \`options\` to be free of unknown options, got "allowUnconfirmd": did you mean \`allowUnconfirmed\`? Known options: ${PUT_OPTIONS}.`,
  ],
  [
    "an unknown option in a transaction",
    (outbox) => outbox.transaction((txn: Any) => txn.send("msg", { expiresIn: 5 })),
    `Expected \`options\` to be free of unknown options, got "expiresIn": did you mean \`expiresInSeconds\`? Known options: ${PUT_OPTIONS}.`,
  ],
  ["options that are none", (outbox) => outbox.deleteAll("msg", 5), "Expected `options` to be an object, got 5."],
  ["a put without a message", (outbox) => outbox.put("key", 1), "Expected `msg` to be a value, got undefined."],
  [
    "a promise as the key",
    (outbox) => outbox.put(Promise.resolve("key"), 1, "msg"),
    "Expected `key` to be a string, or a plain object of entries, got a promise (is an `await` missing?).",
  ],
  [
    "a promise as the entries",
    (outbox) => outbox.put(Promise.resolve({ key: 1 }), "msg"),
    "Expected `key` to be a string, or a plain object of entries, got a promise (is an `await` missing?).",
  ],
  [
    "a map as the entries",
    (outbox) => outbox.put(new Map([["key", 1]]), "msg"),
    "Expected `key` to be a string, or a plain object of entries, got a Map.",
  ],
  [
    "a list as the entries",
    (outbox) => outbox.put(["key", 1], "msg"),
    "Expected `key` to be a string, or a plain object of entries, got an array.",
  ],
  ["a number as the key", (outbox) => outbox.put(5, 1, "msg"), "Expected `key` to be a string, or a plain object of entries, got 5."],
  [
    "the value before its key",
    (outbox) => outbox.put({ a: 1 }, "key", { n: 1 }),
    "Expected `key` to be a string before a value and a message, got an object: call put(key, value, msg) or put(entries, msg).",
  ],
  [
    "the value before its key, with options",
    (outbox) => outbox.put({ a: 1 }, "key", { n: 1 }, { id: "a" }),
    "Expected `key` to be a string before a value and a message, got an object: call put(key, value, msg) or put(entries, msg).",
  ],
  [
    "a function in a message",
    (outbox) => outbox.put("key", 1, { items: [{ done: fail }] }),
    'Expected `msg.items[0].done` to be a value that can be cloned, got a function: () => "it fails" could not be cloned.',
  ],
  [
    "a message that is a promise",
    (outbox) => outbox.send(Promise.resolve("msg")),
    "Expected `msg` to be a value that can be cloned, got a promise (is an `await` missing?): #<Promise> could not be cloned.",
  ],
  [
    "a function in a value",
    (outbox) => outbox.put("order:1", { total: { toText: fail } }, "msg"),
    'Expected `order:1.total.toText` to be a value that can be cloned, got a function: () => "it fails" could not be cloned.',
  ],
  [
    "a symbol among entries",
    (outbox) => outbox.put({ a: 1, b: [Symbol("s")] }, "msg"),
    "Expected `b[0]` to be a value that can be cloned, got Symbol(s): Symbol(s) could not be cloned.",
  ],
  [
    "a value that is a promise",
    (outbox) => outbox.put("key", Promise.resolve(1), "msg"),
    "Expected `key` to be a value that can be cloned, got a promise (is an `await` missing?): #<Promise> could not be cloned.",
  ],
  [
    "a function among many entries",
    (outbox) => outbox.put({ ...Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`n${i}`, i])), bad: { fail } }, "msg"),
    'Expected `bad.fail` to be a value that can be cloned, got a function: () => "it fails" could not be cloned.',
  ],
  [
    "a key of the outbox",
    (outbox) => outbox.put("\u{10ffff}", 1, "msg"),
    "Keys that begin with U+10FFFF are reserved for the outbox. (reserved_key)",
  ],
  [
    "headers that are Headers",
    (outbox) => outbox.send("msg", { headers: new Headers({ a: "b" }) }),
    "Expected `options.headers` to be a plain object of strings, got a Headers.",
  ],
  [
    "a time that is text",
    (outbox) => outbox.send("msg", { deliverAt: "2026-12-24" }),
    'Expected `options.deliverAt` to be a time, got "2026-12-24".',
  ],
  ["an empty id", (outbox) => outbox.send("msg", { id: "" }), 'Expected `options.id` to be a string of 1 to 256 characters, got "".'],
  [
    "a misspelt option of list",
    (outbox) => outbox.list({ states: "dead" }),
    'Expected `options` to be free of unknown options, got "states": did you mean `state`? Known options: state, limit, after, destination.',
  ],
  [
    "a state that there is not",
    (outbox) => outbox.list({ state: "failed" }),
    'Expected `options.state` to be "pending", "delayed" or "dead", got "failed".',
  ],
  ["one id in the place of a list", (outbox) => outbox.redrive("a"), 'Expected `ids` to be a list of ids, got "a".'],
  ["a transaction without a closure", (outbox) => outbox.transaction(), "Expected `closure` to be a function, got undefined."],
  [
    "a send after its transaction",
    (outbox) => outbox.transaction(async (txn: Any) => txn).then(async (txn: Any) => await txn.send("msg")),
    "The transaction has ended. (unsupported)",
  ],
];

onEitherBackend("an object's", (backend) => {
  it.each(IN_AN_OBJECT)("mistake is told: %s. Nothing is written", async (_, act, message) => {
    const stub = declared(backend, withTransactionalOutbox(class extends Box {}, options));
    await inside(stub, async (_, outbox, state) => {
      const error = await (async () => await act(outbox, state))().catch((error: unknown) => error);
      expect(error).toMatchObject({ message: `[do-transactional-outbox] ${message}` });
      expect((error as Error).name).toBe((error as { code?: string }).code === undefined ? "TypeError" : "OutboxError");
      await expectUntouched(state);
    });
  });

  it("full outbox is told in a sentence that is right for any number", async () => {
    const stub = declared(backend, withTransactionalOutbox(class extends Box {}, { ...options, maxPending: 1 }));
    await inside(stub, async (_, outbox, state) => {
      await state.blockConcurrencyWhile(async () => {
        await outbox.send("one", { delaySeconds: 1000 });
        await expect(outbox.send("two")).rejects.toThrow("[do-transactional-outbox] The outbox is full: maxPending is 1. (outbox_full)");
      });
    });
  });

  it("manager is missing where the class has an inbox alone, and each method says so", async () => {
    const { stub } = inboxOf(backend, "the inbox alone");
    await inside(stub, async (_, outbox) => {
      const message =
        "[do-transactional-outbox] This object has no outbox: wrap its class with withTransactionalOutbox() as well. (unsupported)";
      for (const name of ["put", "send", "transaction", "stats"]) expect(() => (outbox as Any)[name]("key", 1, "msg")).toThrow(message);
    });
  });

  it("webhook without its secret lets the object start, and keeps messages until the secret is there", async () => {
    const errors: string[] = [];
    const cls = withTransactionalOutbox(
      class extends Box {
        override sendMessages: Any = toWebhook("https://example.com/hooks", { secret: (this.env as Any).WEBHOOK_SECRET });
      },
      { ...options, onEvent: (event) => void (event.type === "failed" && errors.push(event.error)) },
    );
    const stub = declared(backend, cls);
    await inside(stub, (_, outbox) => outbox.send("msg"));
    await eventually(() => errors.length > 1);
    expect(errors[0]).toBe(
      "toWebhook() has no secret: options.secret is missing. Is the secret set for this environment (`wrangler secret put`)?",
    );
    expect(await inside(stub, async (_, outbox) => [(await outbox.stats()).pending, (await outbox.stats()).dead])).toEqual([1, 0]);
  });
});

it("the env of the worker has no manager: it is one for all objects", () => {
  expect(globalEnv).not.toHaveProperty("OUTBOX_MANAGER");
});
