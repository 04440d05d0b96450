/** What the platform may do and a local run does not: commits that take long, and alarms that are late at random or held back. The model has the same (`test/model/platform.test.ts`). */
import { expect, it } from "vitest";
import { type OutboxEvent, type OutboxOptions, withTransactionalOutbox } from "../../../src/index.ts";
import { type Backend, declared, drained, inside, native, onEitherBackend, type Stub, sent } from "../support/harness.ts";
import { Box, type BoxEnv, options } from "../support/worker.ts";

interface Platform {
  /** How much longer a commit takes, in milliseconds. */
  commitMs(): number;
  /** How much later than asked for an alarm is called, in milliseconds. */
  lateMs(): number;
}

/** An object on such a platform: its storage is made slower below the outbox. */
function boxOn(backend: Backend, { commitMs, lateMs }: Platform, chosen: OutboxOptions<"OUTBOX_MANAGER">): Stub {
  const Wrapped = withTransactionalOutbox(class extends Box {}, { ...options, ...chosen });
  return declared(
    backend,
    class extends Wrapped {
      constructor(ctx: DurableObjectState, env: BoxEnv) {
        const { storage } = ctx;
        const { put, delete: remove, setAlarm } = native(ctx);
        const slow =
          <A extends unknown[], R>(write: (...args: A) => Promise<R>) =>
          async (...args: A): Promise<R> => {
            const result = await write(...args);
            await scheduler.wait(commitMs());
            return result;
          };
        const late = (time: number | Date, ...rest: never[]) => setAlarm(Math.max(Number(time), Date.now()) + lateMs(), ...rest);
        for (const [name, value] of Object.entries({ put: slow(put), delete: slow(remove), setAlarm: late })) {
          Object.defineProperty(storage, name, { value, configurable: true, writable: true });
        }
        super(ctx, env);
      }
    },
  );
}

onEitherBackend("a platform", (backend) => {
  let seed = 1;
  const random = (): number => {
    seed = (seed * 16_807) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const PLATFORMS: Record<string, Platform> = {
    "whose commits take 5 to 50 ms": { commitMs: () => 5 + random() * 45, lateMs: () => 0 },
    "whose alarms are up to 1.5 s late": { commitMs: () => 0, lateMs: () => random() * 1500 },
    "on which both are so": { commitMs: () => 5 + random() * 45, lateMs: () => random() * 1500 },
    "that holds alarms back": { commitMs: () => 0, lateMs: () => 3_600_000 },
  };
  for (const [name, platform] of Object.entries(PLATFORMS))
    it.concurrent.each(["alarm", "immediate"] as const)(
      `${name} gets every message once, in order, without a failure (%s)`,
      async (dispatch) => {
        const told: OutboxEvent["type"][] = [];
        const stub = boxOn(backend, platform, { dispatch, onEvent: ({ type }) => void told.push(type) });
        // Some together, some while others are being delivered.
        for (let n = 0; n < 12; n++) {
          await inside(stub, (_, outbox) => Promise.all([0, 1, 2].map((each) => outbox.put(`k${each}`, n, 3 * n + each))));
          if (n % 6 === 5) await drained(stub);
        }
        expect(sent(stub).map(({ msg }) => msg)).toEqual(Array.from({ length: 36 }, (_, n) => n));
        // An alarm that is not where it was set is set again (`repaired`).
        expect(told.filter((type) => type !== "stored" && type !== "delivered" && type !== "repaired")).toEqual([]);
      },
    );
});
