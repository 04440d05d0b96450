/** An object that its own alarm starts, and that sends a message before that alarm is called. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import {
  again,
  by,
  crashAfter,
  declared,
  eventually,
  handedOver,
  inside,
  onBothBackends,
  outboxRows,
  unhurried,
} from "../support/harness.ts";
import { Box, options, stageOf } from "../support/worker.ts";

onBothBackends("an object that sends a message as it starts", (backend) => {
  it.each(["put before", "fresh"])("gets the call of its own alarm that has started it (%s)", (before) =>
    unhurried(500, async (ms) => {
      let lives = 0;
      const stub = declared(
        backend,
        withTransactionalOutbox(
          class extends Box {
            constructor(ctx: DurableObjectState, env: never) {
              super(ctx, env);
              if (++lives > 1) void this.outbox.send("started");
            }
          },
          options,
        ) as never,
      );
      if (before === "put before") {
        await inside(stub, (_, outbox) => outbox.send("one"));
        await handedOver(stub, 1);
      }
      const time = Date.now() + ms;
      await inside(stub, (_, __, { storage }) => storage.setAlarm(time));
      // Only its alarm starts it again.
      await by(time, () => crashAfter(again(stub), (_, { storage }) => storage.sync()));
      await eventually(() => stageOf(stub).alarms.length > 0);
      await eventually(() =>
        stageOf(stub)
          .calls.flat()
          .some(({ msg }) => msg === "started"),
      );
      expect(stageOf(stub).alarms.map(({ info }) => info)).toEqual([{ scheduledTime: time, retryCount: 0, isRetry: false }]);
      // Nothing of it is left: neither an alarm, nor a word of it in the header.
      await eventually(() =>
        inside(again(stub), async (_, __, state) => JSON.stringify([...(await outboxRows(state))]).includes("own") === false),
      );
      expect(await inside(again(stub), (_, __, { storage }) => storage.getAlarm())).toBeNull();
    }),
  );
});
