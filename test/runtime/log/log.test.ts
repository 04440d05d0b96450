/** Reading a retained log: pages in both directions, filters, and what a page costs. */
import { expect, it } from "vitest";
import { size } from "../../support/random.ts";
import { boxWith } from "../support/batches.ts";
import { again, crash, drained, inside, onEitherBackend, type Stub } from "../support/harness.ts";
import { ledgered } from "../support/lanes.ts";
import { stageOf } from "../support/worker.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

/** Puts so many messages, each its number, in turns of a few hundred. */
async function putNumbers(stub: Stub, count: number, first = 1): Promise<void> {
  for (let from = first; from < first + count; from += 500) {
    const numbers = range(from, Math.min(from + 499, first + count - 1));
    await inside(stub, (_, outbox) => Promise.all(numbers.map((n) => outbox.send(n))));
  }
}

const read = (stub: Stub, options?: object) =>
  inside(stub, async (_, outbox) => {
    const { messages, ...page } = await outbox.read(options);
    return { ...page, numbers: messages.map(({ msg }) => msg), positions: messages.map(({ position }) => position) };
  });

interface Cost {
  readonly reads: number;
  readonly readRows: number;
  readonly rows: number;
}

interface Costs {
  readonly pages: readonly Cost[];
  readonly put: Cost;
  readonly delivery: Cost;
}

