/** A put that storage refuses while a run goes on: its message is never seen, wherever in the run it comes. */
import { describe, expect, it } from "vitest";
import { callsOf, numbers } from "../support/batches.ts";
import { fresh, inside, onEitherBackend } from "../support/harness.ts";
import { idle } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

/** More microtasks than lie between the end of a call of `sendMessages` and the next one. */
const TICKS = 40;

/** With so many before it the refused message is not the last of a full header, is the last, and is the first of the next. */
const BEFORE = [0, 13, 14];

onEitherBackend("a put that storage refuses while a run goes on", (backend) => {
  describe.each(["together with", "after"])("%s the next put", (order) => {
    it.each(BEFORE)("leaves no message, and takes none with it, at whatever microtask it comes, behind %i others", async (before) => {
      const others = Array.from({ length: before }, (_, i) => `other ${i}`);
      const playAt = async (ticks: number): Promise<void> => {
        const stub = fresh(backend);
        let refused: Promise<unknown> = Promise.resolve();
        await inside(stub, async (_, outbox) => {
          stageOf(stub).script.push(() => {
            refused = (async () => {
              const sends = others.map((other) => outbox.send(other));
              for (let tick = 0; tick < ticks; tick++) await null;
              const bad = outbox.put("bad", () => {}, "refused");
              const good = order === "after" ? null : outbox.send("after it");
              await bad.catch(() => {});
              await Promise.all([...sends, good ?? outbox.send("after it")]);
            })();
          });
          await Promise.all([outbox.send(1), outbox.send(2)]);
        });
        await idle(stub);
        await refused;
        await idle(stub);
        expect([ticks, callsOf(stub).flat()]).toEqual([ticks, [...numbers(2), ...others, "after it"]]);
      };
      await Promise.all(numbers(TICKS, 0).map(playAt));
    });
  });
});
