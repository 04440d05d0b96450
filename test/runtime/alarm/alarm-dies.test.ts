/** The object's own alarm that dies again and again while messages pass: retried as the platform would, and no message is lost with it. */
import { expect, it } from "vitest";
import { again, eventually, fresh, inside, onBothBackends, type Stub, sent, until } from "../support/harness.ts";
import { stageOf } from "../support/worker.ts";
import { alarmsOf, expectNoOther, setIn } from "../support/worlds.ts";

/** Puts until so many calls of the own alarm have come. The object may die under any of them. Returns what was confirmed. */
async function putUntil(stub: Stub, calls: number): Promise<number[]> {
  const confirmed: number[] = [];
  for (let n = 1; alarmsOf(stub).length < calls && n < 500; n++) {
    await inside(again(stub), (_, outbox) => outbox.put(`key:${n}`, n, n)).then(
      () => confirmed.push(n),
      () => {},
    );
    await scheduler.wait(300);
  }
  return confirmed;
}

onBothBackends("the object's own alarm that dies twice", (backend) => {
  it.concurrent.each(["at once", "after a put of its own"])(
    "%s while messages are put comes again after 2 and after 4 seconds, and every message is sent",
    async (when) => {
      const stub = fresh(backend);
      let deaths = 2;
      stageOf(stub).onAlarm = async (state, outbox) => {
        if (deaths-- <= 0) return;
        if (when !== "at once") {
          await outbox.put("own", deaths, `own ${deaths}`);
          await state.storage.sync();
        }
        state.abort("the crash that the test wants");
      };
      await setIn(stub, 500);
      const confirmed = await putUntil(stub, 3);
      const infos = alarmsOf(stub).map(({ info }) => info?.retryCount);
      expect(infos).toEqual([0, 1, 2]);
      const [first = 0, second = 0, third = 0] = alarmsOf(stub).map(({ at }) => at);
      // Timers of a busy machine may begin early by the length of a turn.
      expect(second - first).toBeGreaterThan(1000);
      expect(third - second).toBeGreaterThan(3000);
      await until(again(stub), async ({ outbox }) => (await outbox.stats()).pending === 0);
      const seen = new Set(sent(stub).map(({ msg }) => msg));
      expect(confirmed.filter((n) => !seen.has(n))).toEqual([]);
      if (when !== "at once") expect(seen).toContain("own 0");
      await expectNoOther(again(stub), 3);
    },
    60_000,
  );

  it.concurrent("beside a destination that is down comes again after 2 and after 4 seconds", async () => {
    const stub = fresh(backend);
    stageOf(stub).rest = () => Promise.reject(new Error("the destination is down"));
    let deaths = 2;
    stageOf(stub).onAlarm = (state) => {
      if (deaths-- > 0) state.abort("the crash that the test wants");
    };
    await inside(stub, (_, outbox) => outbox.send("waits"));
    await setIn(stub, 300);
    await eventually(() => alarmsOf(stub).length >= 3);
    expect(alarmsOf(stub).map(({ info }) => info?.retryCount)).toEqual([0, 1, 2]);
    const [first = 0, second = 0, third = 0] = alarmsOf(stub).map(({ at }) => at);
    expect(second - first).toBeGreaterThan(1000);
    expect(third - second).toBeGreaterThan(3000);
    await expectNoOther(again(stub), 3);
  }, 60_000);
});
