/** While what is next is being read, it is as due as before: whoever asks meanwhile, and whoever sets the alarm meanwhile, must know it. */
import { expect, it } from "vitest";
import { type OutboxDelivery, type OutboxMessage, withTransactionalOutbox } from "../../../src/index.ts";
import { declared, drained, eventually, gate, handedOver, inside, onEitherBackend, sent } from "../support/harness.ts";
import { Box, options } from "../support/worker.ts";

onEitherBackend("a message that was set aside", (backend) => {
  it("is due while its row is being read", async () => {
    const reading = gate();
    let holds = false;
    let reads = 0;
    let calls = 0;
    const Wrapped = withTransactionalOutbox(
      class extends Box {
        override async sendMessages(messages: OutboxMessage[], delivery: OutboxDelivery): Promise<void> {
          if (++calls > 1) return super.sendMessages(messages, delivery);
          holds = true;
          for (const { id } of messages) delivery.retry(id, { delaySeconds: 0.05 });
        }
      },
      options,
    );
    const stub = declared(
      backend,
      class extends Wrapped {
        constructor(...args: ConstructorParameters<typeof Box>) {
          const { storage } = args[0];
          const list = storage.list.bind(storage);
          const value: typeof list = async (range) => {
            // The first is the run's: stats() reads as well.
            if (holds && reads++ === 0) await reading.passed();
            return list(range);
          };
          Object.defineProperty(storage, "list", { value, configurable: true, writable: true });
          super(...args);
        }
      },
    );
    await inside(stub, (_, outbox) => outbox.send("aside"));
    await eventually(() => reads > 0);
    const stats = await inside(stub, (_, outbox) => outbox.stats());
    expect(stats).toMatchObject({ delayed: 1, nextAttemptAt: expect.any(Number) });
    expect(stats.nextAttemptAt).toBeLessThanOrEqual(Date.now() + 60_000);
    holds = false;
    reading.open();
    await handedOver(stub, 1);
    await drained(stub);
    expect(sent(stub).map(({ msg }) => msg)).toEqual(["aside"]);
  });
});