onEitherBackend("a retained log", (backend) => {
  it("keeps everything that was delivered, in put order, across lives", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await putNumbers(stub, 100);
    await drained(stub);
    const page = {
      numbers: range(1, 100),
      positions: range(1, 100),
      next: 101,
      upToDate: true,
      earliest: 1,
      epoch: expect.any(String),
      sequence: 100,
    };
    expect(await read(stub)).toEqual(page);
    await crash(stub);
    expect(await read(again(stub))).toEqual(page);
    // Nothing of it is handed over again.
    await inside(again(stub), (_, outbox) => outbox.send("after"));
    await drained(again(stub));
    expect(
      stageOf(stub)
        .calls.flat()
        .map(({ msg }) => msg),
    ).toEqual([...range(1, 100), "after"]);
  });

  it("shows each message as it was handed over, without its attempts", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, (_, outbox) => outbox.send({ type: "a" }, { id: "own", key: "k", headers: { h: "1" } }));
    await drained(stub);
    const [[sent]] = stageOf(stub).calls as [[object]];
    const { attempts: _, ...rest } = sent as { attempts: number };
    const { messages } = await inside(stub, (_, outbox) => outbox.read());
    expect(messages).toEqual([{ ...rest, position: 1 }]);
  });

  it("is read in pages of any size, forwards and backwards, from any position", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await putNumbers(stub, 200);
    await drained(stub);
    for (const limit of [1, 16, 33, 1000]) {
      const forward: unknown[] = [];
      for (let from = 150; ; ) {
        const page = await read(stub, { from, limit });
        forward.push(...page.numbers);
        from = page.next;
        if (page.upToDate) break;
      }
      expect([limit, forward]).toEqual([limit, range(150, 200)]);
      const backward: unknown[] = [];
      for (let from = 40; ; ) {
        const page = await read(stub, { from, limit, direction: "backward" });
        backward.push(...page.numbers);
        from = page.next;
        if (page.upToDate) break;
      }
      expect([limit, backward]).toEqual([limit, range(1, 40).reverse()]);
    }
    expect(await read(stub, { direction: "backward", limit: 3 })).toMatchObject({ numbers: [200, 199, 198], next: 197, upToDate: false });
    expect(await read(stub, { from: 500 })).toMatchObject({ numbers: [], upToDate: true });
  });

  it("is filtered by type and by key", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, (_, outbox) =>
      Promise.all(range(1, 60).map((n) => outbox.send({ type: `t${n % 3}`, n }, n % 2 ? { key: "odd" } : {}))),
    );
    await drained(stub);
    const found = (options: object) =>
      inside(stub, async (_, outbox) => (await outbox.read(options)).messages.map(({ msg }) => (msg as { n: number }).n));
    expect(await found({ types: ["t0"] })).toEqual(range(1, 60).filter((n) => n % 3 === 0));
    expect(await found({ types: ["t0", "t1"], key: "odd", direction: "backward" })).toEqual(
      range(1, 60)
        .filter((n) => n % 3 < 2 && n % 2)
        .reverse(),
    );
    expect(await found({ key: "none" })).toEqual([]);
  });

  it("costs at most two rows a page beside those of its messages, however long it is", async () => {
    const stub = ledgered(backend, { retain: "all", batchSize: 1000 });
    await putNumbers(stub, 3000);
    await drained(stub);
    // Nothing of it is in memory.
    await crash(stub);
    for (const [from, limit] of [
      [1, 100],
      [777, 100],
      [1500, 32],
      [2900, 100],
      [2000, 1],
    ] as const) {
      const before = await inside(again(stub), ({ ledger }) => ledger.readRows);
      expect((await read(again(stub), { from, limit })).numbers).toEqual(range(from, from + limit - 1));
      const rows = (await inside(again(stub), ({ ledger }) => ledger.readRows)) - before;
      expect([from, limit, rows <= Math.ceil(limit / 16) + 3]).toEqual([from, limit, true]);
      expect(rows).toBeLessThanOrEqual(limit > 1 ? 2 * limit : 4);
    }
  });

  it("costs the same rows to read from anywhere, to append to and to deliver from, however much is kept", async () => {
    const stub = ledgered(backend, { retain: "all", batchSize: 1000 });
    const costs: Costs[] = [];
    for (const kept of [1024, size(4096, 16_384)]) {
      for (let put = costs.length * 1024; put < kept; put += 1024) await putNumbers(again(stub), 1024);
      await drained(again(stub));
      // Nothing of it is in memory.
      await crash(again(stub));
      costs.push(
        await inside(again(stub), async ({ ledger }, outbox) => {
          const counted = async (work: () => Promise<unknown>) => {
            const { reads, readRows, rows } = ledger;
            await work();
            return { reads: ledger.reads - reads, readRows: ledger.readRows - readRows, rows: ledger.rows - rows };
          };
          await outbox.read({ limit: 1 });
          const pages: Cost[] = [];
          for (const direction of ["forward", "backward"] as const)
            for (const part of [0.25, 0.5, 0.75])
              pages.push(await counted(() => outbox.read({ from: kept * part, direction, limit: 100 })));
          const put = await counted(() => Promise.all(range(1, 96).map((n) => outbox.send(n))));
          const delivery = await counted(() => outbox.flush());
          return { pages, put, delivery };
        }),
      );
    }
    const [few, many] = costs as [Costs, Costs];
    expect([many.put, many.delivery]).toEqual([few.put, few.delivery]);
    // Seven rows of messages, and up to two to find the place.
    for (const { reads, readRows, rows } of [...few.pages, ...many.pages])
      expect([reads <= 3, readRows <= 9, rows]).toEqual([true, true, 0]);
  });

  it("says where it begins and ends, and what it takes", async () => {
    const stub = boxWith(backend, { retain: "all" });
    expect((await inside(stub, (_, outbox) => outbox.stats())).log).toEqual({ first: 1, last: 0, bytes: 0 });
    await putNumbers(stub, 100);
    await drained(stub);
    const { log } = await inside(stub, (_, outbox) => outbox.stats());
    expect(log).toMatchObject({ first: 1, last: 100 });
    expect(log?.bytes).toBeGreaterThan(100 * 15);
    expect(log?.bytes).toBeLessThan(100 * 80);
  });

  it("takes messages for which there is no destination", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, (_, outbox) => outbox.send({ type: "any" }));
    expect((await read(stub)).positions).toEqual([1]);
  });

  it.each([
    [{ from: -1 }, "options.from"],
    [{ from: 1.5 }, "options.from"],
    [{ limit: 0 }, "options.limit"],
    [{ limit: 1001 }, "options.limit"],
    [{ direction: "up" }, "options.direction"],
    [{ types: [] }, "options.types"],
    [{ types: "a" }, "options.types"],
    [{ key: 1 }, "options.key"],
    [{ form: 1 }, "unknown options"],
  ])("is not read with %o", async (options, name) => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, async (_, outbox) => {
      await expect(outbox.read(options as object)).rejects.toThrow(name);
    });
  });

  it("is needed for read, tail, tailStream and trim", async () => {
    const stub = boxWith(backend, {});
    await inside(stub, async (_, outbox) => {
      await expect(outbox.read()).rejects.toMatchObject({ code: "unsupported" });
      expect(() => outbox.tail()).toThrow("retain");
      expect(() => outbox.tailStream()).toThrow("retain");
      await expect(outbox.trim({ before: 1 })).rejects.toMatchObject({ code: "unsupported" });
    });
  });
});
