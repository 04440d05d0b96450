/** A header that grows while its newest message is near the limit: no row is ever larger than storage takes. */
import { expect, it } from "vitest";
import { serializedBytes } from "../../../src/storage/size.ts";
import { crash, drained, eventually, inside, onEitherBackend, outboxRows } from "../support/harness.ts";
import { got, objectWith, type Receiver, receivers } from "../support/named.ts";

/** A value of a KV-backed object, which a local run does not hold to it. */
const LIMIT = 2 ** 17;
const NAMES = Array.from({ length: 16 }, (_, n) => `${"\u2713".repeat(60)}${n}`);

onEitherBackend("a message near the limit", (backend) => {
  it("leaves room for the state of sixteen destinations that are in trouble", async () => {
    const all = receivers(...NAMES);
    let isDown = true;
    for (const receiver of Object.values<Receiver>(all)) {
      receiver.rest = () => {
        if (isDown) throw new Error("the destination is down");
      };
    }
    const stub = objectWith(backend, all, Object.fromEntries(NAMES.map((name) => [name, {}])));
    const big = "x".repeat(LIMIT - 4300);
    await inside(stub, async (_, outbox) => {
      await outbox.pause();
      const receipts = await Promise.all(Array.from({ length: 96 }, (_, n) => outbox.send(n)));
      await outbox.send(big);
      // Every gap is in the state of each destination.
      for (const { id } of receipts.filter((_, n) => n % 3)) await outbox.cancel(id);
      await outbox.resume();
    });
    await eventually(() => Object.values<Receiver>(all).every(({ calls }) => calls.length >= 2));
    const rows = await inside(stub, (_, __, state) => outboxRows(state));
    expect(Math.max(...[...rows.values()].map(serializedBytes))).toBeLessThanOrEqual(LIMIT);
    isDown = false;
    const next = await crash(stub);
    await inside(next, (_, outbox) => outbox.resume());
    await drained(next);
    for (const receiver of Object.values<Receiver>(all)) expect(got(receiver)).toContain(big);
  });
});
