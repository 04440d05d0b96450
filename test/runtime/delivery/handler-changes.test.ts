/** Handlers that change what they were given: nothing of that reaches storage, and the next attempt gets what was put. */
import { expect, it } from "vitest";
import type { OutboxDelivery, OutboxMessage } from "../../../src/index.ts";
import { boxWith } from "../support/batches.ts";
import { crash, eventually, inside, onEitherBackend, type Stub } from "../support/harness.ts";
import { idle, listed, waiting } from "../support/standing.ts";
import { type Sent, stageOf } from "../support/worker.ts";

type Content = { n: number; amount: unknown; tags: unknown; more?: unknown };
type Change = (messages: Sent, message: OutboxMessage & { msg: Content }) => unknown;

/** What user code does to its arguments, on purpose or not. */
const CHANGES: Record<string, Change> = {
  "a number becomes a BigInt": (_, { msg }) => {
    msg.amount = BigInt(msg.n);
  },
  "a list becomes a Set": (_, { msg }) => {
    msg.tags = new Set(msg.tags as string[]);
  },
  "a function is added": (_, { msg }) => {
    msg.more = () => {};
  },
  "a cycle is added": (_, { msg }) => {
    msg.more = msg;
  },
  "a property is deleted": (_, { msg }) => delete (msg as Partial<Content>).amount,
  "a toJSON that throws is added": (_, { msg }) =>
    Object.assign(msg, {
      toJSON() {
        throw new Error("not as JSON");
      },
    }),
  "a list grows": (_, { msg }) => (msg.tags as string[]).push("later"),
  "the content is replaced": (_, message) => Object.assign(message, { msg: undefined }),
  "the headers change": (_, message) => Object.assign(message.headers ?? {}, { traceparent: 1n, another: undefined }),
  "id and key change": (_, message) => Object.assign(message, { id: "another", key: "another", attempts: -1 }),
  "everything is frozen": (_, message) => [Object.freeze(message.msg), Object.freeze(message)],
  "the list of messages is emptied": (messages) => messages.splice(0),
  "the list of messages is turned round": (messages) => messages.reverse(),
  "the list of messages grows": (messages) => messages.push(...messages),
};

/** How the first call ends after that. */
const ENDS: Record<string, (ids: readonly string[], delivery: OutboxDelivery) => void> = {
  "retries all": (ids, delivery) => {
    for (const id of ids) delivery.retry(id, { delaySeconds: 0.05 });
  },
  "retries one": ([id = ""], delivery) => delivery.retry(id, { delaySeconds: 0.05 }),
  "rejects all": (ids, delivery) => {
    for (const id of ids) delivery.reject(id, "not wanted");
  },
  throws: () => {
    throw new Error("down for a moment");
  },
};

/** JSON holds the one, and not the other. */
const contents: Record<string, (n: number) => Content> = {
  JSON: (n) => ({ n, amount: n, tags: ["a", "b"] }),
  "structured clone": (n) => ({ n, amount: n, tags: ["a", "b"], more: new Map([[n, new Date(n)]]) }),
};

const headers = { traceparent: "00-1" };
const byNumber = (a: OutboxMessage, b: OutboxMessage): number => (a.msg as Content).n - (b.msg as Content).n;
const shown = (messages: readonly OutboxMessage[]): unknown[] =>
  [...messages].sort(byNumber).map(({ id, msg, key, headers }) => ({ id, msg, key, headers }));

onEitherBackend("a handler that changes its messages", (backend) => {
  for (const [name, content] of Object.entries(contents)) {
    for (const [end, finish] of Object.entries(ENDS)) {
      it.concurrent.each(Object.entries(CHANGES))(
        `%s, and the call ${end}: the next one gets what was put (${name})`,
        async (_, change) => {
          const stub = boxWith(backend, {});
          const stage = stageOf(stub);
          stage.script.push((messages, delivery) => {
            const ids = messages.map(({ id }) => id);
            for (const message of [...messages]) change(messages, message as never);
            finish(ids, delivery);
          });
          await inside(stub, (_, outbox) =>
            Promise.all([1, 2, 3].map((n) => outbox.put(`k${n}`, n, content(n), { key: `key ${n}`, headers, id: `id ${n}` }))),
          );
          const expected = [1, 2, 3].map((n) => ({ id: `id ${n}`, msg: content(n), key: `key ${n}`, headers }));
          await settled(stub);
          expect(shown(stage.calls[0] ?? [])).toEqual(expected);
          if (end === "rejects all") {
            expect(shown(await listed(stub, "dead"))).toEqual(expected);
            const next = await crash(stub);
            expect(shown(await listed(next, "dead"))).toEqual(expected);
            await inside(next, (_, outbox) => outbox.redrive());
            await settled(next);
          }
          const again = end === "retries one" ? expected.slice(0, 1) : expected;
          expect(shown(stage.calls.slice(1).flat())).toEqual(again);
        },
      );
    }
  }

  it("what is done to a message that list() shows is not stored", async () => {
    const stub = boxWith(backend, {});
    const msg = { n: 1, amount: 1, tags: new Map([["a", [1]]]) };
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      await outbox.send(msg, { headers });
      for (const shown of await outbox.list()) {
        (shown.msg as typeof msg).tags.get("a")?.push(2);
        Object.assign(shown.headers ?? {}, { traceparent: "another" });
      }
      // The header is written again, and its messages with it.
      await Promise.all(Array.from({ length: 20 }, () => outbox.send("another")));
      await outbox.resume();
    });
    await settled(stub);
    expect(stageOf(stub).calls[0]?.[0]).toMatchObject({ msg, headers });
  });

  it("a handler that breaks each message it gets, and throws, makes dead letters of what was put", async () => {
    const stub = boxWith(backend, { retry: { minDelaySeconds: 0.01, maxDelaySeconds: 0.01, jitter: 0, maxAttempts: 3 } });
    const stage = stageOf(stub);
    stage.rest = (messages) => {
      for (const { msg } of messages as { msg: Content }[]) {
        msg.amount = BigInt(msg.n);
        if (msg.n === 2) throw new Error("the destination does not like 2");
      }
    };
    await inside(stub, (_, outbox) => Promise.all([1, 2, 3].map((n) => outbox.send(contents.JSON?.(n)))));
    await eventually(async () => (await listed(stub, "dead")).length === 1);
    expect((await listed(stub, "dead")).map(({ msg }) => msg)).toEqual([contents.JSON?.(2)]);
    const numbers = stage.calls.flat().map(({ msg }) => (msg as Content).n);
    expect([...new Set(numbers)].sort()).toEqual([1, 2, 3]);
    for (const { msg } of stage.calls.flat()) expect(msg).toEqual(contents.JSON?.((msg as Content).n));
  });
});

/** Waits until nothing waits any more. Dead letters may be left. */
async function settled(stub: Stub): Promise<void> {
  expect(waiting(await idle(stub))).toBe(0);
}
