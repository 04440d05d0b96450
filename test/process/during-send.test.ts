/** Puts that come while a batch is on its way: whatever the sizes, each message is delivered once and in put order. */
import { describe, expect, it } from "vitest";
import { BACKENDS, folder, type Order, Receiver, range, start, until } from "./harness.ts";

/** Around the edges of a segment (16 messages), of a batch (100), and of both at once. */
const WAITING = [1, 15, 16, 17, 33, 96, 99, 100, 101, 104, 112, 116, 120, 128, 250];
const ARRIVING = [1, 17];

describe.concurrent.each(BACKENDS)("puts during a send (%s)", (backend) => {
  it.each(ARRIVING)("lose, repeat and overtake nothing: %i while a batch is on its way", async (arriving) => {
    const receiver = new Receiver();
    const world = await start(folder(), receiver);
    for (const waiting of WAITING) {
      const begin = receiver.calls.length;
      receiver.order = async (_, call): Promise<Order> => {
        if (call === begin + 1) await world.call(backend, `${waiting}`, "put", waiting + 1, arriving);
        return "deliver";
      };
      await world.call(backend, `${waiting}`, "store", 1, waiting);
      await until(async () => (await world.call<{ pending: number }>(backend, `${waiting}`, "stats")).pending === 0);
      const delivered = receiver.calls.slice(begin).flatMap((call) => call.map(({ msg }) => msg.n));
      expect({ waiting, delivered }).toEqual({ waiting, delivered: range(1, waiting + arriving) });
    }
    await world.stop();
  });
});
