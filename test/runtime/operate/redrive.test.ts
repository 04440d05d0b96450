/** Redriving in steps: whatever the letters of one key take together, each row has its limit, each step is one commit, and others have their turn. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { size, some } from "../../support/random.ts";
import { boxWith, callsOf, numbers } from "../support/batches.ts";
import {
  type Backend,
  crash,
  declared,
  eventually,
  fresh,
  gate,
  inside,
  native,
  onBothBackends,
  outboxRows,
  type Stub,
  sent,
} from "../support/harness.ts";
import { deadOf, idle, listed, resumed, statsOf } from "../support/standing.ts";
import { Box, options, stageOf } from "../support/worker.ts";

const KV_VALUE_BYTES = 128 * 1024;

const contentOf = (msg: unknown): number => Number.parseInt(String(msg), 10);

/** Dead letters from 1 to `count`, in an outbox that is paused. */
async function deadLetters(
  backend: Backend,
  count: number,
  bytes = 0,
  key: (n: number) => string | undefined = () => "customer",
  stub: Stub = boxWith(backend, { timeoutSeconds: 60 }),
): Promise<Stub> {
  const stage = stageOf(stub);
  stage.rest = (messages, delivery) => {
    for (const { id } of messages) delivery.reject(id, "not wanted");
  };
  await inside(stub, (_, outbox) =>
    Promise.all(
      numbers(count).map((n) => {
        const name = key(n);
        return outbox.send(`${n} ${"x".repeat(bytes)}`, name === undefined ? {} : { key: name });
      }),
    ),
  );
  await eventually(async () => (await statsOf(stub)).dead === count);
  stage.rest = () => {};
  stage.calls.length = 0;
  await inside(stub, (_, outbox) => outbox.pause());
  return stub;
}

const seenBy = (stub: Stub): number[] => callsOf(stub).flat().map(contentOf);

