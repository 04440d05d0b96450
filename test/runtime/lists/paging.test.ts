/** Pages of what is stored: a walk over a state sees everything that stays in it exactly once, whatever becomes of the rest meanwhile. */
import { expect, it } from "vitest";
import type { OutboxListed, OutboxListOptions, OutboxManager } from "../../../src/index.ts";
import { boxWith, numbers } from "../support/batches.ts";
import { type Backend, crash, eventually, inside, onEitherBackend, type Stub, sent } from "../support/harness.ts";
import { crashDurably, listed, paused, statsOf } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

type State = NonNullable<OutboxListOptions["state"]>;

/** Walks over a state in pages of three. `each` is called with every message of a page before the next page is asked for. */
async function walk(stub: Stub, state: State, each: (outbox: OutboxManager, message: OutboxListed) => unknown): Promise<unknown[]> {
  const seen: unknown[] = [];
  for (let after: string | undefined; ; ) {
    const page = await inside(stub, async (_, outbox) => {
      const page = await outbox.list({ state, limit: 3, ...(after !== undefined && { after }) });
      for (const message of page) await each(outbox, message);
      return page;
    });
    if (page.length === 0) return seen;
    seen.push(...page.map(({ msg }) => msg));
    after = page.at(-1)?.id;
  }
}

const cancel = (outbox: OutboxManager, { id }: OutboxListed) => outbox.cancel(id);

/** An outbox that hands nothing over, with so many messages, every other one under an id of its own. */
async function withMessages(backend: Backend, count: number, key?: (n: number) => string): Promise<Stub> {
  const stub = await paused(backend);
  await inside(stub, (_, outbox) =>
    Promise.all(numbers(count).map((n) => outbox.send(n, { ...(n % 2 === 0 && { id: `own:${n}` }), ...(key && { key: key(n) }) }))),
  );
  return stub;
}

/** Makes all of them dead letters. */
async function killed(stub: Stub, count: number): Promise<Stub> {
  const stage = stageOf(stub);
  stage.rest = (messages, delivery) => {
    for (const { id } of messages) delivery.reject(id, "not wanted");
  };
  await inside(stub, (_, outbox) => outbox.resume());
  await eventually(async () => (await statsOf(stub)).dead === count);
  stage.rest = () => {};
  await inside(stub, (_, outbox) => outbox.pause());
  return stub;
}

