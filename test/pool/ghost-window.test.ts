/** A put that storage refuses while a run goes on: its message is never seen, wherever in the run it comes. */
import { expect, it } from "vitest";
import { callsOf, numbers } from "./batches.ts";
import { fresh, inside, onBothBackends } from "./harness.ts";
import { idle } from "./standing.ts";
import { stageOf } from "./worker.ts";

/** More microtasks than lie between the end of a call of `sendMessages` and the next one. */
const TICKS = 40;

onBothBackends("a put that storage refuses while a run goes on", (backend) => {
  it.each(["together with", "after"])(
    "leaves no message, and takes none with it, %s the next put, at whatever microtask it comes",
    async (order) => {
      for (let ticks = 0; ticks < TICKS; ticks++) {
        const stub = fresh(backend);
        let refused: Promise<unknown> = Promise.resolve();
        await inside(stub, async (_, outbox) => {
          stageOf(stub).script.push(() => {
            refused = (async () => {
              for (let tick = 0; tick < ticks; tick++) await null;
              const bad = outbox.put("bad", () => {}, "refused");
              const good = order === "after" ? null : outbox.send("after it");
              await bad.catch(() => {});
              await (good ?? outbox.send("after it"));
            })();
          });
          await Promise.all([outbox.send(1), outbox.send(2)]);
        });
        await idle(stub);
        await refused;
        await idle(stub);
        expect([ticks, callsOf(stub).flat()]).toEqual([ticks, [...numbers(2), "after it"]]);
      }
    },
  );
});