onBothBackends("redriving", (backend) => {
  it("letters of one key that no row takes together puts all of them back, in rows of a bounded size", async () => {
    const stub = await deadLetters(backend, 50, backend.name === "kv" ? 5000 : 60_000);
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(50);
    let longest = 0;
    await inside(stub, async (_, __, state) => {
      for (const row of (await outboxRows(state)).values()) longest = Math.max(longest, String(row).length);
    });
    expect(longest).toBeLessThan(KV_VALUE_BYTES / 2);
    await resumed(stub);
    expect(seenBy(stub)).toEqual(numbers(50));
  });

  it("many small letters of one key fills rows and never grows one: sixteen to a row", async () => {
    const stub = await deadLetters(backend, 200);
    // In an order that puts each second one between two that are there.
    const letters = await listed(stub, "dead");
    await inside(stub, (_, outbox) => outbox.redrive(letters.filter((_, i) => i % 2 === 1).map(({ id }) => id)));
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(100);
    const rows = await inside(stub, async (_, __, state) => [...(await native(state).list({ prefix: "\u{10FFFF}outbox/k" })).values()]);
    const sizes = rows.map((row) => String(row).split("\n").length - 1);
    expect(sizes.reduce((sum, size) => sum + size)).toBe(200);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(16);
    expect(rows.length).toBeLessThanOrEqual(40);
    await resumed(stub);
    expect(seenBy(stub)).toEqual(numbers(200));
  });

  it("writes and reads as much for each letter, however many there are", async () => {
    const costs: number[][] = [];
    for (const count of [64, size(256, 640)]) {
      const stub = await deadLetters(backend, count, 0, undefined, fresh(backend));
      costs.push(
        await inside(stub, async ({ ledger }, outbox) => {
          const { rows, reads } = ledger;
          await outbox.redrive();
          return [(ledger.rows - rows) / count, (ledger.reads - reads) / count];
        }),
      );
    }
    const [[rows = 0, reads = 0] = [], [rowsOfMore = 0, readsOfMore = 0] = []] = costs;
    // Each letter goes, with a share of a row of the lane, of the lane's state and of the header: eight at a time.
    expect(rowsOfMore).toBeLessThanOrEqual(1.7);
    expect(rowsOfMore).toBeLessThanOrEqual(rows * 1.1);
    expect(readsOfMore).toBeLessThanOrEqual(reads * 1.1);
  });

  it("lets other requests have their turn between two steps", async () => {
    const stub = await deadLetters(backend, 400);
    const order: string[] = [];
    const redriven = inside(stub, (_, outbox) => outbox.redrive()).then((count) => order.push(`redriven ${count}`));
    for (let n = 0; n < 5; n++) await inside(stub, (_, outbox) => outbox.put("k", n, `put ${n}`)).then(() => order.push("put"));
    await redriven;
    expect(order).toHaveLength(6);
    // Fifty steps: how many puts come between them is the machine's affair.
    expect(order.indexOf("redriven 400")).toBeGreaterThanOrEqual(2);
  });

  it("is one commit for each step: a crash at any moment leaves each letter dead or put back", async () => {
    for (const round of some(2, numbers(6, 0))) {
      let stub = await deadLetters(backend, 60, 0, (n) => ["a", "b", undefined][n % 3]);
      let before = -1;
      void inside(stub, (_, outbox) => outbox.redrive()).catch(() => {});
      await eventually(async () => {
        const { dead } = await statsOf(stub);
        if (dead === before) return true;
        before = dead;
        return dead <= 60 - 10 * round;
      });
      stub = await crash(stub);
      const { dead, pending, delayed, blocked } = await statsOf(stub);
      expect(dead + pending + delayed + blocked).toBe(60);
      expect((await deadOf(stub)).length).toBe(dead);
      await inside(stub, (_, outbox) => outbox.redrive());
      await resumed(stub);
      const seen = seenBy(stub);
      for (const rest of [0, 1, 2]) expect(seen.filter((n) => n % 3 === rest)).toEqual(numbers(60).filter((n) => n % 3 === rest));
    }
  });

  it("into a lane of which messages are being handed over keeps their order, and hands each over once", async () => {
    const stub = await deadLetters(backend, 60);
    const letters = await listed(stub, "dead");
    // Every third one is put back, and the first of them is handed over.
    await inside(stub, (_, outbox) => outbox.redrive(letters.filter((_, i) => i % 3 === 0).map(({ id }) => id)));
    const held = gate();
    stageOf(stub).script.push(() => held.passed());
    await inside(stub, (_, outbox) => outbox.resume());
    await eventually(() => sent(stub).length > 0);
    const [first = 0] = seenBy(stub);
    // The rows of the lane are divided, also the one of which a message is being handed over.
    expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(40);
    held.open();
    await idle(stub);
    expect(seenBy(stub)).toEqual([first, ...numbers(60).filter((n) => n !== first)]);
  });

  it("waits for a transaction that begins meanwhile, and keeps nobody waiting in it", async () => {
    const stub = await deadLetters(backend, 200);
    await inside(stub, (_, outbox) => outbox.send("to be cancelled", { id: "own" }));
    const redriven = inside(stub, (_, outbox) => outbox.redrive());
    const cancelled = await inside(stub, (_, outbox) => outbox.transaction(() => outbox.cancel("own")));
    expect(cancelled).toBe(true);
    expect(await redriven).toBe(200);
    await resumed(stub);
    expect(seenBy(stub)).toEqual(numbers(200));
  });

  it("in a transaction that rolls back has put nothing back, and can be waited for in blockConcurrencyWhile", async () => {
    const stub = await deadLetters(backend, 40);
    await inside(stub, async (_, outbox, state) => {
      await outbox
        .transaction(async () => {
          expect(await outbox.redrive()).toBe(40);
          throw new Error("rolled back");
        })
        .catch(() => {});
      expect((await outbox.stats()).dead).toBe(40);
      const early = outbox.redrive();
      expect(await state.blockConcurrencyWhile(() => early)).toBe(40);
    });
    await resumed(stub);
    expect(seenBy(stub)).toEqual(numbers(40));
  });

  it("writes what it moves before it deletes it: should the isolate end between the two calls, a message comes twice rather than never", async () => {
    const calls: string[] = [];
    const Wrapped = withTransactionalOutbox(class extends Box {}, options);
    const stub = declared(
      backend,
      class extends Wrapped {
        constructor(...args: ConstructorParameters<typeof Box>) {
          const { storage } = args[0];
          for (const name of ["put", "delete"] as const) {
            const call = storage[name].bind(storage) as (...args: unknown[]) => Promise<unknown>;
            const value = (...given: unknown[]): Promise<unknown> => {
              calls.push(name);
              return call(...given);
            };
            Object.defineProperty(storage, name, { value, configurable: true, writable: true });
          }
          super(...args);
        }
      },
    );
    await deadLetters(backend, 2, 0, () => undefined, stub);
    calls.length = 0;
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      calls.length = 0;
      expect(await outbox.redrive()).toBe(2);
    });
    expect(calls).toEqual(["put", "delete"]);
  });
});
