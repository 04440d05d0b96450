/** Following a retained log: each committed message once, in order, without polling, and from where a reader stopped. */
import { expect, it } from "vitest";
import { boxWith, down } from "../support/batches.ts";
import { again, crash, eventually, inside, onEitherBackend, type Stub } from "../support/harness.ts";
import { stageOf } from "../support/worker.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, n) => first + n);

/** Follows the log in the background. */
async function following(stub: Stub, options: { after?: number } = {}) {
  const seen: unknown[] = [];
  const positions: number[] = [];
  let over = false;
  // A signal belongs to the object in which it was made.
  let abort = (): void => {};
  await inside(stub, (_, outbox) => {
    const end = new AbortController();
    abort = () => end.abort();
    void (async () => {
      for await (const { msg, position } of outbox.tail({ ...options, signal: end.signal })) {
        seen.push(msg);
        positions.push(position);
      }
      over = true;
    })().catch(() => {});
  });
  return { seen, positions, isOver: () => over, abort: () => inside(stub, () => abort()) };
}

onEitherBackend("a tail", (backend) => {
  it("yields what is put from now on, once and in order", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, (_, outbox) => Promise.all(range(1, 20).map((n) => outbox.send(n))));
    const tail = await following(stub);
    for (const first of [21, 22, 60]) {
      await inside(stub, (_, outbox) => Promise.all(range(first, first === 60 ? 400 : first).map((n) => outbox.send(n))));
    }
    const wanted = [21, 22, ...range(60, 400)];
    await eventually(() => tail.seen.length >= wanted.length);
    expect(tail.seen).toEqual(wanted);
  });

  it("begins behind a position, also in another life", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, (_, outbox) => Promise.all(range(1, 200).map((n) => outbox.send(n))));
    const first = await following(stub, { after: 120 });
    await eventually(() => first.seen.length >= 80);
    expect(first.seen).toEqual(range(121, 200));
    await crash(stub);
    await inside(again(stub), (_, outbox) => outbox.send(201));
    const second = await following(again(stub), { after: first.positions.at(-1) ?? 0 });
    await eventually(() => second.seen.length > 0);
    expect(second.seen).toEqual([201]);
  });

  it("yields nothing of what a transaction has rolled back, and what it commits in its order", async () => {
    const stub = boxWith(backend, { retain: "all" });
    const tail = await following(stub, { after: 0 });
    await inside(stub, async (_, outbox) => {
      await outbox.send("before");
      const undone = outbox.transaction(async (txn) => {
        await txn.send("undone");
        await scheduler.wait(20);
        throw new Error("undone");
      });
      await expect(undone).rejects.toThrow("undone");
      await outbox.transaction(async (txn) => {
        await txn.send("done");
        await scheduler.wait(20);
      });
      await outbox.put("bad", () => {}, "refused").catch(() => {});
      await outbox.send("after");
    });
    await eventually(() => tail.seen.includes("after"));
    expect(tail.seen).toEqual(["before", "done", "after"]);
  });

  it("ends when it is aborted, and when it is left", async () => {
    const stub = boxWith(backend, { retain: "all" });
    const tail = await following(stub, { after: 0 });
    await inside(stub, (_, outbox) => outbox.send(1));
    await eventually(() => tail.seen.length === 1);
    await tail.abort();
    await eventually(tail.isOver);
    await inside(stub, (_, outbox) => outbox.send(2));
    const left = await inside(stub, async (_, outbox) => {
      for await (const { msg } of outbox.tail({ after: 0 })) return msg;
      return null;
    });
    expect(left).toBe(1);
    expect(tail.seen).toEqual([1]);
  });

  it("goes on from storage where it is slow, whatever is delivered meanwhile", async () => {
    const stub = boxWith(backend, { retain: "all" });
    stageOf(stub).rest = down;
    const seen: unknown[] = [];
    await inside(stub, async (_, outbox) => {
      const tail = outbox.tail({ after: 0 });
      await outbox.send(1);
      seen.push((await tail.next()).value?.msg);
      await Promise.all(range(2, 500).map((n) => outbox.send(n)));
      for (let n = 2; n <= 500; n++) seen.push((await tail.next()).value?.msg);
      await tail.return();
    });
    expect(seen).toEqual(range(1, 500));
  });

  it("as a stream is bytes, a line a message", async () => {
    const stub = boxWith(backend, { retain: "all" });
    const text = await inside(stub, async (_, outbox) => {
      await Promise.all([outbox.send({ n: 1 }), outbox.send({ n: 2 }, { key: "k" })]);
      const reader = outbox.tailStream({ after: 0 }).pipeThrough(new TextDecoderStream()).getReader();
      let read = "";
      while (read.split("\n").length < 3) read += (await reader.read()).value ?? "";
      await reader.cancel();
      return read;
    });
    const lines = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toMatchObject([
      { msg: { n: 1 }, position: 1, sequence: 1 },
      { msg: { n: 2 }, position: 2, key: "k" },
    ]);
  });

  it("begins where it was called, and not where it is first read", async () => {
    const stub = boxWith(backend, { retain: "all" });
    const read = await inside(stub, async (_, outbox) => {
      await outbox.send("before");
      const tail = outbox.tail();
      await outbox.send("after");
      const { value } = await tail.next();
      await tail.return();
      return value?.msg;
    });
    expect(read).toBe("after");
  });

  it("as a stream ends at once when it is cancelled while it waits for a message", async () => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, async (_, outbox) => {
      const reader = outbox.tailStream().getReader();
      const waiting = reader.read();
      await reader.cancel();
      expect((await waiting).done).toBe(true);
    });
  });

  it.each([
    [{ after: -1 }, "options.after"],
    [{ since: 1 }, "unknown options"],
    [{ signal: 1 }, "options.signal"],
  ])("is refused with %o at the call", async (options, text) => {
    const stub = boxWith(backend, { retain: "all" });
    await inside(stub, (_, outbox) => {
      expect(() => outbox.tail(options as object)).toThrow(text);
    });
  });
});
