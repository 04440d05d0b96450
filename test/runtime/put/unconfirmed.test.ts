/** `allowUnconfirmed`: storage does not hold back what is sent until such a put is durable, so the outbox does. */
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { declared, eventually, gate, inside, onBothBackends } from "../support/harness.ts";
import { Box, options, stageOf } from "../support/worker.ts";

onBothBackends("a message put with allowUnconfirmed while a run goes on", (backend) => {
  it.each([true, false])("is handed over after a sync, and others are not (%s)", async (allowUnconfirmed) => {
    const log: string[] = [];
    class Synced extends withTransactionalOutbox(class extends Box {}, options) {
      constructor(ctx: DurableObjectState, env: never) {
        const sync = ctx.storage.sync.bind(ctx.storage);
        ctx.storage.sync = async () => {
          log.push("sync begins");
          await sync();
          log.push("sync ends");
        };
        super(ctx, env);
      }
    }
    const stub = declared(backend, Synced);
    const held = gate();
    stageOf(stub).script.push(async () => {
      log.push("first");
      await held.passed();
    });
    stageOf(stub).rest = () => void log.push("second");
    await inside(stub, (_, outbox) => outbox.send(1));
    await eventually(() => log.includes("first"));
    await inside(stub, (_, outbox) => outbox.put("key", 1, 2, { allowUnconfirmed }));
    held.open();
    await eventually(() => log.includes("second"));
    expect(log).toEqual(allowUnconfirmed ? ["first", "sync begins", "sync ends", "second"] : ["first", "second"]);
  });
});