onEitherBackend("a walk", (backend) => {
  it("over the queue goes on when what ended its page has been cancelled", async () => {
    const stub = await withMessages(backend, 70);
    expect(await walk(stub, "pending", cancel)).toEqual(numbers(70));
    expect(await listed(stub, "pending")).toEqual([]);
  });

  it("over messages that wait for a time goes on when what ended its page has been cancelled", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox) => {
      for (const n of numbers(20)) await outbox.send(n, { delaySeconds: 600, ...(n % 2 === 0 && { id: `own:${n}` }) });
      await outbox.send("now");
    });
    await eventually(async () => (await statsOf(stub)).pending === 0);
    expect((await walk(stub, "delayed", cancel)).sort((a, b) => Number(a) - Number(b))).toEqual(numbers(20));
    expect(await listed(stub, "delayed")).toEqual([]);
  });

  it("over what waits behind ordering keys goes on when what ended its page has been cancelled", async () => {
    const stub = await killed(await withMessages(backend, 60, (n) => ["a", 'a"', "ž"][n % 3] as string), 60);
    await inside(stub, (_, outbox) => outbox.redrive());
    const seen = await walk(stub, "delayed", cancel);
    expect(seen.length).toBe(60);
    for (const rest of [0, 1, 2]) expect(seen.filter((n) => (n as number) % 3 === rest)).toEqual(numbers(60).filter((n) => n % 3 === rest));
    expect(await listed(stub, "delayed")).toEqual([]);
  });

  it.each(["discard", "redrive"] as const)(
    "over dead letters goes on when what ended its page has left by %s, also in another life of the object",
    async (leave) => {
      const first = await killed(await withMessages(backend, 40), 40);
      expect(await walk(first, "dead", (outbox, { id }) => outbox[leave]([id]))).toEqual(numbers(40));
      const second = await killed(await withMessages(backend, 20), 20);
      const [, , , last] = await listed(second, "dead");
      const next = await crashDurably(second, (outbox) => outbox.discard([last?.id ?? ""]));
      const ids = await inside(next, async (_, outbox) => [
        (await outbox.list({ state: "dead", after: (await outbox.list({ state: "dead", limit: 1 }))[0]?.id ?? "" })).map(({ msg }) => msg),
      ]);
      expect(ids).toEqual([numbers(20).filter((n) => n !== 1 && n !== 4)]);
    },
  );

  it("shows what moves meanwhile once: scheduled messages that leave the queue", async () => {
    for (const when of [0, 6, 30, 59]) {
      const stub = boxWith(backend, {});
      await inside(stub, (_, outbox) =>
        Promise.all(numbers(60).map((n) => outbox.send(n, { delaySeconds: 600, ...(n % 4 === 0 && { key: `key ${n}` }) }))),
      );
      let shown = 0;
      const seen: unknown[] = [];
      for (let after: string | undefined; ; ) {
        // At some moment another message passes, and all of them move out of its way.
        if (shown >= when && sent(stub).length === 0) {
          await inside(stub, (_, outbox) => outbox.send("now"));
          await eventually(() => sent(stub).length === 1);
          await eventually(async () => (await statsOf(stub)).pending === 0);
        }
        const page = await inside(stub, (_, outbox) => outbox.list({ state: "delayed", limit: 3, ...(after !== undefined && { after }) }));
        if (page.length === 0) break;
        seen.push(...page.map(({ msg }) => msg));
        shown += page.length;
        after = page.at(-1)?.id;
      }
      expect(seen.length, `after ${when}`).toBe(60);
      expect(new Set(seen)).toEqual(new Set(numbers(60)));
    }
  });

  it("goes on with what was put since it came to the end", async () => {
    const stub = await withMessages(backend, 5);
    const first = await inside(stub, (_, outbox) => outbox.list({ limit: 10 }));
    await inside(stub, (_, outbox) => Promise.all([outbox.send(6), outbox.send(7)]));
    const next = await inside(stub, (_, outbox) => outbox.list({ limit: 10, after: first.at(-1)?.id ?? "" }));
    expect([first, next].map((page) => page.map(({ msg }) => msg))).toEqual([numbers(5), [6, 7]]);
  });

  it("goes on behind the last of any recent page, while others walk as well", async () => {
    const stub = await withMessages(backend, 30);
    const pages = await inside(stub, async (_, outbox) => {
      const first = await outbox.list({ limit: 5 });
      const longer = await outbox.list({ limit: 9 });
      for (const { id } of await outbox.list({ limit: 12 })) await outbox.cancel(id);
      return Promise.all(
        [first, longer].map(async (page) => (await outbox.list({ limit: 3, after: page.at(-1)?.id ?? "" })).map(({ msg }) => msg)),
      );
    });
    expect(pages).toEqual([
      [13, 14, 15],
      [13, 14, 15],
    ]);
  });

  it("that can't go on says so, and does not end early", async () => {
    const stub = await withMessages(backend, 10);
    const page = await inside(stub, (_, outbox) => outbox.list({ limit: 4 }));
    const next = await crash(stub);
    const [id = "", gone = ""] = [page[2]?.id, page[3]?.id];
    await inside(next, async (_, outbox) => {
      expect(await outbox.cancel(gone)).toBe(true);
      for (const state of ["pending", "delayed", "dead"] as const) {
        await expect(outbox.list({ state, after: "never seen" })).rejects.toMatchObject({
          name: "TypeError",
          message: expect.stringContaining("`options.after`"),
        });
      }
      await expect(outbox.list({ after: gone })).rejects.toThrow("`options.after`");
      // One that is still there needs not be remembered.
      expect((await outbox.list({ after: id })).map(({ msg }) => msg)).toEqual(numbers(6, 5));
    });
  });

  it("remembers where its last thousand pages ended", async () => {
    const stub = await withMessages(backend, 1100);
    await inside(stub, async (_, outbox) => {
      let after: string | undefined;
      const ends: string[] = [];
      for (let n = 0; n < 1100; n++) {
        const [message] = await outbox.list({ limit: 1, ...(after !== undefined && { after }) });
        after = message?.id ?? "";
        ends.push(after);
      }
      for (const id of [ends[99], ends[100]]) await outbox.cancel(id ?? "");
      await expect(outbox.list({ limit: 1, after: ends[99] ?? "" })).rejects.toThrow(TypeError);
      expect((await outbox.list({ limit: 1, after: ends[100] ?? "" })).map(({ msg }) => msg)).toEqual([102]);
    });
  });
});
