/** Destinations that are declared wrong: the object says what is wrong when it starts, and nothing is written. */
import { DurableObject } from "cloudflare:workers";
import { expect, it } from "vitest";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { declared, inside, onEitherBackend } from "../support/harness.ts";
import type { BoxEnv, Form } from "../support/worker.ts";

const send = async () => {};

const MISTAKES: [destinations: unknown, message: string][] = [
  [[send], "Expected `destinations` to be an object, got an array"],
  [{}, "Expected `destinations` to be at least one destination, in a class without sendMessages()"],
  [{ "": send }, "Expected `destinations` to be named with 1 to 64 characters"],
  [{ a: 1 }, "Expected `destinations.a` to be an object, got 1"],
  [{ a: {} }, "Expected `destinations.a.send` to be a function, got undefined"],
  [{ a: { send, timeoutSecs: 5 } }, '`destinations.a` to be free of unknown options, got "timeoutSecs": did you mean `timeoutSeconds`?'],
  [{ a: { send, pull: true } }, "`destinations.a` to be free of unknown options"],
  [{ a: { send, types: [] } }, "Expected `destinations.a.types` to be a list of 1 to 1000 strings"],
  [{ a: { send, types: "order" } }, "Expected `destinations.a.types` to be a list"],
  [{ a: { send, batchSize: 0 } }, "Expected `destinations.a.batchSize` to be a whole number from 1 to 1000, got 0"],
  [{ a: { send, timeoutSeconds: 0 } }, "Expected `destinations.a.timeoutSeconds` to be a number"],
  [{ a: { send, expiresInSeconds: -1 } }, "Expected `destinations.a.expiresInSeconds` to be a number"],
  [{ a: { send, retry: { maxAttempt: 1 } } }, "did you mean `maxAttempts`?"],
  [{ a: { send, ordering: "loose" } }, 'Expected `destinations.a.ordering` to be "strict" or "batch", got "loose"'],
  [{ a: { send, from: "end" } }, 'Expected `destinations.a.from` to be "new", "start" or a position, got "end"'],
  [{ a: { send, from: 0 } }, 'Expected `destinations.a.from` to be "new", "start" or a position, got 0'],
  [{ a: { send, formerly: "b" } }, "Expected `destinations.a.formerly` to be a list"],
  [Object.fromEntries(Array.from({ length: 33 }, (_, n) => [`d${n}`, send])), "at most 32 destinations"],
];

onEitherBackend("destinations", (backend) => {
  it.each(MISTAKES)("%j are refused", async (destinations, message) => {
    class Wrong extends DurableObject<BoxEnv> {
      destinations = destinations;
    }
    const stub = declared(backend, withTransactionalOutbox(Wrong as never) as unknown as Form);
    await expect(inside(stub, () => {})).rejects.toThrow(message);
  });

  it("of the class's prototype are refused, because they could be read over RPC", async () => {
    class Wrong extends DurableObject<BoxEnv> {
      get destinations() {
        return { a: send };
      }
    }
    const stub = declared(backend, withTransactionalOutbox(Wrong) as unknown as Form);
    await expect(inside(stub, () => {})).rejects.toThrow("Expected `destinations` to be a property of the instance");
  });

  it("named default are refused beside sendMessages", async () => {
    class Wrong extends DurableObject<BoxEnv> {
      destinations = { default: send };
      async sendMessages(): Promise<void> {}
    }
    const stub = declared(backend, withTransactionalOutbox(Wrong) as unknown as Form);
    await expect(inside(stub, () => {})).rejects.toThrow("Expected `destinations.default` to be absent beside sendMessages()");
  });
});
